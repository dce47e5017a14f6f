"""Trace where the cells of a feature map are in the image, through the layers of a torch network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from detector.backbones.geometry import Axis
from detector.backbones.geometry import Geometry as Geometry

# One side even and one odd, and so at every halving (128, 64, ... and 129, 65, ...): a padding that depends
# on the parity of its input, as TensorFlow's "SAME" does, then differs between the axes.
PROBE_SIZE = (128, 129)

_POINTWISE = {
    "add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_", "pow", "cat", "clone", "detach", "alias",
    "_to_copy", "copy_", "relu", "relu_", "hardtanh", "hardtanh_", "clamp", "clamp_", "clamp_min",
    "clamp_max", "sigmoid", "sigmoid_", "silu", "silu_", "hardswish", "hardswish_", "hardsigmoid",
    "hardsigmoid_", "gelu", "mish", "leaky_relu", "leaky_relu_", "elu", "elu_", "tanh", "_prelu_kernel",
    "native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
}  # fmt: skip
_CHANNEL_SLICES = {"split", "split_with_sizes", "chunk"}


_Map = tuple[Axis, Axis]  # vertical, horizontal


def network_geometry(network: nn.Module) -> Geometry:
    """Return the stride, first center and receptive field of a network's output map.

    network: takes (1, 3, H, W), gives (1, C, h, w); it is run once on a small image, and every operation
        is followed: windows move and widen the field, pointwise operations unite the fields of their inputs.
        A gate computed from the whole image (squeeze and excitation) rescales channels without moving
        anything, and is left out of the field.
    Raises ValueError with the reason where cells do not form one regular grid: operations that mix positions
    (attention), paddings that depend on the image's size, branches of different strides.
    """
    like = next(network.parameters())
    image = torch.zeros(1, 3, *PROBE_SIZE, device=like.device, dtype=like.dtype)
    tracker = _Tracker(image)
    with torch.no_grad(), tracker:
        output = network(image)
    axes = tracker.maps.get(id(output)) if isinstance(output, torch.Tensor) else None
    if axes is None or output.ndim != 4:
        raise ValueError("the output is not a feature map")
    if axes[0] != axes[1]:
        raise ValueError("the position of a cell depends on the image's size, or differs between the axes")
    return axes[0].geometry


class _Tracker(TorchDispatchMode):
    """Track the geometry of the cells of every tensor computed from the image (None: no cells)."""

    def __init__(self, image: torch.Tensor) -> None:
        super().__init__()
        self.maps: dict[int, _Map | None] = {id(image): (Axis(), Axis())}
        self._alive = [image]  # an id is unique only as long as its tensor lives

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch's default imports its compiler at the first operation, which takes over a second

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        tracked = [tensor for tensor in _tensors(args) if id(tensor) in self.maps]
        if tracked:
            maps = [found for tensor in tracked if (found := self.maps[id(tensor)]) is not None]
            result = self._propagate(func.overloadpacket.__name__, maps, tracked[0], args) if maps else None
            for tensor in _tensors([output]):
                self.maps[id(tensor)] = result
                self._alive.append(tensor)
        return output

    def _propagate(self, name: str, maps: list[_Map], first: torch.Tensor, args: tuple[Any, ...]) -> _Map | None:
        if name in _POINTWISE:
            if name == "cat" and (args[1] if len(args) > 1 else 0) % first.ndim != 1:
                raise ValueError("maps are joined other than by channels")
            return _reduce(maps)
        if name in ("mean", "_adaptive_avg_pool2d", "adaptive_avg_pool2d") and _is_global(name, args, first):
            return None
        if name in _CHANNEL_SLICES and (args[2] if len(args) > 2 else 0) % first.ndim < 2:
            return maps[0]
        rule = _WINDOWS.get(name)
        if rule is None:
            raise ValueError(f"operation {name!r} does not keep cells on a regular grid, or is not known to")
        vertical, horizontal = rule(maps[0], args)
        return vertical, horizontal


def _tensors(values: Iterable[Any]) -> Iterable[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _reduce(maps: Sequence[_Map]) -> _Map:
    vertical, horizontal = maps[0]
    for other in maps[1:]:
        vertical, horizontal = vertical.union(other[0]), horizontal.union(other[1])
    return vertical, horizontal


def _is_global(name: str, args: tuple[Any, ...], tensor: torch.Tensor) -> bool:
    if name == "mean":
        return len(args) > 1 and {axis % tensor.ndim for axis in args[1]} >= {2, 3}
    return list(args[1]) == [1, 1]


def _pair(values: Any, default: Sequence[int] = (1, 1)) -> tuple[int, int]:
    if isinstance(values, int):
        return values, values
    values = list(values) or list(default)
    return values[0], values[-1]


def _windows(axes: _Map, kernel: tuple[int, int], stride: Any, padding: Any, dilation: Any) -> _Map:
    strides, paddings, dilations = _pair(stride, kernel), _pair(padding), _pair(dilation)
    vertical, horizontal = (axes[i].window(kernel[i], strides[i], paddings[i], dilations[i]) for i in (0, 1))
    return vertical, horizontal


def _convolution(axes: _Map, args: tuple[Any, ...]) -> _Map:
    _, weight, _, stride, padding, dilation, transposed, *_ = args
    if transposed:
        raise ValueError("a transposed convolution gives cells of different fields")
    return _windows(axes, (weight.shape[2], weight.shape[3]), stride, padding, dilation)


def _pooling(axes: _Map, args: tuple[Any, ...]) -> _Map:
    kernel = _pair(args[1])
    stride = args[2] if len(args) > 2 else ()
    padding = args[3] if len(args) > 3 else 0
    # The fifth argument of max pooling is its dilation; average pooling has ceil_mode there, a bool.
    dilation = args[4] if len(args) > 4 and not isinstance(args[4], bool) else 1
    return _windows(axes, kernel, stride, padding, dilation)


def _padding(axes: _Map, args: tuple[Any, ...]) -> _Map:
    amounts = list(args[1])
    if len(amounts) != 4:
        raise ValueError("padding of other axes than height and width")
    left, _, top, _ = amounts
    return axes[0].window(1, 1, top, 1), axes[1].window(1, 1, left, 1)


_WINDOWS: dict[str, Callable[[_Map, tuple[Any, ...]], _Map]] = {
    "convolution": _convolution,
    "max_pool2d_with_indices": _pooling,
    "avg_pool2d": _pooling,
    "constant_pad_nd": _padding,
}
