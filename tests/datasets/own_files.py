"""Small datasets in files of any layout, with the same four images and five boxes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from detector.datasets.loading import load_splits
from detector.images.files import image_size
from tests.datasets.exports import draw_image

Box = tuple[str, float, float, float, float]

BOXES: dict[str, list[Box]] = {
    "a 1": [("nut", 10, 12, 30, 36)],
    "b": [("bolt", 30, 4, 54, 36), ("nut", 2, 2, 14, 18)],
    "c": [("bolt", 6, 8, 48, 38)],
    "d": [("nut", 20, 10, 50, 30)],
}
"""Objects by the stem of their image, of 60 x 40 pixels; corners 0-based and half-open. One name holds a space."""


def draw(folder: Path, names: Iterable[str] = BOXES, suffix: str = ".jpg") -> None:
    """Draw the images of some stems."""
    for name in names:
        draw_image(folder / f"{name}{suffix}")


def write_xml(folder: Path, names: Iterable[str] = BOXES, head: str = "", encoding: str = "utf-8") -> None:
    """Write VOC's annotations, with corners from 1."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        objects = "".join(
            f"<object><name>{label}</name><bndbox><xmin>{x1 + 1:g}</xmin><ymin>{y1 + 1:g}</ymin>"
            f"<xmax>{x2:g}</xmax><ymax>{y2:g}</ymax></bndbox></object>"
            for label, x1, y1, x2, y2 in BOXES[name]
        )
        text = f"{head}<annotation><filename>{name}.jpg</filename>{objects}</annotation>"
        (folder / f"{name}.xml").write_bytes(text.encode(encoding))


def write_labels(folder: Path, names: Iterable[str] = BOXES) -> None:
    """Write YOLO's labels; class 0 is the nut."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        lines = (
            f"{('nut', 'bolt').index(label)} {(x1 + x2) / 120} {(y1 + y2) / 80} {(x2 - x1) / 60} {(y2 - y1) / 40}\n"
            for label, x1, y1, x2, y2 in BOXES[name]
        )
        (folder / f"{name}.txt").write_text("".join(lines))


def read(root: Path, log: list[str] | None = None) -> dict[str, dict[str, list[Box]]]:
    """Return the objects of all images by split and stem; any issue is an error."""
    found: dict[str, dict[str, list[Box]]] = {}
    for split, dataset in load_splits(root, log=(log if log is not None else []).append).items():
        for each in dataset:
            assert image_size(each.path) == (40, 60)
            corners = [[round(float(corner), 3) for corner in box] for box in each.boxes]
            objects = [
                (dataset.class_names[label], x1, y1, x2, y2)
                for label, (x1, y1, x2, y2) in zip(each.labels, corners, strict=True)
            ]
            found.setdefault(split, {})[each.path.stem] = objects
    return found


def expected(**splits: str) -> dict[str, dict[str, list[Box]]]:
    """Return what `read` must return for splits given as the first letters of their images; ``all``: no split."""
    stems = {name[0]: name for name in BOXES}
    return {
        "" if split == "all" else split: {stems[letter]: BOXES[stems[letter]] for letter in letters}
        for split, letters in splits.items()
    }
