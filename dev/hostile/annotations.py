"""Data sets whose annotations are false, damaged, or point elsewhere: VOC, COCO, YOLO; foreign boxes and results."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from dev.hostile.case import Case, Rng, choices, damaged, put
from dev.hostile.images import encoded

NUMBERS = [
    "nan",
    "inf",
    "-inf",
    "1e308",
    "-1",
    "0",
    "1e-300",
    "99999999999999999999",
    "",
    "one",
    "0x10",
    "\u0661",
    "1,5",
    "null",
]
NAMES = [
    "",
    " ",
    "../../etc/passwd",
    "/etc/passwd",
    "a\nb",
    "\t",
    "dog\0cat",
    "=1+1",
    "x" * 5000,
    "<b>",
    "\u202e",
    "\u72ac",
    "-",
]
ENTITIES = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


def annotation_cases(rng: Rng, times: int) -> Iterator[Case]:
    for kind, make, count in (("VOC: XML", _voc, 60), ("COCO: JSON", _coco, 36), ("YOLO: labels", _yolo, 24)):
        for _ in range(count * times):
            files, words, named = make(rng)
            yield Case(kind, "data", ("check", *words, "--no-forecast"), put(files), named)
    for name in choices(rng, ["comp4", "coco"], 24 * times):
        yield _results(name, rng)
    for name in choices(rng, ["npz", "json", "mat"], 24 * times):
        yield _boxes(name, rng)


def _xml(rng: Rng) -> bytes:
    corners = dict(zip(("xmin", "ymin", "xmax", "ymax"), ("5", "6", "40", "50"), strict=True))
    name, difficult, head, size = "dog", "0", "", "<size><width>90</width><height>60</height><depth>3</depth></size>"
    what = int(rng.integers(9))
    if what == 0:
        corners[str(rng.choice(list(corners)))] = str(rng.choice(NUMBERS))
    elif what == 1:
        name = str(rng.choice(NAMES)).replace("<", "&lt;").replace("\0", "")
    elif what == 2:
        difficult = str(rng.choice(NUMBERS))
    elif what == 3:
        head, name = str(rng.choice([ENTITIES, OUTSIDE])), "&b;" if rng.integers(2) else "&a;"
    elif what == 4:
        size = f"<size><width>{rng.choice(NUMBERS)}</width></size>"
    elif what == 5:
        return b"<annotation>" + b"<object>" * 50_000
    box = "".join(f"<{tag}>{text}</{tag}>" for tag, text in corners.items())
    text = f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{box}</bndbox></object>"
    text = f"{head}<annotation><filename>a.jpg</filename>{size}{text}</annotation>"
    if what == 6:
        return text.encode(str(rng.choice(["utf-16", "utf-32", "cp037"])))
    if what == 7:
        return (
            b'<?xml version="1.0" encoding="'
            + str(rng.choice(["x", "utf-7", "rot13"])).encode()
            + b'"?>'
            + text.encode()
        )
    return damaged(text.encode(), rng) if what == 8 else text.encode("utf-8", "replace")


def _voc(rng: Rng) -> tuple[dict[str, bytes], tuple[str, ...], str]:
    files = {"JPEGImages/a.jpg": encoded("JPEG"), "Annotations/a.xml": _xml(rng), "ImageSets/Main/train.txt": b"a\n"}
    if rng.integers(4) == 0:
        files["ImageSets/Main/train.txt"] = str(rng.choice(["../../a", "a\na", "", "\0", "\xff", "b"])).encode(
            "latin-1"
        )
    return {f"voc/{name}": data for name, data in files.items()}, ("voc",), "voc"


def _spoiled(content: Any, rng: Rng, values: list[Any]) -> Any:
    """Replace or delete one value of the content, at any depth."""
    if isinstance(content, dict | list) and content and rng.integers(8):
        keys: list[Any] = list(content) if isinstance(content, dict) else list(range(len(content)))
        key = keys[int(rng.integers(len(keys)))]
        copy: Any = dict(content) if isinstance(content, dict) else list(content)
        if rng.integers(10) == 0:
            del copy[key]
        else:
            copy[key] = _spoiled(content[key], rng, values)
        return copy
    return values[int(rng.integers(len(values)))]


def _coco(rng: Rng) -> tuple[dict[str, bytes], tuple[str, ...], str]:
    content: Any = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 90, "height": 60}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 6, 30, 40], "iscrowd": 0}],
        "categories": [{"id": 1, "name": "dog"}],
    }
    values: list[Any] = [None, True, -1, 10**30, 1e308, float("nan"), "x", [], {}, [[[]]], *NAMES]
    data = json.dumps(_spoiled(content, rng, values)).encode()
    if rng.integers(4) == 0:
        data = damaged(data, rng)
    if rng.integers(12) == 0:
        data = b"[" * 50_000
    return {"a.jpg": encoded("JPEG"), "c.json": data}, ("c.json",), "c.json"


def _yolo(rng: Rng) -> tuple[dict[str, bytes], tuple[str, ...], str]:
    fields = ["0", "0.5", "0.5", "0.2", "0.3"]
    fields[int(rng.integers(5))] = str(rng.choice(NUMBERS))
    line = " ".join(fields[: int(rng.choice([5, 5, 5, 3, 0]))]).encode()
    description = b"train: images\nval: images\nnames: {0: dog}\n"
    what = int(rng.integers(6))
    if what == 0:
        description = damaged(description, rng)
    elif what == 1:
        description = b"a: &a [x,x]\nb: &b [*a,*a]\nnames: *b\n" if rng.integers(2) else b"names: " + b"[" * 50_000
    elif what == 2:
        description = f"train: {rng.choice(['/etc', '../..', '~', 'https://example.org'])}\nnames: [dog]\n".encode()
    elif what == 3:
        line = damaged(line + b"\n", rng)
    files = {"images/a.jpg": encoded("JPEG"), "labels/a.txt": line + b"\n", "data.yaml": description}
    return {f"yolo/{name}": data for name, data in files.items()}, ("yolo",), "yolo"


def sound_voc() -> dict[str, bytes]:
    """Return the files of a valid VOC folder ``voc``."""
    box = "<bndbox><xmin>5</xmin><ymin>6</ymin><xmax>40</xmax><ymax>50</ymax></bndbox>"
    xml = f"<annotation><object><name>dog</name><difficult>0</difficult>{box}</object></annotation>"
    return {
        "voc/JPEGImages/a.jpg": encoded("JPEG"),
        "voc/Annotations/a.xml": xml.encode(),
        "voc/ImageSets/Main/train.txt": b"a\n",
    }


def _results(form: str, rng: Rng) -> Case:
    """Return a case of detections that another program wrote."""
    files = sound_voc()
    data = ("--voc", "voc", "--split", "train")
    if form == "comp4":
        fields = ["a", "0.5", "5", "6", "40", "50"]
        fields[int(rng.integers(6))] = str(rng.choice(NUMBERS))
        text = (" ".join(fields) + "\n").encode()
        files["found/comp4_det_train_dog.txt"] = damaged(text, rng) if rng.integers(3) == 0 else text
        return Case("results of others", "evaluate", (*data, "--detections", "found"), put(files), "found")
    content = [{"image_id": "a", "category_id": 1, "bbox": [5, 6, 30, 40], "score": 0.5}]
    values: list[Any] = [None, True, -1, 10**400, float("nan"), "x", [], {}]
    text = json.dumps(_spoiled(content, rng, values)).encode() if rng.integers(8) else b"[" * 50_000
    files["found.json"] = damaged(text, rng) if rng.integers(3) == 0 else text
    return Case("results of others", "report", ("found.json", *data, "--output", "report"), put(files), "found.json")


def _boxes(form: str, rng: Rng) -> Case:
    """Return a case of proposals that another program wrote."""
    file = io.BytesIO()
    if form == "json":
        content = {"a": [[0, 0, 40, 50], [1, 2, 30, 40]]}
        values: list[Any] = [None, "x", -1, 1e308, float("nan"), [], {}, [[1]], 10**400]
        data = json.dumps(_spoiled(content, rng, values)).encode() if rng.integers(8) else b"[" * 50_000
    elif form == "npz":
        shapes = [(3, 4), (2, 3), (0, 4), (4,), (1, 1, 4)]
        np.savez(file, a=np.full(shapes[int(rng.integers(5))], rng.choice([1.0, np.nan, 1e38])))
        data = file.getvalue()
        if rng.integers(3) == 0:
            data = data.replace(b"(3, 4), }" + b" " * 9, b"(999999999999, 4), }"[:18]).replace(b"(2, 3)", b"(9, 9)")
    else:
        import scipy.io

        cells = np.empty((1, 2), object)
        cells[0, :] = ["a", "b"]
        scipy.io.savemat(file, {"images": cells, "boxes": cells if rng.integers(4) == 0 else _mat_boxes()})
        data = file.getvalue()
    if rng.integers(3):
        data = damaged(data, rng)
    files = {**sound_voc(), f"boxes.{form}": data}
    words = ("--voc", "voc", "--split", "train", "--metric", "area", "--detections", "found", "--report", "report")
    files["found/comp4_det_train_dog.txt"] = b"a 0.5 5 6 40 50\n"
    named = f"boxes.{form}"
    return Case("boxes of others", "evaluate", (*words, "--proposals", named), put(files), named)


def _mat_boxes() -> Any:
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = np.array([[1, 3, 37, 50]], np.uint16), np.zeros((0, 4))
    return cells
