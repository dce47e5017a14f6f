"""Layers of a backbone for training on few images: frozen batch statistics, and fast gradients on the CPU.

The statistics of batch normalization stay those of ImageNet, since a single image has none; its weights and biases are
trained. A normalization is then a factor and a shift per channel. They are folded into the convolution before it at
every step, so that all of them get gradients.
"""

from __future__ import annotations

from collections import OrderedDict
from copy import copy
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from detector.backbones.networks import Block, Halving
from detector.backbones.splitting import LastLayers
from detector.training.end_to_end.depthwise import depthwise_convolution


def trainable_layers(layers: nn.Module) -> nn.Module:
    """Return layers ``(1, C, h, w)`` -> ``(1, C', h', w')`` with the output of ``layers`` in evaluation mode.

    They share their tensors. Gradients are computed on one thread, so that several images can be processed in parallel.
    """
    if isinstance(layers, Block) and not _ends_inside(layers):
        return Block(OrderedDict(_folded(list(layers.named_children()))), layers.residual)
    if isinstance(layers, nn.Sequential) and not isinstance(layers, Block):
        kind = LastLayers if isinstance(layers, LastLayers) else nn.Sequential
        return kind(*(trainable_layers(each) for each in layers))
    if getattr(layers, "inplace", False):
        # overwriting a view costs the backward pass a copy of it
        plain: Any = copy(layers)
        plain.inplace = False
        return plain
    return layers


def _ends_inside(block: Block) -> bool:
    """Return whether the network ends at a layer of the block, which then has a hook (see `truncation`)."""
    return any(layer._forward_hooks for layer in block.modules() if layer is not block)


def _folded(children: list[tuple[str, nn.Module]]) -> list[tuple[str, nn.Module]]:
    result: list[tuple[str, nn.Module]] = []
    for name, layer in children:
        before = result[-1][1] if result else None
        if isinstance(layer, nn.BatchNorm2d) and isinstance(before, nn.Conv2d) and before.bias is None:
            result[-1] = (result[-1][0], _Folded(before, layer))
        else:
            result.append((name, trainable_layers(layer)))
    return result


class _Folded(nn.Module):
    """Convolution without biases, and the normalization with frozen statistics after it."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, norm

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        layer, norm = self.convolution, self.norm
        mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        factors = norm.weight * torch.rsqrt(variance + norm.eps)
        weights, biases = layer.weight * factors[:, None, None, None], norm.bias - mean * factors
        if layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.groups == 1:
            rows = maps.permute(0, 2, 3, 1)
            # one matrix product; torch's own 1 x 1 convolution transposes the maps twice per layer
            product = torch.addmm(biases, rows.flatten(0, 2), weights.flatten(1).T)
            return product.unflatten(0, rows.shape[:3]).permute(0, 3, 1, 2)
        if _is_plain_depthwise(layer):
            kernels = weights.squeeze(1).permute(1, 2, 0)
            # squeezed, not indexed: the gradient of an index fills a map of zeros
            return self._depthwise(maps.squeeze(0).permute(1, 2, 0), kernels, biases).permute(2, 0, 1).unsqueeze(0)
        if isinstance(layer, Halving):
            maps = layer.padded(maps)
        return functional.conv2d(maps, weights, biases, layer.stride, layer.padding, layer.dilation, layer.groups)

    def _depthwise(self, maps: torch.Tensor, kernels: torch.Tensor, biases: torch.Tensor) -> torch.Tensor:
        layer, (height, width) = self.convolution, maps.shape[:2]
        (stride, _), (dilation, _), (side, _) = layer.stride, layer.dilation, layer.kernel_size
        if isinstance(layer, Halving):
            size = -(-height // 2), -(-width // 2)
            return depthwise_convolution(maps, kernels, biases, stride, dilation, side // 2 - 1, size)
        before = int(layer.padding[0])
        covered = 2 * before - dilation * (side - 1) - 1
        size = (height + covered) // stride + 1, (width + covered) // stride + 1
        return depthwise_convolution(maps, kernels, biases, stride, dilation, before, size)


def _is_plain_depthwise(layer: nn.Conv2d) -> bool:
    settings = (layer.kernel_size, layer.stride, layer.dilation, layer.padding)
    square = all(not isinstance(each, str) and each[0] == each[1] for each in settings)
    return square and layer.groups == layer.in_channels == layer.out_channels
