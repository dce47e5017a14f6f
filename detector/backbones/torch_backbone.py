"""Compute a convolutional network with torch: image to feature map."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from detector.backbones.geometry import Geometry
from detector.backbones.loading import Network, first_line, load_network, named_sizes
from detector.backbones.truncation import State, network_arrays
from detector.backbones.weights import tensors_digest
from detector.images.resizing import check_image
from detector.runtime.environment import SetupError
from detector.runtime.openvino import Precision, has_bfloat16
from detector.runtime.threads import limit_torch_threads

_MAX_REASON = 120  # characters


class TorchBackbone:
    """Network up to one stage, with its preprocessing; callable from (H, W, 3) uint8 RGB to (C, h, w) float32.

    Takes over the network and prepares it for inference; attributes are those of `backbone.Backbone`.
    """

    runtime = "torch"

    def __init__(self, network: Network, device: str = "cpu", precision: Precision = "float32") -> None:
        module = network.module.eval()
        self.name = network.name
        self.stage = network.stage
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
        """Return the (1, 3, H, W) input of the network for an (H, W, 3) uint8 RGB image."""
        return self._preprocessing(check_image(image)[None]).to(self._dtype)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return (N, C, h, w) feature maps of (N, 3, H, W) input, in the precision of the network."""
        with torch.inference_mode():
            maps: torch.Tensor = self.network(pixels)
        return maps

    def __call__(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """Return the (C, h, w) float32 feature map of an (H, W, 3) uint8 RGB image, on the backbone's device.

        Raises ValueError for another shape or type, and for a size that the network cannot take.
        """
        return self.maps(check_image(image)[None])[0]

    def feature_map(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the feature map of an image as an (h, w, C) array; see `backbone.Backbone`."""
        # channels last: the pooling reads all channels of a cell together
        return np.ascontiguousarray(self(image).permute(1, 2, 0).numpy(force=True))

    def maps(self, images: NDArray[np.uint8]) -> torch.Tensor:
        """Return (N, C, h, w) float32 feature maps of (N, H, W, 3) uint8 RGB images of one size.

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
) -> TorchBackbone:
    """Load a network with `load_network`, in inference mode.

    precision: of the computation; the map is always float32. bfloat16 is fast on processors that have it
        (AVX-512 BF16, AMX), slow on others; "auto" takes it where it is fast, float32 elsewhere.
    Raises also ValueError for an unknown device or precision.
    """
    precision = usable_precision(precision, device)
    return TorchBackbone(load_network(name, stage, weights), device, precision)


def usable_precision(precision: Precision, device: str) -> Precision:
    """Resolve the precision "auto" to the fast one of a device. Raises ValueError for an unknown one of either."""
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
        reason = textwrap.shorten(first_line(error), _MAX_REASON, placeholder=" ...")
        raise SetupError(f"device {device!r} cannot be used; use cpu or, with a GPU, cuda ({reason})") from error


def _has_fast_bfloat16(device: str) -> bool:
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported()
    return has_bfloat16()
