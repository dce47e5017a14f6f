"""Split a network into frozen layers and the last ones, which are trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from detector.backbones.loading import Network, load_network
from detector.backbones.tracing import PROBE_SIZE
from detector.backbones.truncation import StageReached


class LastLayers(nn.Sequential):
    """Last layers of a network, in sequence; the network may end inside of one of them (see `truncation`)."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        try:
            output: torch.Tensor = super().forward(maps)
        except StageReached as reached:
            return reached.output
        return output


def split_network(network: Network, first: str, weights: str | Path | None = None) -> tuple[str, LastLayers]:
    """Return the stage before the layer ``first``, and the network's own layers from there to its end.

    ``weights`` are those that the network was loaded with. Raises ValueError if there is no such layer, if it is the
    first of its sequence, and if layers outside of the sequence follow.
    """
    parent_name, _, name = first.rpartition(".")
    try:
        children = dict(network.module.network.get_submodule(parent_name).named_children())
    except AttributeError:
        children = {}
    names = list(children)
    if name not in names:
        raise ValueError(f"{network.name}: no layer {first!r} up to the stage whose maps are used")
    index = names.index(name)
    if index == 0:
        raise ValueError(f"{network.name}: {first} is the first of its sequence; training starts at a later layer")
    stage = f"{parent_name}.{names[index - 1]}".removeprefix(".")
    last = LastLayers(*(children[each] for each in names[index:]))
    frozen = load_network(network.name, stage, weights)
    image = np.random.default_rng(0).integers(0, 256, (1, *PROBE_SIZE, 3), np.uint8)
    with torch.no_grad():
        found, expected = last(frozen.maps(image)), network.maps(image)
    if not torch.equal(found, expected):
        raise ValueError(f"{network.name}: the layers from {first} on must follow each other to the end")
    return stage, last
