"""Splitting a network into frozen and trained layers."""

from __future__ import annotations

import pytest

from detector.backbones.loading import load_network
from detector.backbones.splitting import split_network


@pytest.mark.parametrize(
    ("name", "first", "stage", "n_layers"),
    [
        ("alexnet", "features.10", "features.9", 2),
        ("zf5/0.1", "conv4", "relu3", 4),
        ("efficientnet_lite0", "blocks.6", "blocks.5", 1),
    ],
)
def test_a_network_in_two_parts_is_the_same(name: str, first: str, stage: str, n_layers: int) -> None:
    network = load_network(name, None, "random")
    found, last = split_network(network, first, "random")
    assert (found, len(last)) == (stage, n_layers)
    assert next(last.parameters()) is next(network.module.network.get_submodule(first).parameters())


@pytest.mark.parametrize(
    ("name", "first", "message"),
    [
        ("zf5/0.1", "conv9", "no layer 'conv9' up to the stage whose maps are used"),
        ("zf5/0.1", "conv9.1", "no layer 'conv9.1'"),
        ("zf5/0.1", "conv1", "conv1 is the first of its sequence"),
        ("efficientnet_lite0", "blocks.5.1", "from blocks.5.1 on must follow each other to the end"),
    ],
)
def test_layers_that_training_cannot_start_at(name: str, first: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_network(load_network(name, None, "random"), first, "random")
