"""A network from its maps of whole images to classes and moves of boxes, all of which learns together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from detector.boxes import Boxes
from detector.features.pooling import largest_cells, n_bins
from detector.heads.suppression import nms

SAME_EXAMPLE = 0.7
"""Of two boxes of a larger IoU, only that of the larger loss is learned from."""


def box_losses(
    scores: torch.Tensor, deltas: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses of n boxes in class and in place, ``(n,)`` each.

    ``scores`` are ``(n, K + 1)``, background last, before the softmax; ``deltas`` ``(n, K, 4)``, of which only those
    of a box's own class count; ``labels`` ``(n,)`` int64 and ``targets`` ``(n, 4)``. The loss in class is the cross
    entropy; that in place the sum of smooth L1, x^2 / 2 for differences below 1 and |x| - 1 / 2 beyond, and 0 for
    background.
    """
    of_class = functional.cross_entropy(scores, labels, reduction="none")
    rows = (labels < deltas.shape[1]).nonzero()[:, 0]
    own = deltas[rows, labels[rows]]
    differences = functional.smooth_l1_loss(own, targets[rows], reduction="none").sum(1)
    return of_class, torch.zeros_like(of_class).index_put((rows,), differences)


def hardest(boxes: Boxes, losses: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Rows, at most ``count``, ascending, of the boxes ``(n, 4)`` with the largest losses ``(n,)``, but duplicates."""
    return np.sort(nms(boxes, losses, SAME_EXAMPLE)[:count])


class RegionNetwork(nn.Module):
    """The layers of a network that learn, the pyramid pooling, fc6, fc7, and from these classes and moves.

    ``last`` takes maps ``(1, C, h, w)`` of the layers before it. Pooled features are centered by ``mean`` and multiplied
    by ``scale``, which do not learn (see `center`). Random weights are drawn by ``seed``.
    """

    def __init__(
        self, last: nn.Module, levels: Sequence[int], n_channels: int, width: int, n_classes: int, seed: int
    ) -> None:
        super().__init__()
        self.last, self.levels, self.n_classes = last, tuple(levels), n_classes
        n_features = n_channels * n_bins(levels)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.fc6, self.fc7 = nn.Linear(n_features, width), nn.Linear(width, width)
            self.classes, self.moves = nn.Linear(width, n_classes + 1), nn.Linear(width, 4 * n_classes)
            for layer in (self.fc6, self.fc7):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.normal_(self.classes.weight, std=0.01)
            nn.init.normal_(self.moves.weight, std=0.001)
        for layer in (self.fc6, self.fc7, self.classes, self.moves):
            nn.init.zeros_(layer.bias)
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(()))

    def largest(self, maps: torch.Tensor, cells: NDArray[np.int64]) -> torch.Tensor:
        """Where bins ``(n, n_bins, C)`` of the windows ``cells`` ``(n, 4)`` of maps ``(1, C, h, w)`` are largest."""
        rows = maps.squeeze(0).permute(1, 2, 0).numpy(force=True)
        return torch.from_numpy(largest_cells(rows, cells, self.levels, threads=1))

    def pool(self, maps: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
        """Features ``(n, D)`` of maps ``(1, C, h, w)``, by cells that `largest` has found."""
        rows = maps.squeeze(0).flatten(1).T
        # gathered at once, so that gradients are summed up in one map, not in one a window
        return rows.gather(0, largest.flatten(0, 1)).unflatten(0, largest.shape[:2]).flatten(1)

    def judge(
        self, features: torch.Tensor, dropout: float = 0.0, random: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores ``(n, K + 1)`` and deltas ``(n, K, 4)`` of pooled features ``(n, D)``.

        A share ``dropout`` of the values of fc6 and fc7 is left out, by a generator of its own: images are learned
        from in threads, which must not share one.
        """
        values = (features - self.get_buffer("mean")) * self.get_buffer("scale")
        for layer in (self.fc6, self.fc7):
            values = functional.relu(layer(values))
            if dropout:
                kept = torch.rand(values.shape, generator=random) >= dropout
                values = values * (kept / (1 - dropout))
        return self.classes(values), self.moves(values).unflatten(1, (self.n_classes, 4))

    def center(self, features: torch.Tensor) -> None:
        """Have features ``(n, D)`` such as these come out centered and of about 1, as random layers begin with best."""
        self.mean = features.mean(0)
        self.scale = features.shape[1] ** 0.5 / (features - self.mean).norm(dim=1).mean()

    def layers(self) -> dict[str, torch.Tensor]:
        """Weights and biases of the four layers after the pooling, for plain features, by name."""
        state = {
            f"{name}.{kind}": getattr(getattr(self, name), kind).detach().clone()
            for name in ("fc6", "fc7", "classes", "moves")
            for kind in ("weight", "bias")
        }
        state["fc6.weight"] *= self.get_buffer("scale")
        state["fc6.bias"] -= state["fc6.weight"] @ self.get_buffer("mean")
        return state
