"""Write the detections of all images to one file as they come: JSON, JSON Lines, CSV, COCO.

Each context manager yields a function to call with the record of each image::

    {"image": path, "width": int, "height": int, "detections": Detections.to_records()}

The file appears whole when the block succeeds. Memory does not grow with the number of images.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TextIO

from detector.datasets.writing import coco_categories, coco_object
from detector.runtime.files import replacing


@contextmanager
def whole_text(path: Path) -> Iterator[TextIO]:
    """Yield a text file to write to; it appears under its name, with its folder, when the block succeeds.

    ``-`` is standard output. File names that are not UTF-8 are written as their bytes.
    """
    if str(path) == "-":
        with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
            yield file
            file.seek(0)
            shutil.copyfileobj(file, sys.stdout)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", errors="surrogateescape") as file:
        yield file


@contextmanager
def json_array(path: Path) -> Iterator[Callable[[Any], None]]:
    """Write a JSON array, as ``json.dumps(records, indent=2)`` does."""
    empty = True

    def add(record: Any) -> None:
        nonlocal empty
        text = json.dumps(record, indent=2).replace("\n", "\n  ")
        file.write(f"{'[' if empty else ','}\n  {text}")
        empty = False

    with whole_text(path) as file:
        yield add
        file.write("[]\n" if empty else "\n]\n")


Add = Callable[[Mapping[str, Any]], None]

CSV_COLUMNS = ("image", "width", "height", "label", "probability", "score", "x1", "y1", "x2", "y2")


@contextmanager
def json_lines(path: Path) -> Iterator[Add]:
    """Write JSON Lines: one object for each image."""
    with whole_text(path) as file:
        yield lambda record: print(json.dumps(record), file=file)


@contextmanager
def csv_table(path: Path, more: Sequence[str] = ()) -> Iterator[Add]:
    """Write a header and a row for each detection; without calibration, probabilities are empty.

    more: further keys of the records, which are the last columns.
    """

    def add(record: Mapping[str, Any]) -> None:
        start = [record["image"], record["width"], record["height"]]
        end = [record[name] for name in more]
        for each in record["detections"]:
            rows.writerow([*start, each["label"], each.get("probability", ""), each["score"], *each["box"], *end])

    with whole_text(path) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow((*CSV_COLUMNS, *more))
        yield add


@contextmanager
def coco_file(path: Path, class_names: Sequence[str]) -> Iterator[Add]:
    """Write a COCO dataset with ids from 1, whose annotations have scores and, with a calibration, probabilities.

    class_names: the categories; the sequence may grow until the end.
    """
    n_images = n_objects = 0

    def add(record: Mapping[str, Any]) -> None:
        nonlocal n_images, n_objects
        n_images += 1
        image = {"id": n_images, "file_name": record["image"], "width": record["width"], "height": record["height"]}
        file.write(f"{',' if n_images > 1 else ''}\n{json.dumps(image)}")
        for each in record["detections"]:
            n_objects += 1
            row = coco_object(n_objects, n_images, class_names.index(each["label"]), each["box"])
            row |= {name: each[name] for name in ("score", "probability") if name in each}
            objects.write(f"{',' if n_objects > 1 else ''}\n{json.dumps(row)}")

    with whole_text(path) as file, tempfile.TemporaryFile("w+", encoding="utf-8") as objects:
        file.write('{"images": [')
        yield add
        file.write('\n],\n"annotations": [')
        objects.seek(0)
        shutil.copyfileobj(objects, file)
        file.write(f'\n],\n"categories": {json.dumps(coco_categories(class_names))}}}\n')


STREAMS: Mapping[str, tuple[str, Callable[[Path, Sequence[str]], AbstractContextManager[Add]]]] = {
    "json": ("detections.json", lambda path, class_names: json_array(path)),
    "jsonl": ("detections.jsonl", lambda path, class_names: json_lines(path)),
    "csv": ("detections.csv", lambda path, class_names: csv_table(path)),
    "coco": ("coco.json", coco_file),
}
"""Name of the file in the folder of results and its writer, by format."""
