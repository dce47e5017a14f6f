"""Read image files to (H, W, 3) uint8 RGB arrays, write them, and find them in folders."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from itertools import islice
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
)
from detector.images.opencv import without_messages
from detector.images.resizing import check_image
from detector.runtime.files import open_binary, replacing

if TYPE_CHECKING:
    from PIL.Image import Image

ImageLike: TypeAlias = "NDArray[np.uint8] | Image | str | Path | bytes | BinaryIO"
"""Image as an array, a PIL image, a path or URL, or the bytes of an image file or a file object of them."""

DEFAULT_MAX_PIXELS = 100_000_000
WRITTEN_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"))
"""Extensions of the formats that can be written."""
_HEIC_SUFFIXES = frozenset((".heic", ".heif", ".hif"))
SUFFIXES = WRITTEN_SUFFIXES | _HEIC_SUFFIXES | {".jpe", ".jfif", ".dib", ".gif", ".avif"}
"""Extensions of image files in folders."""
_UNREAD_SUFFIXES = {
    ".jxl": "JPEG XL",
    **dict.fromkeys((".jp2", ".j2k", ".jpx"), "JPEG 2000"),
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".raf", ".rw2"), "raw"),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), "PNM"),
    ".psd": "Photoshop",
    ".exr": "OpenEXR",
    ".hdr": "Radiance",
}
_MAX_SEARCHED = 10_000
_log = logging.getLogger(__name__)


def read_image(path: str | Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIC file (first frame) as (H, W, 3) uint8 RGB.

    The format is recognized by content, not by name. HEIC needs the extra ``heic``. Kinds of a format that no decoder
    reads exactly are refused by name, such as TIFFs of signed integers or of deep planes, and JPEGs of 12 bits. The
    EXIF orientation is applied. Transparent pixels are laid on white. 16-bit values are scaled to 8 bits;
    floating-point values are scaled from 0..1, or from 0..maximum where the maximum is above 1. Color profiles are
    ignored. URLs such as "s3://bucket/dog.jpg" are read by fsspec, the extra ``cloud``.

    Raises OSError for a file that cannot be opened, and ValueError for one that is not a complete image or has more
    than ``max_pixels`` pixels, before decoding it; both with one line "path: reason".
    """
    try:
        with open_binary(path) as file:
            start = file.read(START_LENGTH)
            # a film or a disk image given by mistake is not read any further
            data = start + file.read() if image_format(start) else start
    except OSError as error:
        raise type(error)(f"{path}: {error.strerror or error}") from error
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
        raise type(error)(f"{path}: {error.strerror or error}") from error
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
    try:
        with without_messages():
            encoded, data = cv2.imencode(path.suffix, bgr)
    except cv2.error:
        encoded = False
    if not encoded:
        raise OSError(f"{path}: the format cannot hold {bgr.shape[1]} x {bgr.shape[0]} pixels")
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(data.tobytes())
    except OSError as error:
        raise type(error)(f"{path}: {error.strerror or error}") from error


def find_images(patterns: Sequence[str]) -> list[Path]:
    """Return the image files of command-line arguments, in their order, each file once.

    An argument is a file, a folder (the images directly in it) or a glob pattern (``**`` crosses folders). Folders and
    globs are searched for the extensions in `SUFFIXES`, without hidden files, in natural order (2 before 10). Images of
    formats that are not read are left out, with a warning. A missing path is returned, so that reading it reports it.
    Raises ValueError for a folder or a pattern without an image.
    """
    found: dict[str, Path] = {}
    for pattern in patterns:
        path = Path(pattern)
        if os.path.isdir(pattern):  # noqa: PTH112 (unlike Path.is_dir, it raises no error for a folder without permission)
            matches, left_out = _images_among(path.iterdir())
        elif glob.has_magic(pattern) and not os.path.lexists(pattern):
            # Path.glob would refuse absolute patterns
            matches, left_out = _images_among(Path(match) for match in glob.iglob(pattern, recursive=True))  # noqa: PTH207
        else:
            matches, left_out = [path], ""
        if not matches:
            raise ValueError("; ".join(filter(None, [f"{pattern}: no image found", left_out, _in_subfolders(path)])))
        if left_out:
            _log.warning("%s: %s", pattern, left_out)
        for match in matches:
            # unlike Path.resolve, it accepts a link that leads to itself: reading it reports it
            found.setdefault(os.path.realpath(match), match)
    return list(found.values())


def _images_among(paths: Iterable[Path]) -> tuple[list[Path], str]:
    """Return the images among files, and the line about those that are left out."""

    def natural_order(path: Path) -> tuple[list[str | int], str]:
        pieces = re.split(r"([0-9]+)", str(path).lower())
        return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], str(path)

    unread = dict(_UNREAD_SUFFIXES)
    if find_spec("pillow_heif") is None:
        unread |= dict.fromkeys(_HEIC_SUFFIXES, "HEIC")
    images, left_out = [], Counter[str]()
    for path in paths:
        suffix = path.suffix.lower()
        if (suffix in SUFFIXES or suffix in unread) and not path.name.startswith(".") and path.is_file():
            if suffix in unread:
                left_out[unread[suffix]] += 1
            else:
                images.append(path)
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(left_out.items()))
    advice = "; pip install 'spp-detector[heic]' reads HEIC" if "HEIC" in left_out else ""
    line = f"images of formats that are not read are left out ({kinds}){advice}" if left_out else ""
    return sorted(images, key=natural_order), line


def _in_subfolders(folder: Path) -> str:
    """Return the line about images in subfolders, if there are some; not all of a large tree are searched."""
    for path in islice(folder.glob("*/**/*"), _MAX_SEARCHED) if folder.is_dir() else ():
        if path.suffix.lower() in SUFFIXES:
            return f"there are some in subfolders: give '{folder}/**'"
    return ""
