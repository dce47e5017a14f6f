"""Decode image files to (H, W, 3) uint8 RGB: formats, depths, transparency, orientation, damage."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from detector.images.opencv import without_messages
from detector.images.tiff import TiffHeader, read_deep_tiff, read_tiff_header, silence_libtiff
from detector.runtime.optional import MissingPackageError, optional

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
    finite = pixels.astype(np.float32)
    finite[~np.isfinite(finite)] = 0
    return np.maximum(finite, 0, out=finite)


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


FORMATS = "JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIC"
START_LENGTH = 32
"""Number of bytes that `image_format` needs."""

_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "TIFF": TiffImageFile,
    "AVIF": AvifImageFile,
}
_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"BM": "BMP",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
}
_UNREAD_MAGIC = {
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"MM\0+": "big-endian BigTIFF",
    b"8BPS": "Photoshop",
    b"\0\0\1\0": "icon",
    b"qoif": "QOI",
    b"\x76\x2f\x31\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance",
    **{f"P{kind}{end}".encode(): "PNM" for kind in "1234567" for end in " \n\r\t"},
}
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_ORIENTATION = 274
_MAX_BYTES = 16  # per pixel: four channels of 32 bits
_DEEP = 16
_header_lock = threading.Lock()


def image_format(start: bytes) -> str | None:
    """Return the format of a file from its first `START_LENGTH` bytes; None for an unsupported one."""
    if start.startswith(b"RIFF"):
        return "WebP" if start[8:12] == b"WEBP" else None
    if start[4:8] == b"ftyp":
        brands = {start[i : i + 4] for i in (8, *range(16, len(start), 4))}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        return "HEIC" if brands.intersection(_HEIC_BRANDS) else None
    return next((name for prefix, name in _MAGIC.items() if start.startswith(prefix)), None)


def decode_image(data: bytes, *, max_pixels: int) -> NDArray[np.uint8]:
    """Decode the bytes of an image file (first frame) to (H, W, 3) uint8 RGB.

    Raises ValueError, in one line, for other formats, kinds of them that no decoder reads exactly, damaged or truncated
    data, HEIC without its package, and a header with more than ``max_pixels`` pixels, before decoding it.
    """
    kind = _known_format(data[:START_LENGTH])
    header = _read_header(kind, io.BytesIO(data), max_pixels)
    if header.tiff is not None and header.tiff.is_deep:
        return to_rgb(_whole(kind, read_deep_tiff(data, header.tiff)), header.tiff.premultiplied)
    if not header.complete:
        raise _damaged(kind)
    image = _decoded(kind, data, header)
    if kind == "PNG" and header.depth == _DEEP:
        return oriented(to_rgb(_deep_png(data, image), premultiplied=False), header.orientation)
    # Pillow has turned TIFFs already
    return oriented(_rgb(image, kind), 1 if kind == "TIFF" else header.orientation)


class ImageHeader(NamedTuple):
    """Height and width as `decode_image` returns them, and the EXIF orientation 1..8 that it applies."""

    height: int
    width: int
    orientation: int


def decoded_header(file: BinaryIO, *, max_pixels: int) -> ImageHeader:
    """Return the header of an open image file, which is read no further.

    Raises the errors of `decode_image` that the header shows.
    """
    start = file.read(START_LENGTH)
    file.seek(0)
    header = _read_header(_known_format(start), file, max_pixels)
    if header.orientation in SIDEWAYS:
        return ImageHeader(header.width, header.height, header.orientation)
    return ImageHeader(header.height, header.width, header.orientation)


def _damaged(kind: str) -> ValueError:
    return ValueError(f"the {kind} data are damaged or cut off")


def _known_format(start: bytes) -> str:
    kind = image_format(start)
    if kind is None:
        name = next((name for prefix, name in _UNREAD_MAGIC.items() if start.startswith(prefix)), None)
        if name is not None:
            raise ValueError(f"{name} images are not read: save it as JPEG or PNG")
        raise ValueError(f"not a {FORMATS} image" if start else "the file is empty")
    return kind


class _Header(NamedTuple):
    """Header of a file: width and height as stored, EXIF orientation 1..8, tags of a TIFF.

    depth, complete: of a PNG, bits of a sample, and whether all chunks are in the file.
    """

    width: int
    height: int
    orientation: int
    depth: int = 8
    complete: bool = True
    tiff: TiffHeader | None = None


def _read_header(kind: str, file: BinaryIO, max_pixels: int) -> _Header:
    with _without_warnings():
        try:
            header = _tiff_header(file) if kind == "TIFF" else _other_header(kind, file)
        except MissingPackageError as error:
            raise ValueError(f"a {kind} image, but {error}") from None
        except Exception as error:  # parsers raise nearly every kind of exception on damaged data
            raise _refusal(kind, error) from error
    if header.width * header.height > max_pixels:
        raise ValueError(f"{header.width} x {header.height} pixels are more than the {max_pixels} allowed")
    if header.tiff is not None:
        if header.width * header.height * header.tiff.n_bytes > max_pixels * _MAX_BYTES:
            raise ValueError(
                f"{header.width} x {header.height} pixels of {header.tiff.n_bytes} bytes each are too many"
            )
        header.tiff.check()
    return header


def _refusal(kind: str, error: Exception) -> ValueError:
    """Return the error of a kind of file that Pillow does not read, or else of damage."""
    reason = str(error)
    unsupported = ("Unsupported", "unsupported", "not supported", "cannot handle", "unknown", "not available")
    if isinstance(error, OSError | SyntaxError | ValueError) and any(word in reason for word in unsupported):
        return ValueError(f"a {kind} image of a kind that is not read ({reason}): save it as 8-bit RGB")
    return _damaged(kind)


def _tiff_header(file: BinaryIO) -> _Header:
    tags = read_tiff_header(file)
    return _Header(tags.width, tags.height, _valid(tags.orientation), tiff=tags)


def _other_header(kind: str, file: BinaryIO) -> _Header:
    exif, depth, complete = b"", 8, True
    if kind == "PNG":
        depth, complete, exif = _png_chunks(file)
        file.seek(0)
    image = _reader(kind)(file)
    exif = exif or image.info.get("exif", b"")
    width, height = image.size
    return _Header(width, height, _orientation(exif), depth, complete)


def _reader(kind: str) -> Any:
    # the reader of the format itself: Image.open has a limit that only a global variable changes
    if kind == "HEIC":
        return optional("pillow_heif", "heic").HeifImageFile
    return _READERS[kind]


def _png_chunks(file: BinaryIO) -> tuple[int, bool, bytes]:
    """Return the bit depth of a PNG, whether it reaches its end, and its EXIF data; the pixels are skipped."""
    file.seek(24)
    depth, exif, name = file.read(1)[0], b"", b""
    file.seek(8)
    while name != b"IEND" and len(start := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", start)
        if name == b"eXIf":
            exif = file.read(length)
            length -= len(exif)
        file.seek(length + 4, io.SEEK_CUR)
    end = file.seek(0, io.SEEK_CUR)
    return depth, name == b"IEND" and end <= file.seek(0, io.SEEK_END), exif


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Ignore warnings of Pillow about metadata. A lock, since filters of warnings are those of the process."""
    with _header_lock, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _whole(kind: str, pixels: NDArray[Any] | None) -> NDArray[Any]:
    if pixels is None:
        raise _damaged(kind)
    return pixels


