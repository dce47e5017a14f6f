"""Read and write the devkit's result files comp4_det_<split>_<class>.txt, one detection per line.

A line is ``image_id score x1 y1 x2 y2``; corners are 1-based and inclusive (see `detector.boxes.to_one_based`).
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np

from detector.boxes import from_one_based, to_one_based
from detector.detections import Detections
from detector.evaluation.outcomes import ClassDetections
from detector.runtime.files import replacing

_MAX_WARNINGS = 20
_MAX_CORNER = 1e9
"""Bound that NaN does not satisfy: areas fit into float32."""
_log = logging.getLogger(__name__)


def write_detections(
    directory: Path | str, split: str, image_ids: Sequence[str], detections: Sequence[Detections]
) -> None:
    """Write one file per class, including classes without detections, image by image and best first.

    Numbers are written in full, so that reading them back gives equal values. A missing directory is created. Raises
    ValueError when there is not one Detections per image, when they differ in class names, and for names that such
    files cannot hold.
    """
    if not detections or len(image_ids) != len(detections):
        raise ValueError(f"detections must be one for each of {len(image_ids)} images, but got {len(detections)}")
    class_names = detections[0].class_names
    if any(each.class_names != class_names for each in detections):
        raise ValueError("detections must share their class names")
    check_image_ids(image_ids)
    paths = [Path(directory) / name for name in file_names(split, class_names)]
    Path(directory).mkdir(parents=True, exist_ok=True)
    lines: list[list[str]] = [[] for _ in class_names]
    for image_id, each in zip(image_ids, detections, strict=True):
        corners = to_one_based(each.boxes).tolist()
        for label, score, (x1, y1, x2, y2) in zip(each.labels, each.scores, corners, strict=True):
            lines[label].append(f"{image_id} {score!s} {x1!r} {y1!r} {x2!r} {y2!r}\n")
    for path, of_class in zip(paths, lines, strict=True):
        with replacing(path) as temporary:
            temporary.write_text("".join(of_class), encoding="utf-8")


def check_image_ids(image_ids: Iterable[str]) -> None:
    """Raise ValueError for an image id that `write_detections` cannot write."""
    for image_id in image_ids:
        if image_id.split() != [image_id]:
            raise ValueError(f"image ids must not contain whitespace, but got {image_id!r}")


def read_detections(
    directory: Path | str, split: str, class_names: Sequence[str], image_ids: Collection[str] | None = None
) -> dict[str, ClassDetections]:
    """Read the files of the named classes.

    A class whose file is missing has no detections, because many programs write no empty files; its AP is
    then 0. A box that ends before it starts, or before the first pixel of its image, can overlap no object: it is
    kept as a false detection, with a warning that names file and line, for the first 20 of such lines. Raises
    FileNotFoundError when the directory or all files are missing, and ValueError, with file and line, for a line
    that is not an image id, one of ``image_ids`` if given, and five numbers.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory}: no such folder")
    paths = {name: directory / file for name, file in zip(class_names, file_names(split, class_names), strict=True)}
    if not any(path.is_file() for path in paths.values()):
        raise FileNotFoundError(f"{directory}: no file comp4_det_{split}_<class>.txt of a class to evaluate")
    invalid: list[str] = []
    known = None if image_ids is None else frozenset(image_ids)
    found = {name: _read_file(path, invalid, known) for name, path in paths.items() if path.is_file()}
    for line in invalid[:_MAX_WARNINGS]:
        _log.warning("%s; counted as a false detection", line)
    if len(invalid) > _MAX_WARNINGS:
        _log.warning("%d more such lines", len(invalid) - _MAX_WARNINGS)
    return found


def file_names(split: str, class_names: Iterable[str]) -> list[str]:
    """Return the file name of each class. Raises ValueError for a name that no file can have."""
    names = []
    for class_name in class_names:
        names.append(name := f"comp4_det_{split}_{class_name}.txt")
        if Path(name).name != name or "\0" in name or len(os.fsencode(name)) > 255:
            raise ValueError(f"split and class names must fit in a file name, but got {split!r} and {class_name!r}")
    return names


def _read_file(path: Path, invalid: list[str], known: frozenset[str] | None) -> ClassDetections:
    image_ids: list[str] = []
    rows: list[list[float]] = []
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            fields = line.split()
            if not fields:
                continue
            try:
                rows.append(_parse(fields))
            except ValueError as error:
                raise ValueError(f"{path}:{number}: {error}") from error
            if known is not None and fields[0] not in known:
                raise ValueError(f"{path}:{number}: image {fields[0]!r} is not one of the {len(known)} evaluated")
            image_ids.append(fields[0])
            if problem := _box_problem(rows[-1]):
                invalid.append(f"{path}:{number}: {problem}, but got {' '.join(fields[2:])}")
    numbers = np.array(rows, np.float64).reshape(-1, 5)
    boxes = from_one_based(numbers[:, 1:])
    # a box that ends before it starts, also by the devkit's rule, has no area
    swapped = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    boxes[swapped, 2:] = boxes[swapped, :2]
    return ClassDetections(image_ids, boxes.astype(np.float32), numbers[:, 0])


def _parse(fields: list[str]) -> list[float]:
    if len(fields) != 6:
        raise ValueError(f"a line must have 6 columns, image_id score x1 y1 x2 y2, but got {len(fields)}")
    numbers = [float(field) for field in fields[1:]]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"numbers must be finite, but got {' '.join(fields[1:])}")
    if not all(abs(corner) <= _MAX_CORNER for corner in numbers[1:]):
        raise ValueError(f"corners must be -1e9 to 1e9, but got {' '.join(fields[2:])}")
    return numbers


def _box_problem(numbers: list[float]) -> str | None:
    """Return the reason why a box can overlap no object, if any."""
    # inclusive corners of a box less than a pixel wide cross in the file, by less than 1
    x1, y1, x2, y2 = from_one_based(numbers[1:])
    if x2 < x1 or y2 < y1:
        return "a box must have x1 <= x2 and y1 <= y2"
    if x2 <= 0 or y2 <= 0:
        return "a box must lie in its image, which begins at 1 1"
    return None
