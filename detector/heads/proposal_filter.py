"""Rank proposals by a cheap score, so that only the best are pooled finely and scored.

Not in the paper, which scores every box by all levels. As in cascades (Viola & Jones, CVPR 2001), the boxes that are
left are scored exactly as they would be without the filter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes
from detector.features.encoder import Encoder, FeatureMaps
from detector.runtime.array_files import Arrays


@dataclass(frozen=True, eq=False)
class ProposalFilter:
    """Linear scores of K classes on the coarse ``levels`` of the pyramid; the best score of a box ranks it.

    ``weights`` ``(D, K)`` and ``biases`` ``(K,)`` are float32; D is the number of bins of the levels times the
    channels. Raises ValueError for arrays that do not fit each other.
    """

    weights: NDArray[np.float32]
    biases: NDArray[np.float32]
    levels: Sequence[int]

    def __post_init__(self) -> None:
        if self.weights.ndim != 2 or self.biases.shape != self.weights.shape[1:]:
            raise ValueError(
                f"weights and biases of the proposal filter must be (D, K) and (K,), but are {self.weights.shape} "
                f"and {self.biases.shape}"
            )

    def scores(self, encoder: Encoder, maps: FeatureMaps, boxes: Boxes) -> NDArray[np.float32]:
        """Return the best score ``(R,)`` of each of ``(R, 4)`` boxes."""
        coarse = encoder.with_levels(self.levels)

        def best(pooled: NDArray[np.float32]) -> NDArray[np.float32]:
            return (pooled @ self.weights + self.biases).max(1)

        return coarse.apply(best, maps, coarse.regions(maps, boxes))

    def choose(self, encoder: Encoder, maps: FeatureMaps, boxes: Boxes, count: int) -> NDArray[np.int64]:
        """Return the row indices of the ``count`` best of ``(R, 4)`` boxes, ascending. Ties keep the first."""
        order = np.argsort(-self.scores(encoder, maps, boxes), kind="stable")
        return np.sort(order[:count])

    def to_arrays(self) -> Arrays:
        """Return weights and biases by name."""
        return {"weights": self.weights, "biases": self.biases}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], levels: Sequence[int]) -> ProposalFilter | None:
        """Build the filter from the arrays of `to_arrays`; None for no arrays. Raises KeyError for a missing one."""
        return cls(arrays["weights"], arrays["biases"], levels) if arrays else None