def _decoded(kind: str, data: bytes, header: _Header) -> Image.Image:
    """Return the decoded first frame as a Pillow image."""
    if kind == "TIFF":
        silence_libtiff()
    try:
        with _without_warnings():
            image: Image.Image = _reader(kind)(io.BytesIO(data))
        if header.depth < 8 and image.mode == "L" and isinstance(image.info.get("transparency"), int):
            image.info["transparency"] *= 255 // (2**header.depth - 1)  # Pillow scales the pixels, but not this gray
        image.load()
    except MemoryError:
        raise
    except Exception as error:
        refusal = _refusal(kind, error)
        if header.tiff is not None and (isinstance(error, SyntaxError | KeyError) or "not read" in str(refusal)):
            raise ValueError(header.tiff.refusal()) from error
        raise refusal from error
    return image


def _rgb(image: Image.Image, kind: str) -> NDArray[np.uint8]:
    """Return a Pillow image of eight bits as an array, on white where it is transparent."""
    try:
        if image.has_transparency_data:
            return to_rgb(cv2.cvtColor(np.asarray(image.convert("RGBA")), cv2.COLOR_RGBA2BGRA), premultiplied=False)
        return np.array(image.convert("RGB"))
    except ValueError as error:  # such as Lab
        raise ValueError(f"a {kind} image of a kind that is not read ({error}): save it as 8-bit RGB") from error


def _deep_png(data: bytes, image: Image.Image) -> NDArray[Any]:
    """Return the gray, BGR or BGRA pixels of a PNG of 16 bits, which Pillow decodes to 8.

    OpenCV prints what it finds damaged, so it gets only what Pillow has decoded, without metadata.
    """
    position, chunks = 8, []
    while position + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        if name in (b"IHDR", b"tRNS", b"IDAT"):
            chunks.append(data[position + 4 : position + 8 + length])
        position += 12 + length
    if not _is_complete(each[4:] for each in chunks if each.startswith(b"IDAT")):
        raise _damaged("PNG")
    parts = [
        struct.pack(">I", len(each) - 4) + each + struct.pack(">I", zlib.crc32(each)) for each in (*chunks, b"IEND")
    ]
    file = b"".join([data[:8], *parts])
    with without_messages():
        pixels = _whole("PNG", cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED))
    transparent = image.info.get("transparency")
    if pixels.ndim == 2 and isinstance(transparent, int):  # OpenCV leaves such a gray as it is
        pixels[pixels == transparent] = 65535
    return pixels


def _is_complete(parts: Iterable[bytes]) -> bool:
    """Return whether a zlib stream in parts reaches its end; little of it is held in memory."""
    stream = zlib.decompressobj()
    with suppress(zlib.error):
        for part in parts:
            while part and not stream.eof:
                stream.decompress(part, _BLOCK_PIXELS)
                part = stream.unconsumed_tail
    return stream.eof


def _orientation(exif: bytes) -> int:
    tags = Image.Exif()
    try:
        tags.load(exif)
        return _valid(tags.get(_ORIENTATION))
    except Exception:  # broken metadata do not make the image unreadable
        return 1


def _valid(orientation: object) -> int:
    return next((number for number in range(1, 9) if number == orientation), 1)
