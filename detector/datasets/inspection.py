"""What a data set is like, and what in it is probably a mistake although it can be read."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.boxes import area, iou
from detector.datasets.dataset import Dataset, Fault, Kind, Object
from detector.images.decoding import ImageHeader

SMALL, LARGE = 32.0**2, 96.0**2  # square pixels, as COCO counts
_TINY_SIDE = 5.0  # pixels: a stray click
_WHOLE = 0.98  # of the image's area
_DOUBLED_IOU = 0.9


@dataclass
class ClassCounts:
    """How many images and objects of a class there are, by COCO's sizes; difficult ones count in each."""

    images: int = 0
    objects: int = 0
    small: int = 0
    medium: int = 0
    large: int = 0
    difficult: int = 0


def count_classes(dataset: Dataset) -> dict[str, ClassCounts]:
    """`ClassCounts` of each class, in the order of the classes; areas are those of boxes in pixels of the image."""
    counts: dict[str, ClassCounts] = defaultdict(ClassCounts)
    for each in dataset:
        sizes = area(each.boxes)
        for label in np.unique(each.labels):
            rows, own = each.labels == label, counts[dataset.class_names[label]]
            own.images += 1
            own.objects += int(rows.sum())
            own.small += int((sizes[rows] < SMALL).sum())
            own.large += int((sizes[rows] >= LARGE).sum())
            own.difficult += int(each.difficult[rows].sum())
            own.medium = own.objects - own.small - own.large
    return {name: counts[name] for name in dataset.class_names}


def suspicions(objects: Sequence[Object], header: ImageHeader) -> list[Fault]:
    """Boxes of an image that are probably wrong: tiny, as large as the image, drawn twice."""
    boxes = np.array([each.box for each in objects], np.float32).reshape(-1, 4)
    found = []
    for each, (x1, y1, x2, y2) in zip(objects, boxes.tolist(), strict=True):
        what = f"{each.source}: {each.class_name}"
        if min(x2 - x1, y2 - y1) < _TINY_SIDE:
            found.append(Fault(Kind.TINY_BOX, f"{what} has {x2 - x1:g} x {y2 - y1:g} pixels"))
        elif (x2 - x1) * (y2 - y1) >= _WHOLE * header.width * header.height:
            found.append(Fault(Kind.WHOLE_IMAGE, f"{what} is as large as the image"))
    overlaps = iou(boxes, boxes)
    for second, first in np.argwhere(np.tril(overlaps, -1) >= _DOUBLED_IOU):
        one, two = objects[first], objects[second]
        if one.class_name == two.class_name:
            line = f"{two.source}: {two.class_name} covers {one.source.rpartition(': ')[2]} of the same class"
            found.append(Fault(Kind.DOUBLED_BOX, line))
    return found


def near_duplicates(hashes: Mapping[str, Sequence[tuple[Path, NDArray[np.uint8]]]], max_distance: int) -> list[Fault]:
    """Pairs of images in different splits that look alike.

    hashes: by split, the images and their `look` each. max_distance: how many bits of two may differ.
    """
    found = []
    splits = list(hashes)
    for number, one in enumerate(splits):
        for two in splits[number + 1 :]:
            if not hashes[one] or not hashes[two]:
                continue
            others = np.stack([bits for _, bits in hashes[two]])
            for path, bits in hashes[one]:
                distances = np.bitwise_count(others ^ bits).sum(axis=1)
                for index in np.flatnonzero(distances <= max_distance).tolist():
                    line = f"{path} ({one}) looks like {hashes[two][index][0]} ({two})"
                    found.append(Fault(Kind.NEAR_DUPLICATE, line))
    return found
