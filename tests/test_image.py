"""Reading, finding, writing and resizing pictures, with files made by the real encoders."""

from __future__ import annotations

import errno
import functools
import io
import os
import struct
import threading
import zlib
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from detector.image import (
    check_image,
    find_images,
    picture_size,
    read_image,
    resize_short_side,
    resized_size,
    write_image,
)

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
# Red and green above blue and white, with a ramp between, so that no two orientations look alike.
PICTURE = np.zeros((48, 80, 3), np.uint8)
PICTURE[:24, :40], PICTURE[:24, 40:], PICTURE[24:, :40], PICTURE[24:, 40:] = RED, GREEN, BLUE, WHITE
PICTURE[16:32, 20:60] = np.arange(16 * 40).reshape(16, 40, 1) // 3

FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"]
LOSSLESS: dict[str, dict[str, Any]] = {"PNG": {}, "WEBP": {"lossless": True}, "BMP": {}, "TIFF": {}}


def encode(picture: Image.Image | NDArray[Any], kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(stream, kind, **options)
    return stream.getvalue()


def read_bytes(folder: Path, data: bytes, name: str = "picture", **options: Any) -> NDArray[np.uint8]:
    path = folder / name
    path.write_bytes(data)
    image = read_image(path, **options)
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.flags.c_contiguous
    return image


def assert_refused(path: Path, reason: str, error: type[Exception] = ValueError, **options: Any) -> None:
    with pytest.raises(error) as caught:
        read_image(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert "\n" not in message


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A PNG of 8-bit RGB whose header may promise anything."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


# ---- formats and depths


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_are_read_exactly(tmp_path: Path, kind: str) -> None:
    np.testing.assert_array_equal(read_bytes(tmp_path, encode(PICTURE, kind, **LOSSLESS[kind])), PICTURE)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_jpeg(tmp_path: Path, options: dict[str, Any]) -> None:
    image = read_bytes(tmp_path, encode(PICTURE, "JPEG", quality=95, subsampling=0, **options))
    assert np.abs(image.astype(int) - PICTURE).max() < 16


@pytest.mark.parametrize("interlace", [0, 1])
def test_the_first_frame_of_a_gif(tmp_path: Path, interlace: int) -> None:
    first = Image.fromarray(PICTURE).quantize(64)
    data = encode(first, "GIF", save_all=True, append_images=[first.rotate(180)], interlace=interlace, duration=50)
    np.testing.assert_array_equal(read_bytes(tmp_path, data), np.array(first.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "JPEG"])
def test_grey_becomes_three_equal_channels(tmp_path: Path, kind: str) -> None:
    grey = np.tile(np.arange(0, 240, 3, dtype=np.uint8), (20, 1))
    image = read_bytes(tmp_path, encode(grey, kind, **({"quality": 100} if kind == "JPEG" else {})))
    assert (image == image[..., :1]).all()
    assert np.abs(image[..., 0].astype(int) - grey).max() <= (2 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit_and_palette_pictures(tmp_path: Path, kind: str) -> None:
    for mode in ("1", "P"):
        picture = Image.fromarray(PICTURE).convert(mode)
        expected = np.array(picture.convert("RGB"))
        np.testing.assert_array_equal(read_bytes(tmp_path, encode(picture, kind)), expected)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparent_pictures_lie_on_white(tmp_path: Path, kind: str) -> None:
    pixels = np.zeros((4, 6, 4), np.uint8)
    pixels[:, :2] = (200, 100, 0, 255)
    pixels[:, 2:4] = (200, 100, 0, 51)  # a fifth of the colour, four fifths of white
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
    grey_and_alpha = np.full((4, 6, 2), (100, 51), np.uint8)
    image = read_bytes(tmp_path, encode(Image.fromarray(grey_and_alpha, "LA"), "PNG"))
    assert image[0, 0].tolist() == [224, 224, 224]


@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path, extension: str) -> None:
    values = np.array([0, 128, 129, 257, 32768, 65535 - 129, 65535 - 128, 65535], np.uint16)
    expected = [0, 0, 1, 1, 128, 254, 255, 255]  # value / 257, rounded
    grey = np.tile(values, (3, 1))
    image = read_bytes(tmp_path, cv2.imencode(extension, grey)[1].tobytes())
    assert image[0, :, 0].tolist() == expected
    colour = np.dstack([grey, grey * 0, grey[:, ::-1]])  # blue, green, red
    image = read_bytes(tmp_path, cv2.imencode(extension, colour)[1].tobytes())
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
    grey = np.tile(np.array(values, np.float32), (3, 1))
    for pixels in (grey, np.dstack([grey] * 3)):
        image = read_bytes(tmp_path, cv2.imencode(".tif", pixels)[1].tobytes())
        assert image[0].tolist() == [[value] * 3 for value in expected]


def test_cmyk(tmp_path: Path) -> None:
    cmyk = Image.fromarray(PICTURE).convert("CMYK")
    jpeg = encode(cmyk, "JPEG", quality=95)
    adobe = jpeg.index(b"Adobe") - 4  # Pillow writes the inverted values that Adobe's marker announces
    for data in (jpeg, jpeg[:adobe] + jpeg[adobe + 16 :], encode(cmyk, "TIFF")):
        image = read_bytes(tmp_path, data)
        for row, column, colour in ((4, 4, RED), (4, 76, GREEN), (44, 4, BLUE), (44, 76, WHITE)):
            assert np.abs(image[row, column].astype(int) - colour).max() < 12


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
    image = read_bytes(tmp_path, encode(PICTURE, kind, exif=exif, **options))
    expected = turned(PICTURE, orientation)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= (8 if kind == "JPEG" else 0)


def test_orientation_of_a_transparent_and_of_a_deep_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.dstack([PICTURE, np.full(PICTURE.shape[:2], 255, np.uint8)])
    pixels[:10, :10, 3] = 0
    expected = PICTURE.copy()
    expected[:10, :10] = 255
    for kind in ("PNG", "WEBP"):
        image = read_bytes(tmp_path, encode(pixels, kind, exif=exif, **LOSSLESS[kind]))
        np.testing.assert_array_equal(image, turned(expected, 6))
    for kind in ("PNG", "TIFF"):
        image = read_bytes(tmp_path, encode(PICTURE[..., 0].astype(np.uint16) * 257, kind, exif=exif))
        np.testing.assert_array_equal(image, turned(np.dstack([PICTURE[..., 0]] * 3), 6))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", FORMATS)
def test_the_header_tells_the_size_of_the_picture(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {} if kind in ("BMP", "GIF") else {"exif": exif}
    image = read_bytes(tmp_path, encode(PICTURE, kind, **options))
    assert picture_size(tmp_path / "picture") == image.shape[:2]


def test_the_header_is_enough_for_the_size(tmp_path: Path) -> None:
    path = tmp_path / "cut"
    path.write_bytes(encode(PICTURE, "JPEG")[:-200])
    assert picture_size(str(path)) == (48, 80)
    for data, reason in (
        (b"", "the file is empty"),
        (b"<html>", "not a JPEG"),
        (b"\xff\xd8\xff", "JPEG data are damaged"),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=f"cut: .*{reason}"):
            picture_size(path)
    path.write_bytes(png(5000, 5000))
    with pytest.raises(ValueError, match="cut: 5000 x 5000 pixels are more than the 1000 allowed"):
        picture_size(path, max_pixels=1000)
    with pytest.raises(FileNotFoundError, match="nowhere: No such file"):
        picture_size(tmp_path / "nowhere")


@pytest.mark.parametrize("value", [0, 9, 77])
def test_meaningless_orientations_are_ignored(tmp_path: Path, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    np.testing.assert_array_equal(read_bytes(tmp_path, encode(PICTURE, "PNG", exif=exif)), PICTURE)


def test_broken_metadata_do_not_spoil_the_picture(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = encode(PICTURE, "PNG", exif=b"Exif\0\0no TIFF header here", icc_profile=b"\0" * 200)
    np.testing.assert_array_equal(read_bytes(tmp_path, data), PICTURE)
    assert capfd.readouterr() == ("", "")


# ---- damage


@functools.cache
def sample_files() -> dict[str, bytes]:
    noise = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    files = {kind: encode(noise, kind) for kind in FORMATS}
    files["progressive JPEG"] = encode(noise, "JPEG", progressive=True)
    exif = Image.Exif()
    exif[0x0112] = 3
    files["JPEG with EXIF"] = encode(noise, "JPEG", exif=exif)
    files["lossless WebP"] = encode(noise, "WEBP", lossless=True)
    files["LZW TIFF"] = encode(noise, "TIFF", compression="tiff_lzw")
    files["JPEG TIFF"] = encode(noise, "TIFF", compression="jpeg")
    files["floating-point TIFF"] = cv2.imencode(".tif", noise.astype(np.float32))[1].tobytes()
    files["deep PNG"] = cv2.imencode(".png", noise.astype(np.uint16))[1].tobytes()
    files["animated GIF"] = encode(noise, "GIF", save_all=True, append_images=[Image.fromarray(noise[::-1])])
    return files


@pytest.mark.parametrize(("kind", "data"), sample_files().items(), ids=list(sample_files()))
def test_cut_off_files_are_refused_silently(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str, data: bytes
) -> None:
    read_bytes(tmp_path, data)  # whole, it is fine
    lengths = {max(12, int(len(data) * part)) for part in (0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97)}
    lengths |= {12, 20, 40, len(data) - 20, len(data) - 3, len(data) - 1}
    path = tmp_path / "cut off"
    for length in sorted(lengths):
        path.write_bytes(data[:length])
        assert_refused(path, "damaged or cut off")
    assert capfd.readouterr() == ("", "")


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_damaged_files_are_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = bytearray(data.draw(st.sampled_from(list(sample_files().values()))))
    for position in data.draw(st.lists(st.integers(0, min(len(file), 600) - 1), min_size=1, max_size=8)):
        file[position] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(bytes(file))
    try:
        check_image(read_image(path, max_pixels=1_000_000))
    except ValueError as error:
        assert str(error).startswith(f"{path}: ")
        assert "\n" not in str(error)


def test_png_chunk_of_gigabytes_is_not_allocated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(encode(PICTURE, "PNG"))
    data[data.index(b"IDAT") - 4] = 0x7F
    monkeypatch.setattr(cv2, "imdecodeWithMetadata", lambda *_, **__: pytest.fail("was decoded"))
    (tmp_path / "a.png").write_bytes(data)
    assert_refused(tmp_path / "a.png", "the PNG data are damaged or cut off")


def test_libpng_and_libjpeg_are_silenced_and_stderr_comes_back(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    jpeg = encode(PICTURE, "JPEG")
    # libjpeg prints "premature end of data segment", libpng "bad adaptive filter value".
    for name, data in (
        ("jpeg", jpeg[: len(jpeg) * 3 // 4] + jpeg[-2:]),
        ("png", png(4, 4, b"\x09" * 52)),
    ):
        (tmp_path / name).write_bytes(data)
        try:
            read_image(tmp_path / name)
        except ValueError:
            assert name == "png"
    assert capfd.readouterr() == ("", "")
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def test_threads_do_not_lose_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.png"
    write_image(path, PICTURE)
    threads = [threading.Thread(target=lambda: [read_image(path) for _ in range(30)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    assert_refused(tmp_path / "empty.jpg", "the file is empty")
    for content in (b"hello", b"%PDF-1.7 and so on", b"<svg></svg>", b"RIFF\0\0\0\0WAVEfmt ", bytes(1000)):
        (tmp_path / "text.png").write_bytes(content)
        assert_refused(tmp_path / "text.png", "not a JPEG, PNG, WebP, BMP, TIFF or GIF picture")
    assert_refused(tmp_path / "missing.jpg", "No such file", FileNotFoundError)
    assert_refused(tmp_path, "directory", OSError)


def test_files_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, mode: str) -> None:  # file modes do not stop root
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert_refused(tmp_path / "a.png", "Permission denied", PermissionError)


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (0, 0)])
def test_pictures_without_pixels(tmp_path: Path, width: int, height: int) -> None:
    (tmp_path / "a.png").write_bytes(png(width, height))
    assert_refused(tmp_path / "a.png", "damaged")


def test_decompression_bombs_are_refused_by_their_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bmp = bytearray(encode(PICTURE, "BMP"))
    bmp[18:26] = struct.pack("<ii", 50000, 50000)
    gif = bytearray(encode(PICTURE, "GIF"))
    gif[6:10] = struct.pack("<HH", 50000, 50000)
    jpeg = bytearray(encode(PICTURE, "JPEG"))
    size = jpeg.index(b"\xff\xc0") + 5
    jpeg[size : size + 4] = struct.pack(">HH", 50000, 50000)
    tiff = bytearray(encode(PICTURE, "TIFF"))
    for tag in (256, 257):
        value = tiff.index(struct.pack("<HHI", tag, 4, 1)) + 8
        tiff[value : value + 4] = struct.pack("<I", 50000)
    monkeypatch.setattr(cv2, "imdecodeWithMetadata", lambda *_, **__: pytest.fail("decoded a bomb"))
    path = tmp_path / "bomb"
    for data in (png(50000, 50000), bytes(bmp), bytes(gif), bytes(jpeg), bytes(tiff)):
        path.write_bytes(data)
        assert_refused(path, "50000 x 50000 pixels are more than the 100000000 allowed")


def test_max_pixels_is_the_last_size_that_is_read(tmp_path: Path) -> None:
    data = encode(PICTURE, "PNG")
    assert read_bytes(tmp_path, data, max_pixels=48 * 80).shape == PICTURE.shape
    assert_refused(tmp_path / "picture", "80 x 48 pixels", max_pixels=48 * 80 - 1)


# ---- names


@pytest.mark.parametrize("name", ["with space.png", "bücher 猫.png", "UPPER.PNG", "really a png.jpg", "bare"])
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    np.testing.assert_array_equal(read_bytes(tmp_path, encode(PICTURE, "PNG"), name), PICTURE)


def test_find_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "a10.jpg",
        "a2.PNG",
        "b.webp",
        "notes.txt",
        ".hidden.jpg",
        "sub/c.gif",
        "empty/d.txt",
        "[x]*.jpg",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    monkeypatch.chdir(tmp_path)

    def find(*patterns: str) -> list[str]:
        return [str(path) for path in find_images(patterns)]

    assert find() == []
    assert find(".") == ["[x]*.jpg", "a2.PNG", "a10.jpg", "b.webp"]
    assert find("*.jpg") == ["[x]*.jpg", "a10.jpg"]
    assert find("a*") == ["a2.PNG", "a10.jpg"]
    assert find("**/*.gif") == ["sub/c.gif"]
    assert find(str(tmp_path / "a*.jpg")) == [str(tmp_path / "a10.jpg")]
    assert find("[x]*.jpg") == ["[x]*.jpg"]  # the file of that very name, not a pattern
    assert find("notes.txt", "missing.jpg") == ["notes.txt", "missing.jpg"]  # reading them says what is wrong
    assert find("b.webp", "sub/../b.webp", str(tmp_path / "b.webp"), ".", "a10.jpg") == [
        "b.webp",
        "[x]*.jpg",
        "a2.PNG",
        "a10.jpg",
    ]
    for pattern in ("empty", "*.bmp", "folder.jpg", "missing/*"):
        with pytest.raises(ValueError) as caught:
            find("a10.jpg", pattern)
        assert str(caught.value) == f"{pattern}: no picture found"


# ---- writing


@pytest.mark.parametrize("name", ["a.png", "b.BMP", "ü 1.webp", "c.tiff"])
def test_written_pictures_read_back(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / name, PICTURE[::-1])
    write_image(tmp_path / name, PICTURE)
    image = read_image(tmp_path / name)
    assert np.abs(image.astype(int) - PICTURE).max() <= (40 if name.endswith("webp") else 0)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_failed_writing_says_why_and_leaves_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder.png").mkdir()
    too_wide = np.zeros((1, 70_000, 3), np.uint8)
    for name, image, reason in (
        ("a.xyz", PICTURE, "no picture format has the extension '.xyz'"),
        ("bare", PICTURE, "no picture format has the extension ''"),
        ("missing/a.png", PICTURE, "No such file or directory"),
        ("folder.png", PICTURE, "directory"),
        ("a.jpg", too_wide, "70000 x 1 pixels"),
    ):
        with pytest.raises(OSError) as caught:
            write_image(tmp_path / name, image)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert reason in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ValueError, match="uint8 RGB"):
        write_image(tmp_path / "a.png", PICTURE[..., 0])


# ---- the contract


@pytest.mark.parametrize(
    ("image", "got"),
    [
        (np.zeros((10, 10, 4), np.float32), r"\(10, 10, 4\) float32"),
        (np.zeros((10, 10, 3), np.float32), r"\(10, 10, 3\) float32"),
        (np.zeros((10, 10), np.uint8), r"\(10, 10\) uint8"),
        (np.zeros((0, 10, 3), np.uint8), r"\(0, 10, 3\) uint8"),
        (None, "NoneType"),
        ([[[1, 2, 3]]], "list"),
    ],
)
def test_check_image_refuses(image: Any, got: str) -> None:
    with pytest.raises(ValueError, match=rf"image must be \(H, W, 3\) uint8 RGB, but got {got}"):
        check_image(image)


def test_check_image_makes_contiguous_and_copies_nothing_else() -> None:
    assert check_image(PICTURE) is PICTURE
    mirrored = check_image(PICTURE[:, ::-1])
    assert mirrored.flags.c_contiguous
    np.testing.assert_array_equal(mirrored, PICTURE[:, ::-1])


# ---- resizing


def test_resized_size_by_hand() -> None:
    assert resized_size(375, 500, 688) == (688, 918, 688 / 375)  # 917.33 rounded up
    assert resized_size(500, 375, 688) == (918, 688, 688 / 375)
    assert resized_size(333, 333, 688) == (688, 688, 688 / 333)
    assert resized_size(100, 400, 50) == (50, 200, 0.5)  # the limit itself
    assert resized_size(1, 5000, 688) == (1, 2752, 2752 / 5000)
    assert resized_size(375, 500, 688, max_long_side=688) == (516, 688, 688 / 500)


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.integers(1, 2000), st.integers(1, 8000) | st.none())
@settings(deadline=None)
def test_resized_size_properties(height: int, width: int, short_side: int, limit: int | None) -> None:
    new_height, new_width, zoom = resized_size(height, width, short_side, limit)
    limit = 4 * short_side if limit is None else limit
    exact = min(Fraction(short_side, min(height, width)), Fraction(limit, max(height, width)))
    assert zoom == float(exact)
    assert (new_height, new_width) == (ceil(height * exact), ceil(width * exact))
    assert 1 <= min(new_height, new_width) <= short_side
    assert max(new_height, new_width) <= limit


@pytest.mark.parametrize("sizes", [(0, 5, 5, 5), (5, 0, 5, 5), (5, 5, 0, 5), (5, 5, 5, 0), (5, 5, -1, None)])
def test_resized_size_refuses(sizes: tuple[int, int, int, int | None]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        resized_size(*sizes)


def bilinear(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float64]:
    """Pixel centres at half-integers, edges repeated, no antialiasing: one output pixel at a time."""
    result = np.zeros((height, width, 3))
    for row in range(height):
        y = min(max((row + 0.5) * image.shape[0] / height - 0.5, 0), image.shape[0] - 1)
        for column in range(width):
            x = min(max((column + 0.5) * image.shape[1] / width - 0.5, 0), image.shape[1] - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, image.shape[0] - 1), min(left + 1, image.shape[1] - 1)
            upper = image[top, left] * (1 - (x - left)) + image[top, right] * (x - left)
            lower = image[bottom, left] * (1 - (x - left)) + image[bottom, right] * (x - left)
            result[row, column] = upper * (1 - (y - top)) + lower * (y - top)
    return result


def test_resize_by_hand() -> None:
    image = np.repeat(np.array([[0, 100], [200, 40]], np.uint8)[..., None], 3, axis=2)
    resized, zoom = resize_short_side(image, 4)
    assert zoom == 2.0
    assert resized.dtype == np.uint8
    # Rows and columns at -0.25, 0.25, 0.75, 1.25 of the original, the outer two held at the edge.
    expected = [[0, 25, 75, 100], [50, 59, 76, 85], [150, 126, 79, 55], [200, 160, 80, 40]]
    assert np.abs(resized[..., 0].astype(float) - expected).max() <= 1


@pytest.mark.parametrize(("shape", "short_side"), [((9, 14), 20), ((30, 23), 9), ((40, 8), 8), ((7, 90), 5)])
def test_resize_equals_the_slow_twin(shape: tuple[int, int], short_side: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    resized, zoom = resize_short_side(image, short_side)
    height, width, expected_zoom = resized_size(*shape, short_side)
    assert resized.shape == (height, width, 3)
    assert zoom == expected_zoom
    assert np.abs(resized - bilinear(image, height, width)).max() <= 1


def test_resize_of_a_line() -> None:
    image = np.zeros((1, 5000, 3), np.uint8)
    image[:, 2500:] = 255
    resized, zoom = resize_short_side(image, 688)
    assert resized.shape == (1, 2752, 3)
    assert resized[0, 1370].tolist() == [0, 0, 0]
    assert resized[0, 1380].tolist() == [255, 255, 255]
    assert zoom == pytest.approx(2752 / 5000)


def test_resize_refuses_what_is_no_picture() -> None:
    with pytest.raises(ValueError, match="uint8 RGB"):
        resize_short_side(np.zeros((5, 5), np.uint8), 10)
