"""Images that are damaged, unusual, or not what they claim, next to a valid one, which must be processed."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from dev.hostile.case import Case, Rng, choices, damaged, put

FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "TIFF": "tif", "GIF": "gif", "BMP": "bmp"}
ODD = [
    "cmyk",
    "16 bit",
    "palette",
    "frames",
    "exif",
    "thin",
    "float",
    "alpha",
    "gray",
    "one bit",
    "small",
    "progressive",
]


def image_cases(rng: Rng, times: int) -> Iterator[Case]:
    for kind, make, count in (
        ("image: damaged", _damaged, 120),
        ("image: of another kind", _foreign, 18),
        ("image: header of enormous size", _enormous, 24),
        ("image: unusual", _unusual, 48),
    ):
        names = ODD if make is _unusual else list(FORMATS)
        for name in choices(rng, names, count * times):
            suffix, data = make(name, rng)
            files = {f"odd.{suffix}": data, "sound.png": encoded("PNG")}
            words = (*files, "--json", "out.json", "--format", "csv,voc")
            yield Case(kind, "detect", words, put(files), f"odd.{suffix}", fake=True)

    for kind in choices(rng, ["RGBA", "16 bit", "float"], 3 * times):
        yield Case("image: 100 megapixels", "detect", ("a.tif", "--no-drawing"), partial(_write_large, kind), fake=True)


def _write_large(kind: str, folder: Path) -> None:
    shape, dtype = {"RGBA": (4, np.uint8), "16 bit": (3, np.uint16), "float": (3, np.float32)}[kind]
    image = np.zeros((10_000, 10_000, shape), dtype)
    # LZW, and zlib at its fastest
    settings = [cv2.IMWRITE_TIFF_COMPRESSION, 5] if kind == "float" else [cv2.IMWRITE_PNG_COMPRESSION, 1]
    (folder / "a.tif").write_bytes(cv2.imencode(".tiff" if kind == "float" else ".png", image, settings)[1].tobytes())


@cache
def _image(width: int = 90, height: int = 60) -> Image.Image:
    rows, columns = np.mgrid[:height, :width]
    values = np.stack([rows * 4 % 256, columns * 3 % 256, (rows + columns) % 256], axis=-1)
    return Image.fromarray(values.astype(np.uint8))


def encoded(kind: str, image: Image.Image | None = None, **settings: Any) -> bytes:
    file = io.BytesIO()
    (image or _image()).save(file, kind, **settings)
    return file.getvalue()


def _damaged(kind: str, rng: Rng) -> tuple[str, bytes]:
    return FORMATS[kind], damaged(encoded(kind), rng)


def _foreign(kind: str, rng: Rng) -> tuple[str, bytes]:
    """Return nothing, noise, text, an archive, or an image of another format than its name says."""
    others = [
        b"",
        rng.bytes(1000),
        b"<svg/>",
        b"PK\3\4" + bytes(100),
        b"\0" * 5000,
        encoded(str(rng.choice(list(FORMATS)))),
    ]
    return FORMATS[kind], others[int(rng.integers(len(others)))]


def _enormous(kind: str, rng: Rng) -> tuple[str, bytes]:
    """Return an image whose header claims a size that would not fit into memory."""
    width, height = (int(rng.choice([1, 40_000, 65_500, 1_000_000, 2**31 - 1])) for _ in range(2))
    data = bytearray(encoded(kind))
    small, large = (min(width, 65_535), min(height, 65_535)), (width, height)
    if kind == "PNG":
        data[16:24] = struct.pack(">II", *large)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif kind == "BMP":
        data[18:26] = struct.pack("<ii", *large)
    elif kind == "GIF":
        data[6:10] = struct.pack("<HH", *small)
    elif kind == "JPEG":
        place = data.index(b"\xff\xc0") + 5
        data[place : place + 4] = struct.pack(">HH", small[1], small[0])
    elif kind == "TIFF":
        (place,) = struct.unpack_from("<I", data, 4)
        for number in range(struct.unpack_from("<H", data, place)[0]):
            entry = place + 2 + 12 * number
            (tag,) = struct.unpack_from("<H", data, entry)
            if tag in (256, 257):
                data[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, large[tag - 256])
    else:
        place = data.index(b"VP8 ") + 14
        data[place : place + 4] = struct.pack("<HH", small[0] & 0x3FFF, small[1] & 0x3FFF)
    return FORMATS[kind], bytes(data)


def _unusual(what: str, rng: Rng) -> tuple[str, bytes]:
    image = _image()
    if what == "cmyk":
        return "jpg", encoded(str(rng.choice(["JPEG", "TIFF"])), image.convert("CMYK"))
    if what == "16 bit":
        values = rng.integers(0, 65536, (30, 40, int(rng.choice([1, 3, 4]))), np.uint16)
        return "png", cv2.imencode(".png", values)[1].tobytes()
    if what == "palette":
        return "gif", encoded(
            str(rng.choice(["PNG", "GIF", "BMP"])), image.convert("P"), transparency=int(rng.integers(256))
        )
    if what == "frames":
        kind = str(rng.choice(["GIF", "WEBP", "TIFF", "PNG"]))
        return "gif", encoded(kind, save_all=True, append_images=[image.rotate(each) for each in range(20)])
    if what == "exif":
        block = b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0" + bytes([int(rng.integers(12)), 0, 0, 0]) + bytes(4)
        return "jpg", encoded("JPEG", exif=block if rng.integers(3) else damaged(block, rng))
    if what == "thin":
        sides = [1, int(rng.choice([1, 2, 300, 16_384, 20_000]))]
        return "png", encoded(
            str(rng.choice(["PNG", "BMP", "TIFF"])), _image().resize(tuple(rng.permutation(sides).tolist()))
        )
    if what == "float":
        values = (rng.standard_normal((20, 30, 3)) * float(rng.choice([1, 1e30]))).astype(
            np.float32 if rng.integers(2) else np.float64
        )
        values[0, :3] = [np.nan, np.inf, -np.inf]
        return "tif", cv2.imencode(".tiff", values)[1].tobytes()
    if what == "alpha":
        alpha = Image.fromarray(rng.integers(0, 256, (60, 90), np.uint8))
        return "png", encoded(str(rng.choice(["PNG", "WEBP", "TIFF"])), Image.merge("RGBA", (*image.split(), alpha)))
    if what == "gray":
        return "png", encoded("PNG", image.convert("L"), transparency=int(rng.integers(256)))
    if what == "one bit":
        return "tif", encoded(str(rng.choice(["PNG", "BMP", "TIFF"])), image.convert("1"))
    if what == "small":
        width, height = (int(rng.integers(1, 4)) for _ in range(2))
        return "webp", encoded(str(rng.choice(list(FORMATS))), _image(width, height))
    return "jpeg", damaged(encoded("JPEG", progressive=True), rng)
