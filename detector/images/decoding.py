"""Decode image files to (H, W, 3) uint8 RGB: formats, depths, transparency, orientation, damage."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

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

SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap rows and columns."""
_BLOCK_PIXELS = 1 << 22


def to_rgb(pixels: NDArray[Any], premultiplied: bool) -> NDArray[np.uint8]:
    """Convert gray, BGR or BGRA pixels of any depth to RGB of 8 bits, on white where they are transparent.

    Works on some rows at a time, since intermediate arrays take many times the memory of the image.
    """
    height, width = pixels.shape[:2]
    step = max(1, _BLOCK_PIXELS // max(1, width))
    blocks = [slice(top, top + step) for top in range(0, height, step)]
    scale = 0.0
    if pixels.dtype not in (np.uint8, np.uint16):
        scale = 255 / max([1.0, *(float(_finite(pixels[rows]).max()) for rows in blocks)])
    if len(blocks) == 1:
        return _on_white(_to_uint8(pixels, scale), premultiplied)
    image = np.empty((height, width, 3), np.uint8)
    for rows in blocks:
        image[rows] = _on_white(_to_uint8(pixels[rows], scale), premultiplied)
    return image


def _finite(pixels: NDArray[Any]) -> NDArray[np.float32]:
    return np.nan_to_num(pixels.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0).clip(min=0)


def _to_uint8(pixels: NDArray[Any], scale: float) -> NDArray[np.uint8]:
    """Convert pixels to 8 bits; floating-point values are multiplied by ``scale``."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return cv2.convertScaleAbs(pixels, alpha=255 / 65535)
    return np.rint(_finite(pixels) * np.float32(scale)).astype(np.uint8)


def _on_white(pixels: NDArray[np.uint8], premultiplied: bool) -> NDArray[np.uint8]:
    if pixels.ndim == 2:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    if pixels.shape[2] == 3:
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    color = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB)
    alpha = pixels[..., 3:].astype(np.uint16)
    weighted = color.astype(np.uint16) * (255 if premultiplied else alpha)
    white = 255 * (255 - alpha)
    # premultiplied colors above their alpha are damage; the sum must not wrap around
    return np.minimum((weighted.astype(np.uint32) + white + 127) // 255, 255).astype(np.uint8)


def oriented(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Apply an EXIF orientation: 5 to 8 swap rows and columns, then sides are mirrored."""
    if orientation in SIDEWAYS:
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


START_LENGTH = 12
"""Number of bytes that `image_format` needs."""

_HEADER_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
}
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_EXTRA_SAMPLES, _ORIENTATION = 256, 257, 338, 274
_PREMULTIPLIED, _STRAIGHT = 1, 2  # values of ExtraSamples
_TIFF_BITS, _TIFF_SAMPLES = 258, 277
_MAX_BYTES = 16  # per pixel: four channels of 32 bits
_SHORT_CHUNK = 13  # bytes of IHDR
_stderr_lock = threading.Lock()


def image_format(start: bytes) -> str | None:
    """Return the format of a file from its first `START_LENGTH` bytes; None for an unsupported one."""
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

    Raises ValueError, in one line, for other formats, damaged or truncated data, and a header with more than
    ``max_pixels`` pixels, of which nothing is decoded.
    """
    kind = _known_format(data[:START_LENGTH])
    with silenced_stderr():
        chunks = _png_chunks(data) if kind == "PNG" else {}
        meaning = _read_header(kind, io.BytesIO(data), max_pixels).extra_samples
        pixels, orientation = _read_pixels(kind, data)
    if b"tRNS" in chunks and pixels.ndim == 2:
        _whiten(pixels, depth=chunks[b"IHDR"][8], transparent=chunks[b"tRNS"])
    # libtiff's 8-bit reader premultiplies straight alpha; OpenCV reads deeper images without that reader
    premultiplied = meaning == _PREMULTIPLIED or (meaning == _STRAIGHT and pixels.dtype == np.uint8)
    return oriented(to_rgb(pixels, premultiplied), orientation)


class ImageHeader(NamedTuple):
    """Height and width as `decode_image` returns them, and the EXIF orientation 1..8 that it applies."""

    height: int
    width: int
    orientation: int


def decoded_header(file: BinaryIO, *, max_pixels: int) -> ImageHeader:
    """Return the header of an open image file, which is read no further.

    Raises the ValueErrors of `decode_image` that the header shows.
    """
    start = file.read(START_LENGTH)
    file.seek(0)
    with silenced_stderr():
        header = _read_header(_known_format(start), file, max_pixels)
    orientation = next((number for number in range(1, 9) if number == header.orientation), 1)
    if orientation in SIDEWAYS:
        return ImageHeader(header.width, header.height, orientation)
    return ImageHeader(header.height, header.width, orientation)


@contextlib.contextmanager
def silenced_stderr() -> Iterator[None]:
    """Discard the output of decoders: libpng and libjpeg always write to descriptor 2.

    Holds a lock: another thread would restore what this one has redirected.
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


