"""Learning curves: would more images help? Detectors trained on parts of the images, on the same held-out images.

With few images, average precision grows about as the logarithm of their number. So a line through the measured points
estimates what more images would add, up to twice as many.
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
    """Draw random parts of the images, each inside the next one, in the order of the data set.

    Parts that lack a class are left out.
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
    """Numbers of training images, ascending, and the results of their detectors on the same held-out images.

    Raises ValueError for fewer than two points.
    """

    n_images: Sequence[int]
    results: Sequence[HeldOutResult]

    def __post_init__(self) -> None:
        if len(self.n_images) != len(self.results) or len(set(self.n_images)) < 2:
            raise ValueError(f"a learning curve needs two numbers of images, but got {list(self.n_images)}")

    @property
    def n_more(self) -> int:
        """Number of additional images of the estimate: 100, but at most as many as there are."""
        return min(MORE_IMAGES, self.n_images[-1])

    def gain(self) -> tuple[float, float]:
        """Return the mAP that `n_more` images would add, and its standard error by the bootstrap over held-out images.

        The error does not include that of other training images or seeds.
        """
        doublings = np.log2(np.asarray(self.n_images, np.float64))
        doublings -= doublings.mean()
        ahead = np.log2(1 + self.n_more / self.n_images[-1])
        weights = ahead * doublings / (doublings**2).sum()
        gains = weights @ np.stack([each.resampled for each in self.results])
        gain = float(weights @ np.array([each.mAP for each in self.results]))
        return min(gain, 1 - self.results[-1].mAP), float(np.nanstd(gains, ddof=1))

    def answer(self) -> str:
        """Return one sentence on whether more images would help."""
        gain, error = self.gain()
        expected = f"{self.n_more} more would bring {100 * gain:+.1f} mAP (± {100 * error:.1f}) if it went on so"
        if gain >= _WORTH and gain > 2 * error:
            return f"more images help: {expected}"
        if gain + 2 * error < _WORTH:
            return f"more images of this kind hardly help: {expected}"
        return f"{self.results[0].images} held-out images are too few to say whether more would help: {expected}"

    def to_json(self) -> dict[str, Any]:
        """Return points and gain for ``json.dump``."""
        gain, error = self.gain()
        points = [
            {"images": n, "mAP": each.mAP, "standard_error": each.mAP_error}
            for n, each in zip(self.n_images, self.results, strict=True)
        ]
        return {"points": points, "more_images": self.n_more, "gain": gain, "gain_standard_error": error}
