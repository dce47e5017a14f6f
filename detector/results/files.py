"""Files of one image: labels in the forms of VOC and YOLO, crops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.boxes import clip
from detector.datasets.voc import annotation_xml
from detector.datasets.writing import class_list
from detector.detections import Detections
from detector.images.files import write_image
from detector.results.names import ResultFolder, folder_name
from detector.runtime.json_stream import whole_text


def write_voc(path: Path, image_path: Path, image: NDArray[np.uint8], found: Detections) -> None:
    """An annotation of VOC, corners 1-based and inclusive, to a hundredth of a pixel."""
    height, width = image.shape[:2]
    boxes = np.round(clip(found.boxes, height, width).astype(float), 2)
    names = [each.class_name for each in found]
    with whole_text(path) as file:
        file.write(annotation_xml(image_path.name, (height, width), names, boxes, [False] * len(found)))


def write_yolo(path: Path, image: NDArray[np.uint8], found: Detections) -> None:
    """A line ``class x y width height`` a detection: centre and sides as parts of the image. None: an empty file."""
    height, width = image.shape[:2]
    boxes = clip(found.boxes, height, width).astype(float) / [width, height, width, height]
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    with whole_text(path) as file:
        for label, (x, y), (w, h) in zip(found.labels, centres, sides, strict=True):
            print(f"{label} {x:.6f} {y:.6f} {w:.6f} {h:.6f}", file=file)


def write_class_names(path: Path, class_names: Sequence[str]) -> None:
    """The names of the classes of YOLO's lines, one a line, in the order of their labels."""
    with whole_text(path) as file:
        file.write(class_list(class_names))


def write_crops(folder: ResultFolder, stem: str, suffix: str, image: NDArray[np.uint8], found: Detections) -> None:
    """What is in every box as an image of its own, in a folder for each class; best first."""
    height, width = image.shape[:2]
    for each, box in zip(found, clip(found.boxes, height, width), strict=True):
        x1, y1 = np.floor(box[:2]).astype(int)
        x2, y2 = np.ceil(box[2:]).astype(int)
        if x2 > x1 and y2 > y1:
            (path,) = folder.numbered(stem, [f"crops/{folder_name(each.class_name)}/*{suffix}"])
            write_image(path, np.ascontiguousarray(image[y1:y2, x1:x2]))
