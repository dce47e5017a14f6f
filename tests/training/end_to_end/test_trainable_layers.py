"""Trainable layers: the same maps and gradients as torch's own, with frozen batch statistics."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

from detector.backbones.loading import load_network
from detector.backbones.networks import Block
from detector.training.end_to_end import trainable_layers as module
from detector.training.end_to_end.depthwise import depthwise_convolution
from detector.training.end_to_end.trainable_layers import trainable_layers


@pytest.mark.parametrize(
    ("side", "stride", "dilation", "before"), [(3, 1, 1, 1), (5, 1, 2, 4), (5, 2, 1, 2), (3, 2, 1, 0)]
)
def test_depthwise_convolutions_and_their_gradients_are_torchs(
    side: int, stride: int, dilation: int, before: int
) -> None:
    random = torch.Generator().manual_seed(0)
    maps, weights, biases = (
        torch.randn(shape, generator=random).requires_grad_() for shape in ((9, 12, 3), (side, side, 3), (3,))
    )
    kernels = weights.permute(2, 0, 1)[:, None]
    torchs = nn.functional.conv2d(maps.permute(2, 0, 1)[None], kernels, biases, stride, before, dilation, 3)
    expected = torchs[0].permute(1, 2, 0)
    found = depthwise_convolution(
        maps, weights, biases, stride, dilation, before, (expected.shape[0], expected.shape[1])
    )
    torch.testing.assert_close(found, expected)
    directions = torch.randn(expected.shape, generator=random)
    gradients = (torch.autograd.grad((each * directions).sum(), (maps, weights, biases)) for each in (found, expected))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def block_of(*layers: nn.Module) -> Block:
    """The layers with normalizations that do something, as they are after a training."""
    random = torch.Generator().manual_seed(1)
    block = Block(OrderedDict((str(number), layer) for number, layer in enumerate(layers))).eval()
    for name, tensor in block.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            tensor.uniform_(0.5, 1.5, generator=random)
    return block


@pytest.mark.parametrize(
    ("settings", "ours"),
    [
        ({"kernel_size": 3, "padding": 1, "groups": 4}, True),
        ({"kernel_size": 5, "stride": 2, "groups": 4}, True),
        ({"kernel_size": 3, "padding": "same", "groups": 4}, False),
        ({"kernel_size": (3, 5), "groups": 4}, False),
        ({"kernel_size": 3, "stride": (1, 2), "groups": 4}, False),
        ({"kernel_size": 3, "groups": 2}, False),
        ({"kernel_size": 1}, False),
        ({"kernel_size": 1, "stride": 2}, False),
        ({"kernel_size": 1, "groups": 2}, False),
        ({"kernel_size": 3, "groups": 4, "out_channels": 8}, False),
    ],
)
def test_convolutions_of_one_channel_each_are_ours_and_others_torchs(
    settings: dict[str, Any], ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(**{"in_channels": 4, "out_channels": 4, "bias": False, **settings})
    layers = block_of(convolution, nn.BatchNorm2d(convolution.out_channels))
    calls: list[object] = []

    def counted(*arguments: Any) -> torch.Tensor:
        calls.append(arguments)
        return depthwise_convolution(*arguments)

    monkeypatch.setattr(module, "depthwise_convolution", counted)
    pixels = torch.randn(1, 4, 9, 11)
    torch.testing.assert_close(trainable_layers(layers)(pixels), layers(pixels))
    assert bool(calls) == ours


@pytest.mark.parametrize("size", [(64, 96), (77, 95)])
def test_maps_and_gradients_of_a_network_are_torchs(size: tuple[int, int]) -> None:
    network = load_network("efficientnet_lite0", "blocks.3", "random").module.network
    random = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                assert tensor is not None
                tensor.data.uniform_(0.5, 1.5, generator=random)
    stages = [network.get_submodule(f"blocks.{number}") for number in range(4)]
    # block by block: the last stage stops what runs through it
    plain = nn.Sequential(
        network.get_submodule("conv_stem"), *(block for stage in stages for block in stage.children())
    )
    ours = trainable_layers(plain)
    tensors = list(plain.parameters())
    assert [id(each) for each in ours.parameters()] == [id(each) for each in tensors]
    pixels = torch.randn(1, 3, *size, generator=random).requires_grad_()
    found, expected = ours(pixels), plain(pixels)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    directions = torch.randn(expected.shape, generator=random)
    gradients = (torch.autograd.grad((each * directions).sum(), [pixels, *tensors]) for each in (found, expected))
    for here, there in zip(*gradients, strict=True):
        torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-3 * float(there.abs().max()))


def test_a_block_that_a_network_ends_in_is_left_as_it_is() -> None:
    block = block_of(nn.Conv2d(3, 3, 3, bias=False), nn.BatchNorm2d(3))
    handle = block[0].register_forward_hook(lambda *_: None)
    assert trainable_layers(block) is block
    handle.remove()
    assert trainable_layers(block) is not block


def test_a_normalization_without_a_convolution_before_it_stays() -> None:
    layers = block_of(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, bias=False))
    maps = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(trainable_layers(layers)(maps), layers(maps))
