"""TIFF files: which kinds are read, by which decoder, and how their numbers are meant."""

from __future__ import annotations

import ctypes
import io
import struct
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from detector.images.opencv import without_messages

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_ORIENTATION, _SAMPLES, _PLANAR, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 274, 277, 284, 338, 339
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_PHOTOMETRICS = {0: "gray", 1: "gray", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "Lab"}
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_NUMBERS = {_UNSIGNED: "unsigned integers", _SIGNED: "signed integers", _FLOAT: "floating-point numbers"}
_SEPARATE = 2
_OPENCV_COMPRESSIONS = (1, 5, 8, 32773, 32946)
"""None, LZW, Deflate, PackBits, and Deflate as it was numbered before."""
_TYPE_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 2, 8, 8, 8, 8)
PREMULTIPLIED, STRAIGHT = 1, 2
"""Values of ExtraSamples: what the fourth channel of an image is."""


class TiffHeader(NamedTuple):
    """Tags of the first image of a file that say how its pixels are stored; sizes as stored."""

    width: int
    height: int
    orientation: object  # only compared: a file may hold anything here
    bits: tuple[int, ...]
    samples: int
    numbers: int
    photometric: int
    compression: int
    separate: bool
    extra: tuple[int, ...] | None
    """ExtraSamples; None without that tag."""

    @property
    def n_bytes(self) -> int:
        """Bytes of a pixel in memory."""
        return -(-self.samples * max(self.bits) // 8)

    @property
    def is_deep(self) -> bool:
        """True where the samples have more than eight bits."""
        return max(self.bits) > 8

    @property
    def premultiplied(self) -> bool:
        """True where colors are multiplied by their alpha."""
        return self.extra is not None and self.extra[:1] == (PREMULTIPLIED,)

    def check(self) -> None:
        """Raise ValueError for a kind that no decoder reads exactly: pixels of such a file would be wrong.

        Kinds of eight bits and less are left to Pillow, which refuses what it does not read.
        """
        deep = (
            self.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB)
            and self.samples == (len(self.bits) if self.photometric == _RGB else 1)
            and self.samples in (1, 3, 4)
            and len(set(self.bits)) == 1
            and (self.numbers, self.bits[0]) in ((_UNSIGNED, 16), (_FLOAT, 32), (_FLOAT, 64))
            and self.compression in _OPENCV_COMPRESSIONS
            # planes are not put together by OpenCV, which returns memory of the process in their place
            and not (self.separate and self.samples > 1)
        )
        shallow = not self.is_deep and self.numbers == _UNSIGNED
        if not (deep if self.is_deep else shallow):
            raise ValueError(self.refusal())

    def refusal(self) -> str:
        """Return the line that names a kind that is not read."""
        planes = " in separate planes" if self.separate and self.samples > 1 else ""
        color = _PHOTOMETRICS.get(self.photometric, f"color space {self.photometric}")
        numbers = _NUMBERS.get(self.numbers, f"sample format {self.numbers}")
        kind = f"{color}, {self.samples} x {max(self.bits)}-bit {numbers}{planes}, compression {self.compression}"
        return f"a TIFF of a kind that is not read ({kind}): save it as 8-bit RGB"


def read_tiff_header(file: BinaryIO) -> TiffHeader:
    """Read the tags of the first image. Parsers of damaged tags raise nearly any exception."""
    _check_directory(file)
    file.seek(0)
    # only the tags: Pillow's reader refuses color images of floating-point numbers
    start = file.read(16)
    tags = ImageFileDirectory_v2(start[: 16 if start[2] == 43 else 8])
    file.seek(tags.next)
    tags.load(file)
    formats = set(map(int, tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))))
    extra = tags.get(_EXTRA_SAMPLES)
    return TiffHeader(
        width=int(tags[_WIDTH]),
        height=int(tags[_HEIGHT]),
        orientation=tags.get(_ORIENTATION),
        bits=tuple(map(int, tags.get(_BITS, (1,)))),
        samples=int(tags.get(_SAMPLES, 1)),
        # 4 stands for undefined numbers, which are integers in practice
        numbers=(formats.pop() if len(formats) == 1 else -1) if formats != {4} else _UNSIGNED,
        photometric=int(tags.get(_PHOTOMETRIC, _BLACK_IS_ZERO)),
        compression=int(tags.get(_COMPRESSION, 1)),
        separate=int(tags.get(_PLANAR, 1)) == _SEPARATE,
        extra=None if extra is None else tuple(map(int, extra)),
    )


def _check_directory(file: BinaryIO) -> None:
    """Raise ValueError where tags are cut off: their defaults would stand for another kind of image."""
    start = file.read(16)
    order = "<" if start[:2] == b"II" else ">"
    big = start[2] == 43  # BigTIFF
    size = file.seek(0, io.SEEK_END)
    position = struct.unpack_from(f"{order}{'Q' if big else 'I'}", start, 8 if big else 4)[0]
    count_format, entry_format = (f"{order}Q", f"{order}HHQQ") if big else (f"{order}H", f"{order}HHII")
    file.seek(position)
    count = struct.unpack(count_format, file.read(struct.calcsize(count_format)))[0]
    length = struct.calcsize(entry_format)
    if count * length > size:
        raise ValueError("tags are cut off")
    entries = file.read(count * length)
    for _, kind, n_values, value in struct.iter_unpack(entry_format, entries):
        n_bytes = n_values * (_TYPE_BYTES[kind] if kind < len(_TYPE_BYTES) else 1)
        if n_bytes > (8 if big else 4) and value + n_bytes > size:
            raise ValueError("values of tags are cut off")
    if len(entries) < count * length:
        raise ValueError("tags are cut off")


@cache
def silence_libtiff() -> None:
    """Stop Pillow's libtiff from printing errors to standard error; Pillow raises them as well."""
    libraries = Path(PIL.__file__).parents[1].glob("pillow.libs/libtiff*")
    with suppress(OSError, AttributeError):
        for path in libraries:
            ctypes.CDLL(str(path)).TIFFSetErrorHandler(None)


def read_deep_tiff(data: bytes, header: TiffHeader) -> NDArray[np.generic] | None:
    """Return the gray, BGR or BGRA pixels of a deep file, oriented, black at 0; None for a damaged one."""
    with without_messages():
        pixels: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        return None
    if header.extra is not None and header.extra[:1] not in ((PREMULTIPLIED,), (STRAIGHT,)):
        pixels = np.ascontiguousarray(pixels[..., :3])  # a fourth channel of another meaning is none of color
    if header.photometric == _WHITE_IS_ZERO:
        white = 65535 if pixels.dtype == np.uint16 else max(1, np.nan_to_num(pixels, posinf=0).max())
        pixels = white - pixels
    return pixels
