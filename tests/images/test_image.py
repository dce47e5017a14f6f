"""Reading images of every format and depth, with files made by the real encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.images.encoded import BLUE, GREEN, IMAGE, LOSSLESS, RED, WHITE, encode, read_bytes

# ---- formats and depths


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_are_read_exactly(tmp_path: Path, kind: str) -> None:
    np.testing.assert_array_equal(read_bytes(tmp_path, encode(IMAGE, kind, **LOSSLESS[kind])), IMAGE)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_jpeg(tmp_path: Path, options: dict[str, Any]) -> None:
    image = read_bytes(tmp_path, encode(IMAGE, "JPEG", quality=95, subsampling=0, **options))
    assert np.abs(image.astype(int) - IMAGE).max() < 16


@pytest.mark.parametrize("interlace", [0, 1])
def test_the_first_frame_of_a_gif(tmp_path: Path, interlace: int) -> None:
    first = Image.fromarray(IMAGE).quantize(64)
    data = encode(first, "GIF", save_all=True, append_images=[first.rotate(180)], interlace=interlace, duration=50)
    np.testing.assert_array_equal(read_bytes(tmp_path, data), np.array(first.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "JPEG"])
def test_gray_becomes_three_equal_channels(tmp_path: Path, kind: str) -> None:
    gray = np.tile(np.arange(0, 240, 3, dtype=np.uint8), (20, 1))
    image = read_bytes(tmp_path, encode(gray, kind, **({"quality": 100} if kind == "JPEG" else {})))
    assert (image == image[..., :1]).all()
    assert np.abs(image[..., 0].astype(int) - gray).max() <= (2 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit_and_palette_images(tmp_path: Path, kind: str) -> None:
    for mode in ("1", "P"):
        image = Image.fromarray(IMAGE).convert(mode)
        expected = np.array(image.convert("RGB"))
        np.testing.assert_array_equal(read_bytes(tmp_path, encode(image, kind)), expected)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparent_images_lie_on_white(tmp_path: Path, kind: str) -> None:
    pixels = np.zeros((4, 6, 4), np.uint8)
    pixels[:, :2] = (200, 100, 0, 255)
    pixels[:, 2:4] = (200, 100, 0, 51)  # a fifth of the color, four fifths of white
    pixels[:, 4:] = (200, 100, 0, 0)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    image = read_bytes(tmp_path, encode(pixels, kind, **options))
    for column, expected in ((0, (200, 100, 0)), (2, (244, 224, 204)), (5, WHITE)):
        assert np.abs(image[0, column].astype(int) - expected).max() <= 1


def test_other_kinds_of_transparency_lie_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((4, 6, 4), np.uint8)
    pixels[:, :3] = (200, 100, 0, 255)
    palette = Image.fromarray(pixels).quantize(4)
    for data in (
        encode(palette, "PNG"),
        encode(pixels, "GIF"),
        encode(pixels[..., :3], "PNG", transparency=(0, 0, 0)),
    ):
        image = read_bytes(tmp_path, data)
        assert image[0, 0].tolist() == [200, 100, 0]
        assert image[0, 5].tolist() == [255, 255, 255]
    gray_and_alpha = np.full((4, 6, 2), (100, 51), np.uint8)
    image = read_bytes(tmp_path, encode(Image.fromarray(gray_and_alpha, "LA"), "PNG"))
    assert image[0, 0].tolist() == [224, 224, 224]


@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path, extension: str) -> None:
    values = np.array([0, 128, 129, 257, 32768, 65535 - 129, 65535 - 128, 65535], np.uint16)
    expected = [0, 0, 1, 1, 128, 254, 255, 255]  # value / 257, rounded
    gray = np.tile(values, (3, 1))
    image = read_bytes(tmp_path, cv2.imencode(extension, gray)[1].tobytes())
    assert image[0, :, 0].tolist() == expected
    color = np.dstack([gray, gray * 0, gray[:, ::-1]])  # blue, green, red
    image = read_bytes(tmp_path, cv2.imencode(extension, color)[1].tobytes())
    assert image[0, :, 2].tolist() == expected
    assert image[0, :, 0].tolist() == expected[::-1]
    assert not image[..., 1].any()


def test_sixteen_bit_transparency(tmp_path: Path) -> None:
    pixels = np.full((3, 4, 4), (0, 100 * 257, 200 * 257, 51 * 257), np.uint16)
    image = read_bytes(tmp_path, cv2.imencode(".png", pixels)[1].tobytes())
    assert image[0, 0].tolist() == [244, 224, 204]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.25, 0.5, 1.0], [0, 64, 128, 255]),
        ([0.0, 0.1, 0.2, 0.5], [0, 26, 51, 128]),
        ([0.0, 255.0, 510.0, 1020.0], [0, 64, 128, 255]),
        ([-3.0, float("nan"), float("inf"), 0.5], [0, 0, 0, 128]),
    ],
)
def test_floating_point_tiff(tmp_path: Path, values: list[float], expected: list[int]) -> None:
    gray = np.tile(np.array(values, np.float32), (3, 1))
    for pixels in (gray, np.dstack([gray] * 3)):
        image = read_bytes(tmp_path, cv2.imencode(".tif", pixels)[1].tobytes())
        assert image[0].tolist() == [[value] * 3 for value in expected]


def test_cmyk(tmp_path: Path) -> None:
    cmyk = Image.fromarray(IMAGE).convert("CMYK")
    jpeg = encode(cmyk, "JPEG", quality=95)
    adobe = jpeg.index(b"Adobe") - 4  # Pillow writes the inverted values that Adobe's marker announces
    for data in (jpeg, jpeg[:adobe] + jpeg[adobe + 16 :], encode(cmyk, "TIFF")):
        image = read_bytes(tmp_path, data)
        for row, column, color in ((4, 4, RED), (4, 76, GREEN), (44, 4, BLUE), (44, 76, WHITE)):
            assert np.abs(image[row, column].astype(int) - color).max() < 12
