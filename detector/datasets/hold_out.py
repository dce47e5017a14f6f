"""Hold out a part of a dataset, so that every class stays in training and no scene is on both sides."""

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.scenes import scenes

_NO_OBJECT = -1  # stands for the class of images without objects
_log = logging.getLogger(__name__)


class _Part(NamedTuple):
    """Images that are held out together, and the number of them with each class."""

    ids: frozenset[str]
    counts: Counter[int]


def hold_out(dataset: Dataset, fraction: float, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Return the images to train on and those held out, about ``fraction`` of all and of each class.

    Images of one scene, see `scenes`, stay on one side, so fewer may be held out where scenes are large. If that leaves
    none, single images are drawn, with a warning. Images are drawn by a hash of their ids, so the choice depends
    neither on their order nor much on images added later. A class in two images or more keeps one to train on. Raises
    ValueError for a fraction that is not between 0 and 1, and where no image can be held out.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the part to hold out must be between 0 and 1, but is {fraction:g}")
    order = sorted(dataset, key=lambda each: hashlib.sha256(f"{seed} {each.image_id}".encode()).digest())
    wanted = max(1, round(fraction * len(order)))
    groups: dict[int, list[Annotation]] = defaultdict(list)
    for each, scene in zip(order, scenes(order).tolist(), strict=True):
        groups[scene].append(each)
    parts = [_part(images) for images in groups.values()]
    drawn = _draw(parts, wanted, fraction)
    if not drawn and len(parts) < len(order):
        drawn = _draw([_part([each]) for each in order], wanted, fraction)
        if drawn:
            _log.warning(
                "%s: no whole scene of its %d images can be held out, so training shows scenes of the held-out images, "
                "and scores on them are too high; add images of other scenes",
                *(dataset.name, len(order)),
            )
    if not drawn:
        raise ValueError(f"{dataset.name}: none of the {len(dataset)} images can be held out; label some more")
    train = [each for each in dataset if each.image_id not in drawn]
    held_out = [each for each in dataset if each.image_id in drawn]
    return dataset.subset(train, f"{dataset.name} train"), dataset.subset(held_out, f"{dataset.name} val")


def _part(images: Sequence[Annotation]) -> _Part:
    counts = Counter(kind for each in images for kind in set(each.labels.tolist()) or {_NO_OBJECT})
    return _Part(frozenset(each.image_id for each in images), counts)


def _draw(parts: Sequence[_Part], wanted: int, fraction: float) -> set[str]:
    """Return the ids of the images to hold out, at most ``wanted``.

    Parts are taken in order: first those whose rarest class still lacks some, then any.
    """
    total: Counter[int] = Counter()
    for part in parts:
        total.update(part.counts)
    held: Counter[int] = Counter()
    drawn: set[str] = set()
    for by_class in (True, False):
        for part in parts:
            rarest = min(part.counts, key=lambda kind: (total[kind], kind))
            lacking = held[rarest] + part.counts[rarest] <= round(fraction * total[rarest])
            leaves_one = all(total[kind] - held[kind] > count for kind, count in part.counts.items())
            fits = len(drawn) + len(part.ids) <= wanted and not part.ids & drawn
            if fits and leaves_one and (lacking or not by_class):
                drawn |= part.ids
                held.update(part.counts)
    return drawn
