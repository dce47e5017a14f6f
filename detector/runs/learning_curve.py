"""Would more images help? Detectors that learned from parts of the images, measured on the same held-out ones.

Average precision grows about as the logarithm of the number of images while there are few of them, so that a line
through the measured points says what some more would bring; never farther than to twice as many.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detector.datasets.dataset import Dataset
from detector.evaluation.held_out import HeldOutResult

SHARES = (0.25, 0.5)
MORE_IMAGES = 100
_WORTH = 0.01  # of mAP: less is not worth the labels


def parts_of(dataset: Dataset, shares: Iterable[float] = SHARES, seed: int = 0) -> list[Dataset]:
    """Random parts of the images, each within the next one, in the order of the data set.

    A part that would leave a class without an object is left out.
    """
    order = np.random.default_rng(seed).permutation(len(dataset))
    parts = []
    for share in shares:
        rows = np.sort(order[: max(1, round(share * len(dataset)))]).tolist()
        part = replace(dataset, annotations=tuple(dataset[row] for row in rows))
        there = {label for each in part for label in each.labels[~each.difficult].tolist()}
        if len(there) == len(dataset.class_names):
            parts.append(part)
    return parts


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Numbers of images, ascending, and what the detectors that learned from so many reach on the same held-out images.

    Raises ValueError for fewer than two points.
    """

    n_images: Sequence[int]
    results: Sequence[HeldOutResult]

    def __post_init__(self) -> None:
        if len(self.n_images) != len(self.results) or len(set(self.n_images)) < 2:
            raise ValueError(f"a learning curve needs two numbers of images, but got {list(self.n_images)}")

    @property
    def n_more(self) -> int:
        """For how many more images a gain is foretold: 100, but no more than there are."""
        return min(MORE_IMAGES, self.n_images[-1])

    def gain(self) -> tuple[float, float]:
        """The mAP that `n_more` images would bring, and its standard error, from the bootstrap of held-out images.

        Other images to learn from, or other seeds, would move it, too; that is not in the error.
        """
        doublings = np.log2(np.asarray(self.n_images, np.float64))
        doublings -= doublings.mean()
        ahead = np.log2(1 + self.n_more / self.n_images[-1])
        weights = ahead * doublings / (doublings**2).sum()
        gains = weights @ np.stack([each.resampled for each in self.results])
        gain = float(weights @ np.array([each.mAP for each in self.results]))
        return min(gain, 1 - self.results[-1].mAP), float(np.nanstd(gains, ddof=1))

    def answer(self) -> str:
        """Whether more images would help, in a sentence."""
        gain, error = self.gain()
        expected = f"{self.n_more} more would bring {100 * gain:+.1f} mAP (± {100 * error:.1f}) if it went on so"
        if gain >= _WORTH and gain > 2 * error:
            return f"more images help: {expected}"
        if gain + 2 * error < _WORTH:
            return f"more images of this kind hardly help: {expected}"
        return f"{self.results[0].images} held-out images are too few to say whether more would help: {expected}"

    def to_json(self) -> dict[str, Any]:
        """Points and gain for ``json.dump``."""
        gain, error = self.gain()
        points = [
            {"images": n, "mAP": each.mAP, "standard_error": each.mAP_error}
            for n, each in zip(self.n_images, self.results, strict=True)
        ]
        return {"points": points, "more_images": self.n_more, "gain": gain, "gain_standard_error": error}
