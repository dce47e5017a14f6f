"""Geometry: what is derived from the layers is what the network does."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from torch import nn

from detector.backbones import networks
from detector.backbones.geometry import Geometry
from detector.backbones.tracing import network_geometry
from detector.backbones.truncation import Truncated

SIZES = [(225, 257), (231, 199)]


def truncated(name: str, stage: str) -> Truncated:
    builders = {"alexnet": networks.alexnet, "vgg16": networks.vgg16, "zf5": networks.zf5}
    if name == "efficientnet_lite0":
        return Truncated(networks.efficientnet_lite0(), stage)
    if name in builders:
        return Truncated(builders[name](), stage)
    return Truncated(timm.create_model(name, pretrained=False), stage)


def show_every_path(network: nn.Module) -> None:
    """Let every pixel that can move a cell do so: positive weights, means for maxima, no norms."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.MaxPool2d):
                pool = nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(module, name, pool)
            elif isinstance(child, nn.BatchNorm2d):
                setattr(module, name, getattr(child, "act", nn.Identity()))
        if isinstance(module, nn.Conv2d):
            inputs = 3 if module.in_channels == 3 else 1
            weight = torch.full((1, inputs, *module.kernel_size), 0.5 / inputs / math.prod(module.kernel_size))
            module.weight, module.bias, module.groups = nn.Parameter(weight), None, 1
    network.double().requires_grad_(False)


def seen_pixels(network: nn.Module, size: tuple[int, int], row: int, column: int) -> list[tuple[int, int]]:
    """First and last row, first and last column of the pixels with a gradient at one cell."""
    image = torch.rand(1, 3, *size, dtype=torch.float64).requires_grad_()
    network(image)[0, :, row, column].sum().backward()
    assert image.grad is not None
    moved = image.grad[0].abs().sum(0) > 0
    return [(int(where.min()), int(where.max())) for where in (moved.any(dim=1 - axis).nonzero() for axis in (0, 1))]


def predicted_pixels(geometry: Geometry, cell: int, size: int) -> tuple[int, int]:
    center = geometry.offset + cell * geometry.stride
    reach = (geometry.receptive_field - 1) / 2
    first, last = center - reach, center + reach
    assert first == int(first)
    return max(int(first), 0), min(int(last), size - 1)


@pytest.mark.parametrize(
    ("name", "stage", "expected"),
    [
        ("alexnet", "features", Geometry(16, 15.0, 163)),
        ("vgg16", "features", Geometry(16, 7.5, 196)),
        ("zf5", "relu5", Geometry(16, 20.0, 159)),  # 139 without the norms, as it is usually quoted
        ("resnet18", "layer3", Geometry(16, 0.0, 211)),
        ("resnet50", "layer3", Geometry(16, 0.0, 267)),
        ("mobilenetv2_100", "blocks.3", Geometry(16, 0.0, 171)),
        ("regnetx_002", "s3", Geometry(16, 0.0, 127)),
        ("efficientnet_lite0", "blocks.3", Geometry(16, 15.0, 147)),
    ],
)
def test_geometry_is_that_of_the_network_s_response(name: str, stage: str, expected: Geometry) -> None:
    network = truncated(name, stage)
    assert network.geometry == expected
    show_every_path(network)
    for size in SIZES:
        rows, columns = network(torch.rand(1, 3, *size, dtype=torch.float64)).shape[2:]
        for row, column in ((0, columns - 1), (rows // 2, columns // 2), (rows - 1, 0)):
            assert seen_pixels(network, size, row, column) == [
                predicted_pixels(expected, row, size[0]),
                predicted_pixels(expected, column, size[1]),
            ]


@pytest.mark.parametrize("size", [(39, 1001), (1001, 39)])
def test_geometry_of_the_dilated_network(size: tuple[int, int]) -> None:
    network = truncated("efficientnet_lite0", "blocks")
    assert network.geometry == Geometry(stride=16, offset=15.0, receptive_field=851)
    show_every_path(network)
    row, column = (31 if side > 500 else 1 for side in size)
    assert seen_pixels(network, size, row, column) == [
        predicted_pixels(network.geometry, cell, side) for cell, side in ((row, size[0]), (column, size[1]))
    ]


def test_geometry_by_hand() -> None:
    # Kernel 3 at dilation 2 sees 5 pixels, from -1 to 3; pooling by 2 unites cells 0 and 1: -1 to 4.
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, dilation=2), nn.AvgPool2d(2), nn.ZeroPad2d((1, 0, 1, 0)))
    # The padding puts a cell in front: everything moves by a stride.
    assert network_geometry(network) == Geometry(stride=2, offset=-0.5, receptive_field=6)


class Gated(nn.Module):
    """Two branches of stride 2 and a gate computed from the whole map."""

    def __init__(self, before: int, behind: int) -> None:
        super().__init__()
        self.long = nn.Sequential(nn.ZeroPad2d((before, behind) * 2), nn.Conv2d(3, 4, 3, 2))
        self.short = nn.Conv2d(3, 4, 1, 2)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid())

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        maps = self.long(pixels)
        return maps * self.gate(maps) + self.short(pixels)


def test_gates_are_left_out_and_branches_unite() -> None:
    assert network_geometry(Gated(before=1, behind=1)) == Geometry(stride=2, offset=0.0, receptive_field=3)
    # Pixels 0 to 2 in one branch, pixel 0 in the other.
    assert network_geometry(Gated(before=0, behind=2)) == Geometry(stride=2, offset=1.0, receptive_field=3)
    # Pixels -4 to -2 in one branch, pixel 0 in the other.
    assert network_geometry(Gated(before=4, behind=-2)) == Geometry(stride=2, offset=-2.0, receptive_field=5)


class Diverging(nn.Conv2d):
    """A map and, pooled to a single cell that broadcasts over it, the same map."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        maps = super().forward(pixels)
        return maps + nn.functional.max_pool2d(maps, 128)


class Mixing(nn.Conv2d):
    """A convolution and a softmax over positions."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        maps = super().forward(pixels)
        return maps.flatten(2).softmax(2).view(maps.shape)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Mixing(3, 4, 1), "'view' does not keep cells"),
        (Diverging(3, 4, 1), "strides 1 and 128 meet"),
        (nn.Conv2d(3, 4, (3, 1)), "differs between the axes"),
        (nn.ConvTranspose2d(3, 4, 2, 2), "transposed"),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1)), "not a feature map"),
    ],
)
def test_irregular_networks_are_refused(network: nn.Module, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        network_geometry(network)
