"""A network in two parts: layers that stay as they are, whose maps can be cached, and the last ones, which learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from detector.backbones.loading import Network, load_network
from detector.backbones.tracing import PROBE_SIZE
from detector.backbones.truncation import StageReached


class LastLayers(nn.Sequential):
    """Layers in sequence, the last of a network that may end at one of them (see `truncation`)."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        try:
            output: torch.Tensor = super().forward(maps)
        except StageReached as reached:
            return reached.output
        return output


def split_network(
    network: Network, first: str, weights: str | Path | None = None, same_cells: bool = True
) -> tuple[str, LastLayers]:
    """The stage before the layer ``first``, and the layers from there to the end of a network (they stay its own).

    ``weights`` are those that the network was loaded with. Raises ValueError where there is no such layer, none before
    it in its sequence, where layers outside of the sequence follow, or, with ``same_cells``, where the last layers
    change the map's size.
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
        raise ValueError(f"{network.name}: {first} is the first of its sequence; learning begins at a later layer")
    stage = f"{parent_name}.{names[index - 1]}".removeprefix(".")
    last = LastLayers(*(children[each] for each in names[index:]))
    fixed = load_network(network.name, stage, weights)
    image = np.random.default_rng(0).integers(0, 256, (1, *PROBE_SIZE, 3), np.uint8)
    geometry, other = network.module.geometry, fixed.module.geometry
    if same_cells and (geometry.stride, geometry.offset) != (other.stride, other.offset):
        raise ValueError(f"{network.name}: the layers from {first} on must not change where the cells of the map lie")
    with torch.no_grad():
        found, expected = last(fixed.maps(image)), network.maps(image)
    if not torch.equal(found, expected):
        raise ValueError(f"{network.name}: the layers from {first} on must follow each other to the end")
    return stage, last