def _known_format(start: bytes) -> str:
    kind = image_format(start)
    if kind is None:
        raise ValueError("not a JPEG, PNG, WebP, BMP, TIFF or GIF image" if start else "the file is empty")
    return kind


class _Header(NamedTuple):
    """Header of a file: width and height as stored, EXIF orientation, and TIFF's meaning of the channels."""

    width: int
    height: int
    orientation: object  # only compared: a file may hold anything here
    extra_samples: int = 0  # meaning of the fourth channel
    n_bytes: int = 8  # maximum per pixel


def _read_header(kind: str, file: BinaryIO, max_pixels: int) -> _Header:
    try:
        header = _read_tiff_header(file) if kind == "TIFF" else _read_other_header(kind, file)
    except Exception as error:  # parsers raise nearly every kind of exception on damaged data
        raise _damaged(kind) from error
    if header.width * header.height > max_pixels:
        raise ValueError(f"{header.width} x {header.height} pixels are more than the {max_pixels} allowed")
    if header.width * header.height * header.n_bytes > max_pixels * _MAX_BYTES:
        raise ValueError(f"{header.width} x {header.height} pixels of {header.n_bytes} bytes each are too many")
    return header


def _read_other_header(kind: str, file: BinaryIO) -> _Header:
    # the reader of the format itself: Image.open has a limit that only a global variable changes
    reader = _HEADER_READERS[kind](file)
    return _Header(*reader.size, _orientation(reader.info.get("exif", b"")))


def _read_tiff_header(file: BinaryIO) -> _Header:
    # only the tags: Pillow's reader refuses color images of floating-point numbers
    start = file.read(16)
    tags = ImageFileDirectory_v2(start[: 16 if start[2] == 43 else 8])  # 43: BigTIFF
    file.seek(tags.next)
    tags.load(file)
    extra_samples = int(tags.get(_TIFF_EXTRA_SAMPLES, (0,))[0])
    n_bytes = -(-int(tags.get(_TIFF_SAMPLES, 1)) * max(map(int, tags.get(_TIFF_BITS, (1,)))) // 8)
    return _Header(int(tags[_TIFF_WIDTH]), int(tags[_TIFF_HEIGHT]), tags.get(_ORIENTATION), extra_samples, n_bytes)


def _png_chunks(data: bytes) -> dict[bytes, bytes]:
    """Return the short chunks by name; ValueError unless all end in the file: OpenCV would allocate any length."""
    position, name, found = 8, b"", {}
    while name != b"IEND":
        if position + 8 > len(data):
            raise _damaged("PNG")
        length, name = struct.unpack_from(">I4s", data, position)
        if length <= _SHORT_CHUNK:
            found[name] = data[position + 8 : position + 8 + length]
        position += 12 + length
    if position > len(data) or len(found.get(b"IHDR", b"")) < _SHORT_CHUNK:
        raise _damaged("PNG")
    return found


def _whiten(pixels: NDArray[Any], depth: int, transparent: bytes) -> None:
    """Whiten the transparent gray value of a gray PNG, which OpenCV leaves as it is."""
    value = int.from_bytes(transparent, "big")
    if depth < 8:
        value = value * 255 // (2**depth - 1)
    pixels[pixels == value] = np.iinfo(pixels.dtype).max


def _read_pixels(kind: str, data: bytes) -> tuple[NDArray[Any], int]:
    """Return gray, BGR or BGRA pixels of any depth, and the EXIF orientation that is still to be applied."""
    try:
        pixels, metadata_kinds, metadata = cv2.imdecodeWithMetadata(
            np.frombuffer(data, np.uint8), flags=cv2.IMREAD_UNCHANGED
        )
    except cv2.error as error:
        raise _damaged(kind) from error
    if pixels is None:
        raise _damaged(kind)
    # None for TIFF, which OpenCV has oriented already
    exif = dict(zip(metadata_kinds, metadata, strict=True)).get(cv2.IMAGE_METADATA_EXIF)
    return pixels, 1 if exif is None else _orientation(exif.tobytes())


def _orientation(exif: bytes) -> int:
    tags = Image.Exif()
    try:
        tags.load(exif)
        return int(tags.get(_ORIENTATION, 1))
    except Exception:  # broken metadata do not make the image unreadable
        return 1
