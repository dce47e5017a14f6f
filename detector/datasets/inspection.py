"""Statistics of a dataset, and annotations that can be read but are probably mistakes."""

import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detector.boxes import area, iou
from detector.datasets.dataset import Annotation, Dataset, Object
from detector.datasets.issues import Issue, IssueKind
from detector.images.decoding import ImageHeader

SMALL, LARGE = 32.0**2, 96.0**2  # square pixels, as COCO counts
_TINY_SIDE = 5.0  # pixels: a stray click
_WHOLE = 0.98  # of the image's area
_DUPLICATE_IOU = 0.9
_MIN_PLURAL = 3  # letters: bus is no plural
_INVISIBLE = ("Cc", "Cf")  # categories of control and format characters, such as zero-width spaces


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


def similar_class_names(class_names: Sequence[str], source: str) -> list[Issue]:
    """Return an issue for each set of names that differ only in case, spaces, hyphens, invisible letters or an s."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in class_names:
        alike[_plain(name)].append(name)
    return [
        Issue(IssueKind.SIMILAR_CLASSES, f"{source}: classes {', '.join(map(ascii, names))} may be one")
        for names in alike.values()
        if len(names) > 1
    ]


def _plain(name: str) -> str:
    visible = (letter for letter in name if unicodedata.category(letter) not in _INVISIBLE)
    plain = unicodedata.normalize("NFKC", "".join(visible)).casefold()
    plain = "".join(letter for letter in plain if letter not in " _-") or plain
    return plain.removesuffix("s") if len(plain) > _MIN_PLURAL else plain


def shared_scenes(splits: Mapping[str, Sequence[Annotation]], scenes: Sequence[int]) -> list[Issue]:
    """Return an issue for each scene with images in several splits.

    scenes: the scene of each image, of one split after the other.
    """
    members: dict[int, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    images = ((split, each) for split, own in splits.items() for each in own)
    for (split, each), scene in zip(images, scenes, strict=True):
        members[scene][split].append(each.path)
    found = []
    for parts in members.values():
        if len(parts) > 1:
            counts = ", ".join(f"{len(paths)} in {split}" for split, paths in parts.items())
            (one, *_), (two, *_) = [*parts.values()][:2]
            found.append(Issue(IssueKind.SHARED_SCENE, f"{one}: looks like {two}; images of this scene: {counts}"))
    return found
