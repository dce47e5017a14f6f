"""How fast a training learns, from which sizes of images, and what the mean of its weights forgets."""

from __future__ import annotations

import math
from collections.abc import Sequence


def learning_rate(step: int, n_steps: int, warm_up: int) -> float:
    """The share of the learning rate at a step: rising to 1 in the first ``warm_up``, falling as half a cosine.

    The step after the last would have the share 0.
    """
    rising = min(1.0, (step + 1) / warm_up) if warm_up else 1.0
    return rising * (1 + math.cos(math.pi * step / n_steps)) / 2


def side_range(step: int, n_steps: int, first: Sequence[int], last: Sequence[int]) -> tuple[float, float]:
    """The least and the largest shorter side of images at a step, in pixels: from ``first`` on the way to ``last``."""
    share = step / n_steps
    low, high = (a + share * (b - a) for a, b in zip(first, last, strict=True))
    return low, high


def mean_share(step: int, memory: float) -> float:
    """The share of the weights after a step in the mean of all until then.

    The mean forgets a share of 1 - ``memory`` a step, but more in the first steps: it is not to remember the beginning.
    """
    return max(1 - memory, 9 / (step + 10))
