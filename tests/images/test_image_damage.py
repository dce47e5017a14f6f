"""Image files that are damaged, cut off, too large or none: refused in one line, or read silently."""

from __future__ import annotations

import errno
import functools
import os
import struct
import threading
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detector.images.files import image_size, read_image, write_image
from detector.images.resizing import check_image
from tests.images.encoded import FORMATS, IMAGE, encode, read_bytes


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
    whole = read_bytes(tmp_path, data)
    lengths = {max(12, int(len(data) * part)) for part in (0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97)}
    lengths |= {12, 20, 40, len(data) - 20, len(data) - 12, len(data) - 3, len(data) - 1}
    path = tmp_path / "cut off"
    for length in sorted(lengths):
        path.write_bytes(data[:length])
        if "GIF" in kind or (kind == "BMP" and length > len(data) - 4):
            # the pixels may be complete without what follows them
            with suppress(ValueError):
                np.testing.assert_array_equal(read_image(path), whole)
        else:
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


def test_png_chunk_of_gigabytes_is_not_allocated(tmp_path: Path) -> None:
    data = bytearray(encode(IMAGE, "PNG"))
    data[data.index(b"IDAT") - 4] = 0x7F
    (tmp_path / "a.png").write_bytes(data)
    tracemalloc.start()
    try:
        assert_refused(tmp_path / "a.png", "the PNG data are damaged or cut off")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_libpng_and_libjpeg_are_silenced_and_stderr_comes_back(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    jpeg = encode(IMAGE, "JPEG")
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
    write_image(path, IMAGE)
    threads = [threading.Thread(target=lambda: [read_image(path) for _ in range(30)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def test_files_that_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    assert_refused(tmp_path / "empty.jpg", "the file is empty")
    for content in (b"hello", b"%PDF-1.7 and so on", b"<svg></svg>", b"RIFF\0\0\0\0WAVEfmt ", bytes(1000)):
        (tmp_path / "text.png").write_bytes(content)
        assert_refused(tmp_path / "text.png", "not a JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIC image")
    assert_refused(tmp_path / "missing.jpg", "No such file", FileNotFoundError)
    assert_refused(tmp_path, "directory", OSError)


def test_files_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, mode: str) -> None:  # file modes do not stop root
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert_refused(tmp_path / "a.png", "Permission denied", PermissionError)


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (0, 0)])
def test_images_without_pixels(tmp_path: Path, width: int, height: int) -> None:
    (tmp_path / "a.png").write_bytes(png(width, height))
    assert_refused(tmp_path / "a.png", "damaged")


def test_decompression_bombs_are_refused_by_their_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bmp = bytearray(encode(IMAGE, "BMP"))
    bmp[18:26] = struct.pack("<ii", 50000, 50000)
    gif = bytearray(encode(IMAGE, "GIF"))
    gif[6:10] = struct.pack("<HH", 50000, 50000)
    jpeg = bytearray(encode(IMAGE, "JPEG"))
    size = jpeg.index(b"\xff\xc0") + 5
    jpeg[size : size + 4] = struct.pack(">HH", 50000, 50000)
    tiff = bytearray(encode(IMAGE, "TIFF"))
    for tag in (256, 257):
        value = tiff.index(struct.pack("<HHI", tag, 4, 1)) + 8
        tiff[value : value + 4] = struct.pack("<I", 50000)
    monkeypatch.setattr(cv2, "imdecodeWithMetadata", lambda *_, **__: pytest.fail("decoded a bomb"))
    path = tmp_path / "bomb"
    for data in (png(50000, 50000), bytes(bmp), bytes(gif), bytes(jpeg), bytes(tiff)):
        path.write_bytes(data)
        assert_refused(path, "50000 x 50000 pixels are more than the 100000000 allowed")


def test_max_pixels_is_the_last_size_that_is_read(tmp_path: Path) -> None:
    data = encode(IMAGE, "PNG")
    assert read_bytes(tmp_path, data, max_pixels=48 * 80).shape == IMAGE.shape
    assert_refused(tmp_path / "image", "80 x 48 pixels", max_pixels=48 * 80 - 1)


def test_the_header_is_enough_for_the_size(tmp_path: Path) -> None:
    path = tmp_path / "cut"
    path.write_bytes(encode(IMAGE, "JPEG")[:-200])
    assert image_size(str(path)) == (48, 80)
    for data, reason in (
        (b"", "the file is empty"),
        (b"<html>", "not a JPEG"),
        (b"\xff\xd8\xff", "JPEG data are damaged"),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=f"cut: .*{reason}"):
            image_size(path)
    path.write_bytes(png(5000, 5000))
    with pytest.raises(ValueError, match="cut: 5000 x 5000 pixels are more than the 1000 allowed"):
        image_size(path, max_pixels=1000)
    with pytest.raises(FileNotFoundError, match="nowhere: No such file"):
        image_size(tmp_path / "nowhere")
