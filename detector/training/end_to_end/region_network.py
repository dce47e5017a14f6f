"""Trainable part of a detector: the last layers of the backbone, pyramid pooling, fc6, fc7, classifier, regressors."""

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
"""IoU of two boxes from which on only the one with the larger loss is a hard example."""


class RegionNetwork(nn.Module):
    """Trainable layers of the backbone, pyramid pooling, fc6, fc7, and on these a classifier and a box regressor.

    ``last`` takes maps ``(1, C, h, w)`` of the frozen layers before it. Pooled features are centered by ``mean`` and
    multiplied by ``scale``, which are not trained (see `center`). With ``second``, boxes that the regressor has refined
    have a regressor of their own (Cascade R-CNN, Cai & Vasconcelos, CVPR 2018). Random weights follow from ``seed``.
    """

    def __init__(
        self,
        last: nn.Module,
        levels: Sequence[int],
        n_channels: int,
        width: int,
        n_classes: int,
        seed: int,
        second: bool = False,
    ) -> None:
        super().__init__()
        self.last, self.levels, self.n_classes = last, tuple(levels), n_classes
        n_features = n_channels * n_bins(levels)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.fc6, self.fc7 = nn.Linear(n_features, width), nn.Linear(width, width)
            self.classifier, self.regressor = nn.Linear(width, n_classes + 1), nn.Linear(width, 4 * n_classes)
            self.second_regressor = nn.Linear(width, 4 * n_classes) if second else None
            for layer in (self.fc6, self.fc7):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.normal_(self.classifier.weight, std=0.01)
            for regressor in filter(None, (self.regressor, self.second_regressor)):
                nn.init.normal_(regressor.weight, std=0.001)
        for layer in self._after_pooling().values():
            nn.init.zeros_(layer.bias)
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(()))

    def largest(self, maps: torch.Tensor, cells: NDArray[np.int64]) -> torch.Tensor:
        """Return the largest cell of each bin, ``(n, n_bins, C)``, of windows ``(n, 4)`` of maps ``(1, C, h, w)``."""
        rows = maps.squeeze(0).permute(1, 2, 0).numpy(force=True)
        return torch.from_numpy(largest_cells(rows, cells, self.levels, threads=1))

    def pool(self, maps: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
        """Return features ``(n, D)`` of maps ``(1, C, h, w)`` from the cells that `largest` found."""
        rows = maps.squeeze(0).flatten(1).T
        # gathered at once, so that gradients are summed in one map, not in one per window
        return rows.gather(0, largest.flatten(0, 1)).unflatten(0, largest.shape[:2]).flatten(1)

    def predict(
        self,
        features: torch.Tensor,
        dropout: float = 0.0,
        random: torch.Generator | None = None,
        refined: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scores ``(n, K + 1)`` and deltas ``(n, K, 4)`` of pooled features ``(n, D)``.

        ``refined``: the deltas are those of the second regressor.
        A fraction ``dropout`` of the values of fc6 and fc7 is dropped, by a generator of its own: images are trained on
        in threads, which must not share one.
        """
        values = (features - self.get_buffer("mean")) * self.get_buffer("scale")
        for layer in (self.fc6, self.fc7):
            values = functional.relu(layer(values))
            if dropout:
                kept = torch.rand(values.shape, generator=random) >= dropout
                values = values * (kept / (1 - dropout))
        regressor = self.second_regressor if refined else self.regressor
        assert regressor is not None
        return self.classifier(values), regressor(values).unflatten(1, (self.n_classes, 4))

    def center(self, features: torch.Tensor) -> None:
        """Set ``mean`` and ``scale`` so that features ``(n, D)`` become centered values of about 1."""
        self.mean = features.mean(0)
        self.scale = features.shape[1] ** 0.5 / (features - self.mean).norm(dim=1).mean()

    def start_from(self, layers: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> None:
        """Set fc6 and fc7 to weights and biases for uncentered features, as far as they are given; after `center`."""
        with torch.no_grad():
            for number, (layer, arrays) in enumerate(zip((self.fc6, self.fc7), layers, strict=False)):
                weights, biases = map(torch.from_numpy, arrays)
                if number == 0:
                    biases = biases + weights @ self.get_buffer("mean")
                    weights = weights / self.get_buffer("scale")
                layer.weight.copy_(weights)
                layer.bias.copy_(biases)

    def layers(self) -> dict[str, torch.Tensor]:
        """Return weights and biases of the layers after the pooling, for uncentered features, by name."""
        state = {
            f"{name}.{kind}": getattr(layer, kind).detach().clone()
            for name, layer in self._after_pooling().items()
            for kind in ("weight", "bias")
        }
        state["fc6.weight"] *= self.get_buffer("scale")
        state["fc6.bias"] -= state["fc6.weight"] @ self.get_buffer("mean")
        return state

    def _after_pooling(self) -> dict[str, nn.Linear]:
        return {name: layer for name, layer in self.named_children() if isinstance(layer, nn.Linear)}


def box_losses(
    scores: torch.Tensor, deltas: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the classification and regression losses of n boxes, ``(n,)`` each.

    ``scores`` are ``(n, K + 1)``, background last, before the softmax; ``deltas`` ``(n, K, 4)``, where only those of a
    box's own class count; ``labels`` ``(n,)`` int64 and ``targets`` ``(n, 4)``. The classification loss is the cross
    entropy. The regression loss is the sum of smooth L1, x^2 / 2 for differences below 1 and |x| - 1 / 2 beyond, and 0
    for background.
    """
    classification = functional.cross_entropy(scores, labels, reduction="none")
    rows = (labels < deltas.shape[1]).nonzero()[:, 0]
    own = deltas[rows, labels[rows]]
    differences = functional.smooth_l1_loss(own, targets[rows], reduction="none").sum(1)
    return classification, torch.zeros_like(classification).index_put((rows,), differences)


def hardest(boxes: Boxes, losses: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return up to ``count`` ascending rows of the boxes ``(n, 4)`` with the largest losses ``(n,)``, no duplicates."""
    return np.sort(nms(boxes, losses, SAME_EXAMPLE)[:count])
