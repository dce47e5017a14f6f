"""A fast end-to-end training: colored squares, a fake network, given boxes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detector.config.detector import EndToEndConfig, FineTuningConfig
from detector.training.end_to_end.region_network import RegionNetwork
from detector.training.end_to_end.training import EndToEndTraining
from tests.fakes import MeanOfCells
from tests.training.small import small_set

RED = [0, 32, 64, 96]
CONFIG = EndToEndConfig(
    steps=4,
    images_per_step=1,
    min_sizes_start=(160, 160),
    min_sizes_end=(160, 160),
    rois_per_image=8,
    hard_examples=4,
    lr=0.01,
    network_lr=0.001,
    weight_decay=0.0,
    warmup_steps=0,
    ema_decay=0.9,
    color_jitter=0.0,
)
FINE_TUNING = FineTuningConfig(foreground_fraction=0.5, min_iou=0.5, dropout=0.0, flips=False, seed=3)
SHARED = {"foreground_fraction", "min_iou", "dropout", "flips", "seed"}
"""Keys of the section fine_tuning."""


class Cells(MeanOfCells):
    """The fake network for several images of one size."""

    def maps(self, images: Any) -> torch.Tensor:
        with torch.inference_mode():
            return torch.stack([self(image) for image in images]) / 250


TWO: dict[str, Any] = {"a": [(RED, 0)], "b": [(RED, 1)]}
"""Images whose objects differ."""


def training(folder: Path, objects: Any = None, boxes: Any = None, **changes: Any) -> EndToEndTraining:
    """Return a training on an image of a red square at the left, with boxes on it and elsewhere."""
    objects = {"a": [(RED, 0)]} if objects is None else objects
    boxes = [[0, 32, 64, 80], [96, 32, 160, 96], [0, 112, 64, 160]] if boxes is None else boxes
    images = small_set(folder, objects, {name: boxes for name in objects})
    last = nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        last.weight.copy_(torch.eye(3)[:, :, None, None])
        last.bias.zero_()  # type: ignore[union-attr]
    network = RegionNetwork(last, (1,), 3, 6, 3, seed=0, second="second_min_iou" in changes)
    frozen: Any = Cells()
    shared = {key: changes.pop(key) for key in SHARED & changes.keys()}
    config, fine_tuning = CONFIG.model_copy(update=changes), FINE_TUNING.model_copy(update=shared)
    return EndToEndTraining(network, frozen, Cells.geometry, images, config, fine_tuning, folder / "state")


def noting(found: list[Any], what: Callable[..., Any], then: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function like another that notes something of each call."""

    def call(*arguments: Any) -> Any:
        found.append(what(*arguments))
        return then(*arguments)

    return call


def predicted(made: EndToEndTraining, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the list of the arguments of every prediction from now on."""
    seen: list[Any] = []
    predict = made.network.predict

    def watched(features: torch.Tensor, dropout: float = 0.0, random: Any = None, refined: bool = False) -> Any:
        seen.append((features.detach().clone(), dropout, random))
        return predict(features, dropout, random, refined)

    monkeypatch.setattr(made.network, "predict", watched)
    return seen
