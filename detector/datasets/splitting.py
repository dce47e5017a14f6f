"""Hold out a part of a data set whose owner has not: the same images every time, written down as lists."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from detector.datasets.assembling import renamed
from detector.datasets.dataset import Annotation, Dataset
from detector.runtime.files import replacing

_NO_OBJECT = -1


def hold_out(dataset: Dataset, fraction: float, seed: int = 0) -> tuple[Dataset, Dataset]:
    """The images to learn from and those held out, about ``fraction`` of all and of each class.

    Images are drawn by a hash of their names, so that the choice does not change with their order and hardly with
    images that are added. A class in two images or more keeps one to learn from. Raises ValueError for a fraction that
    is not between 0 and 1, and where no image can be held out.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the part to hold out must be between 0 and 1, but is {fraction:g}")
    order = sorted(dataset, key=lambda each: hashlib.sha256(f"{seed} {each.image_id}".encode()).digest())
    chosen = _chosen(order, max(1, round(fraction * len(order))), fraction)
    if not chosen:
        raise ValueError(f"{dataset.name}: none of the {len(dataset)} images can be held out; label some more")
    train = [each for each in dataset if each.image_id not in chosen]
    held_out = [each for each in dataset if each.image_id in chosen]
    return renamed(dataset, f"{dataset.name} train", train), renamed(dataset, f"{dataset.name} val", held_out)


def _chosen(order: list[Annotation], wanted: int, fraction: float) -> set[str]:
    """Ids of the images to hold out: first those that a class still lacks there, then any, in order."""
    kinds = {each.image_id: set(each.labels.tolist()) or {_NO_OBJECT} for each in order}
    total = Counter(kind for own in kinds.values() for kind in own)
    held: Counter[int] = Counter()
    chosen: set[str] = set()
    for by_class in (True, False):
        for each in order:
            own = kinds[each.image_id]
            rarest = min(own, key=lambda kind: (total[kind], kind))
            lacking = held[rarest] + 1 <= round(fraction * total[rarest])
            leaves_one = all(total[kind] - held[kind] > 1 for kind in own)
            if len(chosen) < wanted and each.image_id not in chosen and leaves_one and (lacking or not by_class):
                chosen.add(each.image_id)
                held.update(own)
    return chosen


def write_lists(folder: Path, datasets: Mapping[str, Dataset]) -> list[Path]:
    """Write the ids of the images of each split to ``folder``/<split>.txt, a line each; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for split, dataset in datasets.items():
        paths.append(folder / f"{split}.txt")
        with replacing(paths[-1]) as temporary:
            temporary.write_text("".join(f"{each.image_id}\n" for each in dataset), encoding="utf-8")
    return paths
