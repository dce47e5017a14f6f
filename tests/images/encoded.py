"""An image in the files of real encoders."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detector.images.files import read_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
# Red and green above blue and white, with a ramp between, so that no two orientations look alike.
IMAGE = np.zeros((48, 80, 3), np.uint8)
IMAGE[:24, :40], IMAGE[:24, 40:], IMAGE[24:, :40], IMAGE[24:, 40:] = RED, GREEN, BLUE, WHITE
IMAGE[16:32, 20:60] = np.arange(16 * 40).reshape(16, 40, 1) // 3

FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"]
LOSSLESS: dict[str, dict[str, Any]] = {"PNG": {}, "WEBP": {"lossless": True}, "BMP": {}, "TIFF": {}}


def encode(source: Image.Image | NDArray[Any], kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image = source if isinstance(source, Image.Image) else Image.fromarray(source)
    image.save(stream, kind, **options)
    return stream.getvalue()


def read_bytes(folder: Path, data: bytes, name: str = "image", **options: Any) -> NDArray[np.uint8]:
    path = folder / name
    path.write_bytes(data)
    image = read_image(path, **options)
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.flags.c_contiguous
    return image
