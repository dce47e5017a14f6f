"""Load convolutional networks by name, with their preprocessing and weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detector.backbones import efficientnet_lite as lite0
from detector.backbones import networks
from detector.backbones.truncation import State, Truncated, fill
from detector.backbones.weights import origin, read_weights
from detector.runtime.optional import optional

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Preprocessing(nn.Module):
    """(pixels / 255 - mean) / std, with mean and std by input channel; ``bgr``: channels are BGR, not RGB."""

    def __init__(
        self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD, bgr: bool = False
    ) -> None:
        super().__init__()
        # as one multiplication and one subtraction
        divisor = torch.tensor(std).view(3, 1, 1)
        self.register_buffer("factor", 1 / (255 * divisor), persistent=False)
        self.register_buffer("shift", torch.tensor(mean).view(3, 1, 1) / divisor, persistent=False)
        self.bgr = bgr

    def forward(self, images: NDArray[np.uint8]) -> torch.Tensor:
        """(N, H, W, 3) uint8 RGB -> (N, 3, H, W) float32, on the device of this module."""
        factor, shift = self.get_buffer("factor"), self.get_buffer("shift")
        channels = images[..., ::-1] if self.bgr else images
        pixels = torch.tensor(np.ascontiguousarray(channels), device=factor.device).permute(0, 3, 1, 2)
        return (pixels * factor).sub_(shift)


@dataclass(frozen=True)
class _Source:
    """Network before it is truncated, and the source of its weights."""

    network: nn.Module
    stage: str
    preprocessing: Preprocessing
    own_weights: Callable[[], State]


@dataclass(frozen=True)
class Network:
    """Network up to one stage, in float32, ready for training.

    name, stage: as given to `load_network`.
    module: (N, 3, H, W) to (N, C, h, w), in evaluation mode.
    preprocessing: (N, H, W, 3) uint8 RGB to the module's input.
    """

    name: str
    stage: str | None
    module: Truncated
    preprocessing: Preprocessing

    def maps(self, images: NDArray[np.uint8]) -> torch.Tensor:
        """Return the (N, C, h, w) float32 feature maps of (N, H, W, 3) uint8 RGB images of one size, with gradients.

        Raises ValueError for a size that the network cannot take.
        """
        with named_sizes(images):
            maps: torch.Tensor = self.module(self.preprocessing(images))
        return maps


@contextmanager
def named_sizes(images: NDArray[np.uint8]) -> Iterator[None]:
    """Turn torch's errors about the size of ``(N, H, W, 3)`` images into a ValueError with the size."""
    try:
        yield
    except RuntimeError as error:
        height, width = images.shape[1:3]
        raise ValueError(
            f"the network cannot take an image of {width} x {height} pixels: {first_line(error)}"
        ) from error


def load_network(
    name: str,
    stage: str | None = None,
    weights: str | Path | State | None = None,
) -> Network:
    """Load the network of that name, truncated after a stage.

    name: efficientnet_lite0, alexnet, vgg16, zf5, zf5/WIDTH with WIDTH times its channels ("zf5/0.25"), or timm/NAME
        for any convolutional network of timm.
    stage: dotted name of the module whose output is the map ("blocks.4", "layer3"); None: the last one, which
        timm/NAME does not have.
    weights: None: the network's ImageNet weights (efficientnet_lite0's are installed, the others' are downloaded);
        "random": seeded, untrained; the tensors by name; or a path or name as in `read_weights`.
    Raises ValueError: name or stage unknown, no regular geometry, weights that do not fit; OSError: weights that
    cannot be read or downloaded.
    """
    family, _, model = name.partition("/")
    if (builder := _BUILDERS.get(family)) is None or bool(model) not in _HAS_MODELS.get(family, (False,)):
        raise ValueError(f"unknown backbone {name!r}; known are {', '.join(_BUILDERS)}/NAME")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        source = builder(model, stage)
    state: State | None = None
    if weights is None:
        state = source.own_weights()
    elif weights != "random":
        state = _state(weights)
    try:
        module = Truncated(source.network, source.stage)
    except (ValueError, RuntimeError, AssertionError) as error:
        raise ValueError(f"{name}, stage {source.stage}: {first_line(error)}") from error
    if state is not None:
        fill(source.network, state, origin(weights, name))
    return Network(name, stage, module, source.preprocessing)


def _efficientnet_lite0(_: str, stage: str | None) -> _Source:
    network = networks.efficientnet_lite0()

    def own_weights() -> State:
        return {name: torch.from_numpy(array) for name, array in lite0.published_weights().items()}

    return _Source(network, stage or "blocks", Preprocessing(lite0.MEAN, lite0.STD), own_weights)


def _alexnet(_: str, stage: str | None) -> _Source:
    network = networks.alexnet()
    return _Source(network, stage or "features", Preprocessing(), lambda: _torchvision_state("AlexNet_Weights"))


def _vgg16(_: str, stage: str | None) -> _Source:
    network = networks.vgg16()
    return _Source(network, stage or "features", Preprocessing(), lambda: _torchvision_state("VGG16_Weights"))


def _torchvision_state(weights: str) -> State:
    models = optional("torchvision.models", "torch")
    try:
        state: State = getattr(models, weights).DEFAULT.get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
    except OSError as error:
        raise OSError(
            f"torchvision's {weights} cannot be downloaded ({first_line(error)}); give weights=PATH, a safetensors file"
        ) from error
    return state


def _zf5(width: str, stage: str | None) -> _Source:
    try:
        network = networks.zf5(float(width or 1))
    except ValueError as error:
        raise ValueError(f"zf5/{width}: {error}") from error

    def own_weights() -> State:
        raise ValueError('zf5 has no public weights; give weights=PATH, a safetensors file, or weights="random"')

    # The release subtracts 128 from BGR pixels and divides by nothing.
    preprocessing = Preprocessing((128 / 255,) * 3, (1 / 255,) * 3, bgr=True)
    return _Source(network, stage or "relu5", preprocessing, own_weights)


def _timm(model: str, stage: str | None) -> _Source:
    timm = optional("timm", "torch")
    try:
        network = timm.create_model(model, pretrained=False)
    except RuntimeError as error:
        raise ValueError(f"timm/{model}: {first_line(error)}") from error
    if not stage:
        names = ", ".join(name for name, _ in network.named_children())
        raise ValueError(f"timm/{model} needs a stage; there are {names}, and what is in them")

    def own_weights() -> State:
        try:
            state: State = timm.create_model(model, pretrained=True).state_dict()
        except OSError as error:
            raise OSError(
                f"timm/{model}: its weights cannot be downloaded ({first_line(error)}); "
                "give weights=PATH, a safetensors file"
            ) from error
        except RuntimeError as error:
            raise ValueError(f"timm/{model}: {first_line(error)}") from error
        return state

    cfg = network.pretrained_cfg
    return _Source(network, stage, Preprocessing(cfg["mean"], cfg["std"]), own_weights)


_BUILDERS: dict[str, Callable[[str, str | None], _Source]] = {
    "efficientnet_lite0": _efficientnet_lite0,
    "alexnet": _alexnet,
    "vgg16": _vgg16,
    "zf5": _zf5,
    "timm": _timm,
}
# whether a name after a slash is there, where it may be
_HAS_MODELS = {"timm": (True,), "zf5": (False, True)}


def _state(weights: str | Path | State) -> State:
    if isinstance(weights, Mapping):
        return weights
    return {name: torch.from_numpy(np.array(array)) for name, array in read_weights(weights).items()}


def first_line(error: BaseException) -> str:
    """Return the first line of the message of an exception, or its type where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
