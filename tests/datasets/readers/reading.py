"""Read a small dataset of given files, with images of 60 x 40 pixels beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from detector.datasets.issues import Issue
from detector.datasets.loading import load_splits
from tests.datasets.exports import draw_image

Objects = list[tuple[str, list[float]]]


class Read(NamedTuple):
    """Class and box of the objects of each image by split, the issues without the folder, and the lines of the log."""

    splits: dict[str, dict[str, Objects]]
    issues: list[Issue]
    log: list[str]


def read(folder: Path, files: Mapping[str, object], images: Sequence[str] = ("a.jpg",)) -> Read:
    """Write ``files``, texts, bytes or content of JSON files, with ``images`` to a folder, and read it."""
    root = folder / "data"
    for name in images:
        draw_image(root / name)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    issues: list[Issue] = []
    log: list[str] = []
    splits = {
        split: {
            each.image_id: [
                (dataset.class_names[label], [round(corner, 4) for corner in box])
                for label, box in zip(each.labels, each.boxes.tolist(), strict=True)
            ]
            for each in dataset
        }
        for split, dataset in load_splits(root, report=issues.append, log=log.append).items()
    }
    return Read(
        splits, [Issue(each.kind, each.line.replace(f"{root}/", "").replace(str(root), "data")) for each in issues], log
    )
