"""Read image files to (H, W, 3) uint8 RGB arrays, write them, and find them in folders."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.images.decoding import (
    START_LENGTH,
    ImageHeader,
    decode_image,
    decoded_header,
    image_format,
    silenced_stderr,
)
from detector.images.resizing import check_image
from detector.runtime.files import open_binary, replacing

if TYPE_CHECKING:
    from PIL.Image import Image

ImageLike: TypeAlias = "NDArray[np.uint8] | Image | str | Path | bytes | BinaryIO"
"""Image as an array, a PIL image, a path or URL, or the bytes of an image file or a file object of them."""

DEFAULT_MAX_PIXELS = 100_000_000
SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"))
"""Extensions of image files in folders."""
WRITTEN_SUFFIXES = SUFFIXES - {".jpe", ".jfif", ".dib", ".gif"}
"""Extensions of the formats that can be written."""


def read_image(path: str | Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a JPEG, PNG, WebP, BMP, TIFF or GIF (first frame) file as (H, W, 3) uint8 RGB.

    The format is recognized by content, not by name. The EXIF orientation is applied. Transparent pixels are laid on
    white. 16-bit values are scaled to 8 bits; floating-point values are scaled from 0..1, or from 0..maximum where the
    maximum is above 1. Color profiles are ignored. URLs such as "s3://bucket/dog.jpg" are read by fsspec, the extra
    ``cloud``.

    Raises OSError for a file that cannot be opened, and ValueError for one that is not a complete image or has more
    than ``max_pixels`` pixels, of which nothing is decoded; both with one line "path: reason".
    """
    try:
        with open_binary(path) as file:
            start = file.read(START_LENGTH)
            # a film or a disk image given by mistake is not read any further
            data = start + file.read() if image_format(start) else start
    except OSError as error:
        raise type(error)(f"{path}: {error.strerror}") from error
    try:
        return decode_image(data, max_pixels=max_pixels)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def as_image(image: ImageLike) -> NDArray[np.uint8]:
    """Return an image of any of the kinds of `ImageLike` as an ``(H, W, 3)`` uint8 RGB array.

    PIL images are oriented and laid on white like files. File objects are read from where they are. Raises the errors
    of `read_image`, and ValueError for other arrays and for PIL images of more than 8 bits.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, bytes | bytearray | memoryview):
        return decode_image(bytes(image), max_pixels=DEFAULT_MAX_PIXELS)
    if hasattr(image, "read"):
        if not isinstance(data := image.read(), bytes):
            raise ValueError("an image file must be opened in binary mode: open(path, 'rb')")
        return decode_image(data, max_pixels=DEFAULT_MAX_PIXELS)
    if isinstance(image, np.ndarray) or not hasattr(image, "getexif"):
        return check_image(image)
    from PIL import Image, ImageOps

    if image.mode[0] in "IF":
        raise ValueError(f"a PIL image must have 8 bits per channel, but has mode {image.mode}; give its path instead")
    turned = ImageOps.exif_transpose(image)
    if turned.has_transparency_data:
        turned = Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned.convert("RGBA"))
    return check_image(np.asarray(turned.convert("RGB")))


def image_size(path: str | Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> tuple[int, int]:
    """Return height and width of an image file from its header only.

    Raises the errors of `read_image`, except for damage that the header does not show.
    """
    header = image_header(path, max_pixels=max_pixels)
    return header.height, header.width


def image_header(path: str | Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> ImageHeader:
    """Return height, width and EXIF orientation of an image file from its header only."""
    try:
        with open_binary(path) as file:
            return decoded_header(file, max_pixels=max_pixels)
    except OSError as error:
        raise type(error)(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def write_image(path: str | Path, image: NDArray[np.uint8]) -> None:
    """Write an (H, W, 3) uint8 RGB image in the format of the extension of ``path``.

    The file appears whole or not at all. Raises OSError with one line "path: reason".
    """
    path = Path(path)
    bgr = cv2.cvtColor(check_image(image), cv2.COLOR_RGB2BGR)
    # checked without the name, which may hold characters that OpenCV cannot read
    if not cv2.haveImageWriter(f"image{path.suffix}"):
        raise OSError(f"{path}: no image format has the extension '{path.suffix}'")
    with silenced_stderr():
        try:
            encoded, data = cv2.imencode(path.suffix, bgr)
        except cv2.error:
            encoded = False
    if not encoded:
        raise OSError(f"{path}: the format cannot hold {bgr.shape[1]} x {bgr.shape[0]} pixels")
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(data.tobytes())
    except OSError as error:
        raise type(error)(f"{path}: {error.strerror}") from error


def find_images(patterns: Sequence[str]) -> list[Path]:
    """Return the image files of command-line arguments, in their order, each file once.

    An argument is a file, a folder (the images directly in it) or a glob pattern (``**`` crosses folders). Folders and
    globs are searched for the extensions in `SUFFIXES`, without hidden files, in natural order (2 before 10). A missing
    path is returned, so that reading it reports it. Raises ValueError for a folder or a pattern without an image.
    """
    found: dict[str, Path] = {}
    for pattern in patterns:
        path = Path(pattern)
        if os.path.isdir(pattern):  # noqa: PTH112 (unlike Path.is_dir, it raises no error for a folder without permission)
            matches = _images_among(path.iterdir())
        elif glob.has_magic(pattern) and not os.path.lexists(pattern):
            # Path.glob would refuse absolute patterns
            matches = _images_among(Path(match) for match in glob.iglob(pattern, recursive=True))  # noqa: PTH207
        else:
            matches = [path]
        if not matches:
            raise ValueError(f"{pattern}: no image found")
        for match in matches:
            # unlike Path.resolve, it accepts a link that leads to itself: reading it reports it
            found.setdefault(os.path.realpath(match), match)
    return list(found.values())


def _images_among(paths: Iterable[Path]) -> list[Path]:
    def natural_order(path: Path) -> tuple[list[str | int], str]:
        pieces = re.split(r"([0-9]+)", str(path).lower())
        return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], str(path)

    images = (p for p in paths if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file())
    return sorted(images, key=natural_order)
