"""Images' metadata: orientation, the size that a header tells, and what is broken or meaningless."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from detector.images.files import image_size
from tests.images.encoded import FORMATS, IMAGE, LOSSLESS, encode, read_bytes

# ---- orientation


def turned(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Pixel by pixel from the table of the EXIF standard: what row 0 and column 0 of the file show."""
    height, width = image.shape[:2]
    source = {
        1: lambda row, column: (row, column),
        2: lambda row, column: (row, width - 1 - column),
        3: lambda row, column: (height - 1 - row, width - 1 - column),
        4: lambda row, column: (height - 1 - row, column),
        5: lambda row, column: (column, row),
        6: lambda row, column: (height - 1 - column, row),
        7: lambda row, column: (height - 1 - column, width - 1 - row),
        8: lambda row, column: (column, width - 1 - row),
    }[orientation]
    rows, columns = (width, height) if orientation >= 5 else (height, width)
    return np.array([[image[source(row, column)] for column in range(columns)] for row in range(rows)])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_obeyed(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else LOSSLESS[kind]
    image = read_bytes(tmp_path, encode(IMAGE, kind, exif=exif, **options))
    expected = turned(IMAGE, orientation)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= (8 if kind == "JPEG" else 0)


def test_orientation_of_a_transparent_and_of_a_deep_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.dstack([IMAGE, np.full(IMAGE.shape[:2], 255, np.uint8)])
    pixels[:10, :10, 3] = 0
    expected = IMAGE.copy()
    expected[:10, :10] = 255
    for kind in ("PNG", "WEBP"):
        image = read_bytes(tmp_path, encode(pixels, kind, exif=exif, **LOSSLESS[kind]))
        np.testing.assert_array_equal(image, turned(expected, 6))
    for kind in ("PNG", "TIFF"):
        image = read_bytes(tmp_path, encode(IMAGE[..., 0].astype(np.uint16) * 257, kind, exif=exif))
        np.testing.assert_array_equal(image, turned(np.dstack([IMAGE[..., 0]] * 3), 6))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", FORMATS)
def test_the_header_tells_the_size_of_the_image(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {} if kind in ("BMP", "GIF") else {"exif": exif}
    image = read_bytes(tmp_path, encode(IMAGE, kind, **options))
    assert image_size(tmp_path / "image") == image.shape[:2]


@pytest.mark.parametrize("value", [0, 9, 77])
def test_meaningless_orientations_are_ignored(tmp_path: Path, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    np.testing.assert_array_equal(read_bytes(tmp_path, encode(IMAGE, "PNG", exif=exif)), IMAGE)


def test_broken_metadata_do_not_spoil_the_image(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = encode(IMAGE, "PNG", exif=b"Exif\0\0no TIFF header here", icc_profile=b"\0" * 200)
    np.testing.assert_array_equal(read_bytes(tmp_path, data), IMAGE)
    assert capfd.readouterr() == ("", "")
