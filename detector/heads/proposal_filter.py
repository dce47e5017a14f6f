"""A first, cheap score of all proposals, which tells those that are worth the expensive layers.

Not in the paper, which scores every box by all levels. As in cascades (Viola & Jones, CVPR 2001), what is left after it
is scored exactly as it would be without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes
from detector.features.encoder import Encoder, FeatureMaps
from detector.runtime.files import Arrays


@dataclass(frozen=True, eq=False)
class ProposalFilter:
    """Linear scores of K classes, read from the coarse ``levels`` of the pyramid: the best one ranks a box.

    ``weights`` ``(D, K)`` and ``biases`` ``(K,)`` are float32, D the bins of these levels times the channels. Raises
    ValueError for arrays that do not fit each other.
    """

    weights: NDArray[np.float32]
    biases: NDArray[np.float32]
    levels: Sequence[int]

    def __post_init__(self) -> None:
        if self.weights.ndim != 2 or self.biases.shape != self.weights.shape[1:]:
            raise ValueError(
                f"weights and biases of the proposal_filter must be (D, K) and (K,), but are {self.weights.shape} "
                f"and {self.biases.shape}"
            )

    def scores(self, encoder: Encoder, maps: FeatureMaps, boxes: Boxes) -> NDArray[np.float32]:
        """The best score ``(R,)`` of each of ``(R, 4)`` boxes."""
        coarse = encoder.with_levels(self.levels)

        def best(pooled: NDArray[np.float32]) -> NDArray[np.float32]:
            return (pooled @ self.weights + self.biases).max(1)

        return coarse.apply(best, maps, coarse.regions(maps, boxes))

    def choose(self, encoder: Encoder, maps: FeatureMaps, boxes: Boxes, count: int) -> NDArray[np.int64]:
        """The rows of the ``count`` best of ``(R, 4)`` boxes, ascending; of equal ones the first."""
        order = np.argsort(-self.scores(encoder, maps, boxes), kind="stable")
        return np.sort(order[:count])

    def to_arrays(self) -> Arrays:
        """Weights and biases by name."""
        return {"weights": self.weights, "biases": self.biases}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], levels: Sequence[int]) -> ProposalFilter | None:
        """The inverse of `to_arrays`; None where there are none. Raises KeyError for one that is missing."""
        return cls(arrays["weights"], arrays["biases"], levels) if arrays else None
