"""The bytes of a picture file to (H, W, 3) uint8 RGB: formats, depths, transparency, orientation, damage."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from PIL.WebPImagePlugin import WebPImageFile

START_LENGTH = 12  # bytes that `picture_format` needs

_HEADER_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
}
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_EXTRA_SAMPLES, _ORIENTATION = 256, 257, 338, 274
_PREMULTIPLIED, _STRAIGHT = 1, 2  # values of ExtraSamples
_stderr_lock = threading.Lock()


def picture_format(start: bytes) -> str | None:
    """Name the format of a file from its first `START_LENGTH` bytes; None for one that is not read here."""
    if start.startswith(b"RIFF"):
        return "WebP" if start[8:12] == b"WEBP" else None
    magic = {
        b"\xff\xd8\xff": "JPEG",
        b"\x89PNG\r\n\x1a\n": "PNG",
        b"BM": "BMP",
        b"GIF87a": "GIF",
        b"GIF89a": "GIF",
        b"II*\0": "TIFF",
        b"MM\0*": "TIFF",
        b"II+\0": "TIFF",
    }
    return next((name for prefix, name in magic.items() if start.startswith(prefix)), None)


def decode_image(data: bytes, *, max_pixels: int) -> NDArray[np.uint8]:
    """Decode the bytes of a JPEG, PNG, WebP, BMP, TIFF or GIF (first frame) file to (H, W, 3) uint8 RGB.

    Raises ValueError, in one line, for data of another kind, damaged or cut-off data, and a header that
    promises more than ``max_pixels`` pixels (nothing is decoded then).
    """
    kind = picture_format(data[:START_LENGTH])
    if kind is None:
        raise ValueError("not a JPEG, PNG, WebP, BMP, TIFF or GIF picture" if data else "the file is empty")
    with silenced_stderr():
        width, height, extra_samples = _read_header(kind, data)
        if width * height > max_pixels:
            raise ValueError(f"{width} x {height} pixels are more than the {max_pixels} allowed")
        pixels, orientation = _read_pixels(kind, data)
    # libtiff's 8-bit reader premultiplies straight alpha; OpenCV reads deeper pictures without that reader.
    premultiplied = extra_samples == _PREMULTIPLIED or (extra_samples == _STRAIGHT and pixels.dtype == np.uint8)
    return _oriented(_to_rgb(_to_uint8(pixels), premultiplied), orientation)


@contextlib.contextmanager
def silenced_stderr() -> Iterator[None]:
    """Discard what decoders print: libpng and libjpeg write to descriptor 2 and cannot be told not to.

    One thread at a time, lest one restores what another has redirected.
    """
    with _stderr_lock, warnings.catch_warnings(), Path(os.devnull).open("wb") as nowhere:
        warnings.simplefilter("ignore")
        stderr = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _damaged(kind: str) -> ValueError:
    return ValueError(f"the {kind} data are damaged or cut off")


def _read_header(kind: str, data: bytes) -> tuple[int, int, int]:
    """Return width, height and, for TIFF, what the fourth channel means (ExtraSamples, else 0)."""
    stream = io.BytesIO(data)
    try:
        if kind == "PNG":
            _check_png_chunks(data)
        if kind != "TIFF":
            # The reader of the format itself: Image.open has a limit that only a global variable changes.
            width, height = _HEADER_READERS[kind](stream).size
            return width, height, 0
        # Pillow's reader refuses colour pictures of floating-point numbers; their tags are read all the same.
        tags = ImageFileDirectory_v2(data[: 16 if data[2] == 43 else 8])  # 43: BigTIFF
        stream.seek(tags.next)
        tags.load(stream)
        return int(tags[_TIFF_WIDTH]), int(tags[_TIFF_HEIGHT]), int(tags.get(_TIFF_EXTRA_SAMPLES, (0,))[0])
    except Exception as error:  # on damaged data the parsers raise nearly every kind of exception
        raise _damaged(kind) from error


def _check_png_chunks(data: bytes) -> None:
    """Raise unless the chunks lead to the end: OpenCV would allocate any length, up to gigabytes."""
    position, name = 8, b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, position)
        position += 12 + length
    if position > len(data):
        raise ValueError


def _read_pixels(kind: str, data: bytes) -> tuple[NDArray[Any], int]:
    """Return grey, BGR or BGRA pixels of any depth, and the EXIF orientation that is still to be obeyed."""
    try:
        pixels, metadata_kinds, metadata = cv2.imdecodeWithMetadata(
            np.frombuffer(data, np.uint8), flags=cv2.IMREAD_UNCHANGED
        )
    except cv2.error as error:
        raise _damaged(kind) from error
    if pixels is None:
        raise _damaged(kind)
    # None for TIFF, which OpenCV has turned already.
    exif = dict(zip(metadata_kinds, metadata, strict=True)).get(cv2.IMAGE_METADATA_EXIF)
    if exif is None:
        return pixels, 1
    tags = Image.Exif()
    try:
        tags.load(exif.tobytes())
        return pixels, int(tags.get(_ORIENTATION, 1))
    except Exception:  # broken metadata are no reason to refuse the picture
        return pixels, 1


def _to_uint8(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return cv2.convertScaleAbs(pixels, alpha=255 / 65535)
    values = np.nan_to_num(pixels.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0).clip(min=0)
    return np.rint(values * (255 / max(1.0, float(values.max())))).astype(np.uint8)


def _to_rgb(pixels: NDArray[np.uint8], premultiplied: bool) -> NDArray[np.uint8]:
    """Turn grey, BGR or BGRA into RGB, on white where it is transparent."""
    if pixels.ndim == 2:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    if pixels.shape[2] == 3:
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    colour = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB)
    alpha = pixels[..., 3:].astype(np.uint16)
    weighted = colour.astype(np.uint16) * (255 if premultiplied else alpha)
    white = 255 * (255 - alpha)
    # Premultiplied colours above their alpha are damage; the sum must not wrap around.
    return np.minimum((weighted.astype(np.uint32) + white + 127) // 255, 255).astype(np.uint8)


def _oriented(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn and mirror as EXIF's Orientation says: 5 to 8 swap rows and columns, then sides are mirrored."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
