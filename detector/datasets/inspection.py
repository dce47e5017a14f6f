"""Statistics of a dataset, and annotations that can be read but are probably mistakes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.boxes import area, iou
from detector.datasets.dataset import Dataset, Object
from detector.datasets.issues import Issue, IssueKind
from detector.images.decoding import ImageHeader

SMALL, LARGE = 32.0**2, 96.0**2  # square pixels, as COCO counts
_TINY_SIDE = 5.0  # pixels: a stray click
_WHOLE = 0.98  # of the image's area
_DUPLICATE_IOU = 0.9
_HASH_SIDE = 16
NEAR_DUPLICATE_BITS = 28
"""Maximum number of bits in which the hashes of near-duplicate images differ.

Of VOC2007, copies of 0.6 times the size and JPEG quality 60 differ in at most 18 bits in 95 cases of 100, brighter ones
in 17; any two of 600 different images differ in 48 bits or more.
"""


@dataclass
class ClassCounts:
    """Number of images and of objects of a class, by COCO's sizes, difficult ones included."""

    images: int = 0
    objects: int = 0
    small: int = 0
    medium: int = 0
    large: int = 0
    difficult: int = 0


def count_classes(dataset: Dataset) -> dict[str, ClassCounts]:
    """Return the `ClassCounts` of each class, in the order of the classes."""
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


def suspicious_boxes(objects: Sequence[Object], header: ImageHeader) -> list[Issue]:
    """Return issues of boxes that are probably wrong: tiny, as large as the image, or drawn twice."""
    boxes = np.array([each.box for each in objects], np.float32).reshape(-1, 4)
    found = []
    for each, (x1, y1, x2, y2) in zip(objects, boxes.tolist(), strict=True):
        what = f"{each.source}: {each.class_name}"
        if min(x2 - x1, y2 - y1) < _TINY_SIDE:
            found.append(Issue(IssueKind.TINY_BOX, f"{what} has {x2 - x1:g} x {y2 - y1:g} pixels"))
        elif (x2 - x1) * (y2 - y1) >= _WHOLE * header.width * header.height:
            found.append(Issue(IssueKind.WHOLE_IMAGE, f"{what} is as large as the image"))
    overlaps = iou(boxes, boxes)
    for second, first in np.argwhere(np.tril(overlaps, -1) >= _DUPLICATE_IOU):
        one, two = objects[first], objects[second]
        if one.class_name == two.class_name:
            line = f"{two.source}: {two.class_name} covers {one.source.rpartition(': ')[2]} of the same class"
            found.append(Issue(IssueKind.DUPLICATE_BOX, line))
    return found


def perceptual_hash(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the difference hash of an ``(H, W, 3)`` uint8 RGB image, ``(32,)`` uint8: 256 bits.

    A bit is set where one of 16 x 16 fields is brighter than its left neighbor: N. Krawetz, "Kind of like that" (2013).
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    fields = cv2.resize(gray, (_HASH_SIDE + 1, _HASH_SIDE), interpolation=cv2.INTER_AREA).astype(np.int16)
    return np.packbits(fields[:, 1:] > fields[:, :-1])


def near_duplicates(
    hashes: Mapping[str, Sequence[tuple[Path, NDArray[np.uint8]]]], max_distance: int = NEAR_DUPLICATE_BITS
) -> list[Issue]:
    """Return an issue for each pair of similar images in different splits.

    hashes: images of each split with their `perceptual_hash`. max_distance: number of bits in which two may differ.
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
                    found.append(Issue(IssueKind.NEAR_DUPLICATE, line))
    return found
