"""Every kind of each format is read exactly, or refused by name: never with wrong pixels."""

from __future__ import annotations

import io
import itertools
import struct
import sys
from typing import Any
from zlib import compress, crc32

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from detector.images.decoding import decode_image
from tests.images.bitmaps import BITFIELDS, RLE4, RLE8, bitmap, packed, run_lengths
from tests.images.encoded import IMAGE, encode

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 19, 37


def decode(data: bytes) -> NDArray[np.uint8]:
    return decode_image(data, max_pixels=100_000)


# ---- TIFF


def tiff(pixels: NDArray[Any], photometric: str, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric=photometric, metadata=None, **options)
    return file.getvalue()


LAYOUTS: list[dict[str, Any]] = [
    {"byteorder": order, "compression": compression, name: value}
    for order, compression, (name, value) in itertools.product(
        "<>", (None, "zlib"), (("rowsperstrip", 5), ("tile", (16, 16)))
    )
] + [{"bigtiff": True, "byteorder": "<"}]


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite", "rgb"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_tiffs_of_all_layouts(photometric: str, dtype: Any) -> None:
    shape = (HEIGHT, WIDTH, 3) if photometric == "rgb" else (HEIGHT, WIDTH)
    gray = RNG.integers(0, 256, shape)
    gray[0, :2] = np.array([0, 255]).reshape(2, *[1] * (len(shape) - 2))
    # multiples of 257 are the same grays in sixteen bits, and floating-point numbers reach from 0 to 1
    stored = (gray * {2: 257, 1: 1}[np.dtype(dtype).itemsize]) if np.dtype(dtype).kind == "u" else gray / 255
    expected = np.dstack([gray] * 3) if gray.ndim == 2 else gray
    expected = 255 - expected if photometric == "miniswhite" else expected
    for layout in LAYOUTS:
        found = decode(tiff(stored.astype(dtype), photometric, **layout))
        np.testing.assert_array_equal(found, expected, err_msg=str(layout))


@pytest.mark.parametrize("n_channels", [3, 4])
def test_tiffs_in_planes_are_read_in_eight_bits_and_refused_in_more(n_channels: int) -> None:
    pixels = RNG.integers(0, 256, (HEIGHT, WIDTH, n_channels), np.uint8)
    pixels[..., 3:] = 255
    extra = {"extrasamples": ["unassalpha"]} if n_channels == 4 else {}
    for layout in LAYOUTS:
        planes = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
        options = {"planarconfig": "separate", **layout, **extra}
        np.testing.assert_array_equal(decode(tiff(planes, "rgb", **options)), pixels[..., :3])
        for dtype in (np.uint16, np.float32, np.float64):
            with pytest.raises(ValueError, match=r"in separate planes, compression \d+\): save it as 8-bit RGB$"):
                decode(tiff(planes.astype(dtype), "rgb", **options))


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "u4", "f2", "u8", "c8"])
def test_tiffs_of_other_numbers_are_refused(dtype: str) -> None:
    for photometric, shape in (("minisblack", (HEIGHT, WIDTH)), ("rgb", (HEIGHT, WIDTH, 3))):
        for layout in LAYOUTS:
            with pytest.raises(ValueError, match=r"^a TIFF of a kind that is not read \(.*\): save it as 8-bit RGB$"):
                decode(tiff(np.ones(shape, dtype), photometric, **layout))


@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha", 0])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_fourth_channel_of_a_tiff(extra: Any, dtype: Any) -> None:
    scale = np.iinfo(dtype).max // 255
    pixels = np.full((HEIGHT, WIDTH, 4), (153, 51, 0, 128), np.uint8).astype(dtype) * scale
    found = decode(tiff(pixels, "rgb", extrasamples=[extra]))[3, 4].tolist()
    alpha = 128 / 255
    straight = [value * alpha + 255 * (1 - alpha) for value in (153, 51, 0)]
    expected: dict[Any, list[float]] = {"unassalpha": straight, "assocalpha": [255, 178, 127], 0: [153, 51, 0]}
    assert np.abs(np.subtract(found, expected[extra])).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I;16"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits", "tiff_adobe_deflate", "zstd"])
