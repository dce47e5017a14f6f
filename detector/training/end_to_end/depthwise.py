"""Depthwise convolution with gradients, channels last, on one thread.

On CPUs, torch 2 computes the gradients of a dilated depthwise convolution in a reference loop. It takes about 20 times
as long as this module, and longer than all other layers of EfficientNet-Lite0 at stride 16 together.
"""

from __future__ import annotations

from typing import Any

import torch

from detector.runtime.compiling import Array, fusing_kernel, kernel


def depthwise_convolution(
    maps: torch.Tensor,
    weights: torch.Tensor,
    biases: torch.Tensor,
    stride: int,
    dilation: int,
    before: int,
    size: tuple[int, int],
) -> torch.Tensor:
    """Convolve ``(h, w, C)`` float32 to ``(*size, C)``, each channel with its own kernel.

    ``weights`` ``(k, k, C)`` and ``biases`` ``(C,)`` are float32. Tap ``i`` of cell ``y`` reads row
    ``y * stride - before + i * dilation``; rows and columns outside of the map are zeros. All three tensors get
    gradients.
    """
    arguments = (maps.contiguous(), weights.contiguous(), biases.contiguous(), stride, dilation, before, size)
    result: torch.Tensor = _Depthwise.apply(*arguments)
    return result


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        maps: torch.Tensor,
        weights: torch.Tensor,
        biases: torch.Tensor,
        stride: int,
        dilation: int,
        before: int,
        size: tuple[int, int],
    ) -> torch.Tensor:
        ctx.save_for_backward(maps, weights)
        ctx.steps = stride, dilation, before
        result = torch.empty(*size, maps.shape[2])
        arrays = [each.numpy(force=True) for each in (maps, weights, biases, result)]
        _convolve(arrays[0], arrays[1], arrays[2], stride, dilation, before, arrays[3])
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        maps, weights = ctx.saved_tensors
        map_gradients, weight_gradients = torch.zeros_like(maps), torch.zeros_like(weights)
        given = [each.numpy(force=True) for each in (maps, weights, gradients[0].contiguous())]
        stride, dilation, before = ctx.steps
        arrays = map_gradients.numpy(), weight_gradients.numpy()
        _convolve_back(given[0], given[1], given[2], stride, dilation, before, *arrays)
        return map_gradients, weight_gradients, gradients[0].sum((0, 1)), None, None, None, None


@kernel
def _taps(cell: int, stride: int, before: int, dilation: int, n_taps: int, size: int) -> tuple[int, int]:
    """Return the first tap that reads inside of a side of ``size`` cells, and the tap after the last one."""
    first = cell * stride - before
    return max(0, -(first // dilation)), min(n_taps, (size - 1 - first) // dilation + 1)


@fusing_kernel
def _convolve(maps: Array, weights: Array, biases: Array, stride: int, dilation: int, before: int, out: Array) -> None:
    height, width, n_channels = maps.shape
    side = weights.shape[0]
    for y in range(out.shape[0]):
        top, bottom = _taps(y, stride, before, dilation, side, height)
        for x in range(out.shape[1]):
            left, right = _taps(x, stride, before, dilation, side, width)
            cell = out[y, x]
            cell[:] = biases
            for i in range(top, bottom):
                for j in range(left, right):
                    values = maps[y * stride - before + i * dilation, x * stride - before + j * dilation]
                    weight = weights[i, j]
                    for c in range(n_channels):
                        cell[c] += values[c] * weight[c]


@fusing_kernel
def _convolve_back(
    maps: Array,
    weights: Array,
    gradient: Array,
    stride: int,
    dilation: int,
    before: int,
    map_gradients: Array,
    weight_gradients: Array,
) -> None:
    height, width, n_channels = maps.shape
    side = weights.shape[0]
    for y in range(gradient.shape[0]):
        top, bottom = _taps(y, stride, before, dilation, side, height)
        for x in range(gradient.shape[1]):
            left, right = _taps(x, stride, before, dilation, side, width)
            cell = gradient[y, x]
            for i in range(top, bottom):
                for j in range(left, right):
                    row, column = y * stride - before + i * dilation, x * stride - before + j * dilation
                    values, weight = maps[row, column], weights[i, j]
                    value_gradients, kernel_gradients = map_gradients[row, column], weight_gradients[i, j]
                    for c in range(n_channels):
                        kernel_gradients[c] += values[c] * cell[c]
                        value_gradients[c] += weight[c] * cell[c]
