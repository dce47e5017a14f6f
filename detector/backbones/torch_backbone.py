"""Convolutional networks ready for inference: image -> feature map."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from detector.backbones.loading import Network, first_line, load_network, named_sizes
from detector.backbones.tracing import Geometry
from detector.backbones.truncation import State, network_arrays
from detector.backbones.weights import tensors_digest
from detector.images.resizing import check_image
from detector.runtime.openvino import Precision, has_bfloat16
from detector.runtime.threads import limit_torch_threads


class TorchBackbone:
    """A network up to one stage, with its preprocessing: (H, W, 3) uint8 RGB -> (C, h, w) float32.

    It takes the network over and makes it ready for inference.
    name, stage: as they were asked for.
    channels, geometry: of the feature map.
    device, precision: of the computation; the precision is not "auto".
    digest: SHA-256, in hexadecimal, of the names, types, shapes and values of the weights up to the stage.
    tuned: tensors by name that took the place of the network's own.
    """

    runtime = "torch"

    def __init__(self, network: Network, device: str = "cpu", precision: Precision = "float32") -> None:
        module = network.module.eval()
        self.name = network.name
        self.stage = network.stage
        self.tuned = network.tuned
        self.channels = module.channels
        self.geometry: Geometry = module.geometry
        self.tensors = network_arrays(module.network)
        self.digest = tensors_digest(self.tensors)
        self.device = torch.device(device)
        self.precision = precision
        self._dtype: torch.dtype = getattr(torch, precision)
        module.fold_batch_norms()
        limit_torch_threads()
        self.network = module.to(device, self._dtype).to(memory_format=torch.channels_last)
        self._preprocessing = network.preprocessing.to(device)

    def preprocess(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """(H, W, 3) uint8 RGB -> the (1, 3, H, W) input of the network."""
        return self._preprocessing(check_image(image)[None]).to(self._dtype)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> (N, C, h, w) feature maps, in the precision of the network."""
        with torch.inference_mode():
            maps: torch.Tensor = self.network(pixels)
        return maps

    def __call__(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """(H, W, 3) uint8 RGB -> (C, h, w) float32 feature map, on the backbone's device.

        Raises ValueError when the image is not of that shape and type, or of a size that the network cannot take.
        """
        return self.maps(check_image(image)[None])[0]

    def feature_map(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The map of an image as (h, w, C) array, see `Backbone`."""
        # channels last: the pooling reads all channels of a cell together
        return np.ascontiguousarray(self(image).permute(1, 2, 0).numpy(force=True))

    def maps(self, images: NDArray[np.uint8]) -> torch.Tensor:
        """(N, H, W, 3) uint8 RGB -> (N, C, h, w) float32 feature maps of images of one size.

        Raises ValueError for a size that the network cannot take.
        """
        with torch.inference_mode(), named_sizes(images):
            return self.forward(self._preprocessing(images).to(self._dtype)).float()


def load_torch_backbone(
    name: str,
    stage: str | None = None,
    weights: str | Path | State | None = None,
    device: str = "cpu",
    precision: Precision = "float32",
    tuned: str | Path | State | None = None,
) -> TorchBackbone:
    """The network of `load_network`, in inference mode.

    precision: of the computation; the map is float32 always. bfloat16 is fast on processors that have it
        (AVX-512 BF16, AMX), slow on others; "auto" takes it where it is fast, float32 elsewhere.
    Raises also ValueError: device or precision unknown.
    """
    precision = usable_precision(precision, device)
    return TorchBackbone(load_network(name, stage, weights, tuned), device, precision)


def usable_precision(precision: Precision, device: str) -> Precision:
    """A precision, "auto" resolved to what is fast on a device. Raises ValueError: device or precision unknown."""
    if precision not in get_args(Precision):
        raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}, but got {precision!r}")
    _check_device(device)
    if precision == "auto":
        return "bfloat16" if _has_fast_bfloat16(device) else "float32"
    return precision


def _check_device(device: str) -> None:
    try:
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r} cannot be used: {first_line(error)}") from error


def _has_fast_bfloat16(device: str) -> bool:
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported()
    return has_bfloat16()