def test_tiffs_of_pillow(mode: str, compression: str | None) -> None:
    source = Image.fromarray(IMAGE).convert("L" if mode == "I;16" else mode.replace("RGBX", "RGB"))
    if mode in ("I;16", "RGBX"):
        source = Image.fromarray(np.array(source).astype(np.uint16) * 257) if mode == "I;16" else source.convert(mode)
    if mode == "1" and compression == "packbits":
        return  # Pillow writes no such file
    expected = np.array((Image.fromarray(IMAGE).convert("L") if mode == "I;16" else source).convert("RGB"))
    data = encode(source, "TIFF", **({"compression": compression} if compression else {}))
    if (mode, compression) == ("I;16", "zstd"):
        with pytest.raises(ValueError, match="compression 50000"):
            decode(data)
        return
    found = decode(data)
    assert np.abs(found.astype(int) - expected).max() <= (1 if mode == "YCbCr" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_tiffs_are_turned(orientation: int) -> None:
    upright = np.arange(6, dtype=np.uint16).reshape(2, 3) * 257 * 40
    tags = [(274, "H", 1, orientation, True)]
    found = decode(tiff(upright, "minisblack", extratags=tags))[..., 0]
    expected = decode(tiff((upright // 257).astype(np.uint8), "minisblack", extratags=tags))[..., 0]
    np.testing.assert_array_equal(found, expected)


# ---- BMP

PALETTE = [(20 * i % 256, 255 - 15 * i, 7 * i % 256) for i in range(16)]
INDICES = RNG.integers(0, 16, (HEIGHT, WIDTH), np.uint8)
PALETTE_PIXELS = np.array(PALETTE, np.uint8)[INDICES]
COLORS = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


@pytest.mark.parametrize("header", [12, 40, 64, 108, 124])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_bitmaps_with_a_palette(header: int, bits: int) -> None:
    n_colors = min(16, 2**bits)
    indices = INDICES % n_colors
    palette = PALETTE[:n_colors] if header != 12 or bits < 8 else PALETTE + [(0, 0, 0)] * 240
    data = bitmap(packed(indices, bits), WIDTH, bits, palette=palette, header=header)
    np.testing.assert_array_equal(decode(data), np.array(PALETTE, np.uint8)[indices])


@pytest.mark.parametrize(("bits", "compression"), [(4, RLE4), (8, RLE8)])
def test_run_length_bitmaps(bits: int, compression: int) -> None:
    pixels = run_lengths(INDICES, bits)
    data = bitmap(packed(INDICES, bits), WIDTH, bits, palette=PALETTE, compression=compression, pixels=pixels)
    np.testing.assert_array_equal(decode(data), PALETTE_PIXELS)


@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize("header", [40, 108, 124])
def test_bitmaps_of_colors(header: int, top_down: bool) -> None:
    options: dict[str, Any] = {"header": header, "top_down": top_down}
    rows = [row[:, ::-1].tobytes() for row in COLORS]
    np.testing.assert_array_equal(decode(bitmap(rows, WIDTH, 24, **options)), COLORS)
    # the fourth byte means nothing without a mask of its own
    rows = [np.insert(row[:, ::-1], 3, 0, axis=1).tobytes() for row in COLORS]
    np.testing.assert_array_equal(decode(bitmap(rows, WIDTH, 32, **options)), COLORS)


@pytest.mark.parametrize(("masks", "widths"), [((0x7C00, 0x3E0, 0x1F), (5, 5, 5)), ((0xF800, 0x7E0, 0x1F), (5, 6, 5))])
def test_bitmaps_of_sixteen_bits(masks: tuple[int, ...], widths: tuple[int, ...]) -> None:
    shifts = [widths[1] + widths[2], widths[2], 0]
    levels = [COLORS[..., i].astype(int) >> (8 - widths[i]) for i in range(3)]
    words = sum(level << shift for level, shift in zip(levels, shifts, strict=True))
    rows = [struct.pack(f"<{WIDTH}H", *row) for row in np.asarray(words).tolist()]
    expected = np.stack([np.rint(level * 255 / (2**n - 1)) for level, n in zip(levels, widths, strict=True)], -1)
    found = decode(bitmap(rows, WIDTH, 16, compression=BITFIELDS, masks=masks))
    assert np.abs(found - expected).max() <= 1
    if widths[1] == 5:
        np.testing.assert_array_equal(decode(bitmap(rows, WIDTH, 16)), found)


def test_bitmaps_with_masks_that_are_not_read() -> None:
    rows = [bytes(4 * WIDTH)] * HEIGHT
    data = bitmap(rows, WIDTH, 32, compression=BITFIELDS, masks=(0xFFE00000, 0x1FF800, 0x7FF))
    with pytest.raises(ValueError, match=r"^a BMP image of a kind that is not read \(.*\): save it as 8-bit RGB$"):
        decode(data)


# ---- PNG


@pytest.mark.parametrize("interlace", [0, 1])
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_gray_pngs_of_every_depth(depth: int, interlace: int) -> None:
    gray = RNG.integers(0, 2**depth, (8, 8))
    data = png(gray[..., None], depth, 0, interlace)
    expected = np.rint(gray * 255 / (2**depth - 1))
    np.testing.assert_array_equal(decode(data), np.dstack([expected] * 3))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_pngs_with_a_palette_and_its_transparency(depth: int) -> None:
    indices = RNG.integers(0, min(16, 2**depth), (8, 8))
    palette = np.array(PALETTE, np.uint8)[: 2**depth]
    chunks = [(b"PLTE", palette.tobytes()), (b"tRNS", b"\0")]  # the first color is transparent
    expected = np.where(indices[..., None] == 0, 255, palette[indices])
    np.testing.assert_array_equal(decode(png(indices[..., None], depth, 3, 0, chunks)), expected)


@pytest.mark.parametrize(("color_type", "n_channels"), [(2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("interlace", [0, 1])
def test_deep_pngs_of_colors(color_type: int, n_channels: int, interlace: int) -> None:
    values = RNG.integers(0, 65536, (8, 8, n_channels))
    color = np.repeat(values[..., :1], 3, -1) if n_channels == 2 else values[..., :3]
    alpha = values[..., -1:] / 65535 if n_channels in (2, 4) else 1.0
    expected = np.rint(color / 257) * alpha + 255 * (1 - alpha)
    assert np.abs(decode(png(values, 16, color_type, interlace)) - expected).max() <= 1


def png(values: NDArray[Any], depth: int, color_type: int, interlace: int, chunks: Any = ()) -> bytes:
    """Return a PNG of (8, 8, C) values, in Adam7's order or not."""
    starts = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    passes = [values[y::dy, x::dx] for y, x, dy, dx in starts] if interlace else [values]
    lines = b""
    for row in itertools.chain.from_iterable(passes):
        bits = (row.ravel()[:, None] >> np.arange(depth)[::-1]) & 1
        lines += b"\0" + np.packbits(bits.astype(np.uint8)).tobytes()
    header = struct.pack(">IIBBBBB", 8, 8, depth, color_type, 0, 0, interlace)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", compress(lines)), (b"IEND", b"")]
    written = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc32(name + data)) for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


# ---- the first frame


def frames() -> list[Image.Image]:
    first, second = Image.fromarray(IMAGE), Image.fromarray(IMAGE[::-1].copy())
    ImageDraw.Draw(second).rectangle((0, 0, 20, 20), "magenta")
    return [first, second]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "MPO", "TIFF", "AVIF"])
def test_the_first_frame_of_several(kind: str) -> None:
    first, second = frames()
    if kind == "GIF":
        first, second = first.quantize(64), second.quantize(64)
    options: dict[str, Any] = {"WEBP": {"lossless": True}, "MPO": {"quality": 95}, "AVIF": {"quality": 100}}
    data = encode(first, kind, save_all=True, append_images=[second], **options.get(kind, {}))
    expected = np.array(first.convert("RGB"))
    allowed = 60 if kind in ("MPO", "AVIF") else 0  # chroma has half the resolution
    assert np.abs(decode(data).astype(int) - expected).mean() <= allowed / 10
    assert np.abs(decode(data).astype(int) - expected).max() <= allowed * 4


def test_a_frame_of_a_gif_that_leaves_the_screen() -> None:
    data = bytearray(encode(Image.fromarray(IMAGE).quantize(16), "GIF"))
    struct.pack_into("<HH", data, 6, 10, 10)  # the size of the screen
    assert decode(bytes(data)).shape == IMAGE.shape


# ---- what is not read


def test_jpegs_of_twelve_bits_are_refused() -> None:
    data = bytearray(encode(IMAGE, "JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(ValueError, match=r"^a JPEG image of a kind that is not read \(.*12-bit.*\)"):
        decode(bytes(data))


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\xff\x0a\xfa\x7f", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"P6\n4 4\n255\n", "PNM"),
        (b"8BPS\0\1", "Photoshop"),
    ],
)
def test_formats_that_are_not_read_are_named(start: bytes, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} images are not read: save it as JPEG or PNG$"):
        decode(start + bytes(40))


@pytest.mark.all
def test_heic() -> None:
    heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    heif.from_pillow(Image.fromarray(IMAGE)).save(file, quality=-1, chroma=444)
    assert np.abs(decode(file.getvalue()).astype(int) - IMAGE).max() <= 4


def test_heic_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ValueError, match=r"^a HEIC image, but pillow_heif is not installed: pip install 'spp-detector"):
        decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
