"""Truncate a network after one of its modules, fill it with weights, and prepare it for inference."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from detector.backbones.geometry import Geometry
from detector.backbones.networks import Block
from detector.backbones.tracing import network_geometry
from detector.backbones.weights import Arrays, check_tensors, tensors_digest

State = Mapping[str, torch.Tensor]


class Truncated(nn.Module):
    """Network in evaluation mode that stops after one of its modules and returns that module's output.

    Modules that the stage does not need are dropped. channels, geometry: of the feature map.
    Raises ValueError for an unknown module, and for one without a feature map of regular geometry.
    """

    def __init__(self, network: nn.Module, stage: str) -> None:
        super().__init__()
        self.network = network
        self._last = [_find(network, stage)]  # in a list, or it would become a submodule a second time

        def stop(_module: nn.Module, _inputs: Any, output: Any) -> None:
            raise StageReached(output)

        self._last[0].register_forward_hook(stop)
        self.eval()
        self.geometry, self.channels = self._probe()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the (N, channels, h, w) maps of (N, 3, H, W) input."""
        try:
            self.network(pixels)
        except StageReached as reached:
            if isinstance(reached.output, torch.Tensor) and reached.output.ndim == 4:
                return reached.output
            raise ValueError("it gives no feature map") from None
        raise ValueError("the network does not pass through it")

    def _probe(self) -> tuple[Geometry, int]:
        used: set[nn.Module] = set()
        channels: list[int] = []
        handles = [
            module.register_forward_pre_hook(lambda module, _inputs: used.add(module))
            for module in self.network.modules()
        ]
        handles.append(self.register_forward_hook(lambda *call: channels.append(call[2].shape[1])))
        geometry = network_geometry(self)
        for handle in handles:
            handle.remove()
        _drop(self.network, used)
        return geometry, channels[0]

    def fold_batch_norms(self) -> None:
        """Fold batch normalizations into the convolutions before them, in plain sequences of layers."""
        for block in self.network.modules():
            if not isinstance(block, Block):
                continue
            layers = list(block.named_children())
            for (name, layer), (next_name, norm) in itertools.pairwise(layers):
                if not isinstance(layer, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
                    continue
                if norm is not self._last[0]:
                    setattr(block, name, fuse_conv_bn_eval(layer, norm))
                    setattr(block, next_name, nn.Identity())


class StageReached(Exception):  # noqa: N818 (a signal, not an error)
    """Signal that carries the output of a stage out of the network."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


def _find(network: nn.Module, stage: str) -> nn.Module:
    try:
        return network.get_submodule(stage)
    except AttributeError as error:
        names = ", ".join(name for name, _ in network.named_children())
        raise ValueError(f"no such stage; there are {names}, and what is in them") from error


def _drop(module: nn.Module, used: set[nn.Module]) -> None:
    for name, child in module.named_children():
        if used.isdisjoint(child.modules()):
            setattr(module, name, nn.Identity())
        else:
            _drop(child, used)


def fill(network: nn.Module, state: State, source: str) -> None:
    """Copy the tensors of the network from a state, which may hold more; other types are converted.

    Raises ValueError, with the source and the first tensor that is missing or has another shape.
    """
    wanted = network.state_dict()
    check_tensors({name: tuple(tensor.shape) for name, tensor in wanted.items()}, state, source)
    network.load_state_dict({name: state[name] for name in wanted})


def network_arrays(network: nn.Module) -> Arrays:
    """Return copies of all tensors of a network, by name."""
    return {name: tensor.detach().cpu().contiguous().numpy().copy() for name, tensor in network.state_dict().items()}


def network_digest(network: nn.Module) -> str:
    """Return the `tensors_digest` of all tensors of a network."""
    return tensors_digest(network_arrays(network))
