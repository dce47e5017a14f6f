"""What large and odd pixels cost, and what a transparent gray looks like."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from detector.images import decoding as pixels
from detector.images.decoding import decode_image, to_rgb


def png(image: Image.Image, **settings: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **settings)
    return file.getvalue()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("n_channels", [1, 3, 4])
def test_blocks_of_rows_make_the_same_image(dtype: Any, n_channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    values = rng.random((37, 20, n_channels)) * (1.5 if dtype in (np.float32, np.float64) else np.iinfo(dtype).max)
    values = values.astype(dtype)[..., 0] if n_channels == 1 else values.astype(dtype)
    whole = to_rgb(values, premultiplied=False)
    monkeypatch.setattr(pixels, "_BLOCK_PIXELS", 100)
    np.testing.assert_array_equal(to_rgb(values, premultiplied=False), whole)


@pytest.mark.parametrize(("dtype", "n_channels"), [(np.uint8, 4), (np.uint16, 4), (np.float32, 3)])
def test_little_memory_is_taken_next_to_the_image(
    dtype: type[np.generic], n_channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "_BLOCK_PIXELS", 1 << 12)
    image = np.zeros((1000, 1000, n_channels), dtype)
    tracemalloc.start()
    to_rgb(image, premultiplied=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * 3e6


def test_more_bytes_a_pixel_are_refused_before_they_are_decoded() -> None:
    ok, data = cv2.imencode(".tiff", np.zeros((40, 50, 3), np.float64))
    assert ok and decode_image(data.tobytes(), max_pixels=3000).shape == (40, 50, 3)
    with pytest.raises(ValueError, match="50 x 40 pixels of 24 bytes each are too many"):
        decode_image(data.tobytes(), max_pixels=2999)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_gray_is_laid_on_white(depth: int) -> None:
    # by hand, since few programs write the small depths: 2 x 1 pixels, of the grays 1 and 0, and 1 is transparent
    row = {1: b"\x80", 2: b"\x40", 4: b"\x10", 8: b"\1\0", 16: b"\0\1\0\0"}[depth]
    header = struct.pack(">IIBBBBB", 2, 1, depth, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"tRNS", b"\0\1"), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    image = decode_image(b"\x89PNG\r\n\x1a\n" + b"".join(chunks), max_pixels=100)
    assert image.tolist() == [[[255] * 3, [0] * 3]]
    opaque = decode_image(png(Image.fromarray(np.array([[1, 0]], np.uint8))), max_pixels=100)
    assert opaque.tolist() == [[[1] * 3, [0] * 3]]
