"""Images that a command line, a list, or standard input names."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from detector.cli.images import named_images
from detector.images.files import write_image


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name, np.zeros((4, 4, 3), np.uint8))
    return tmp_path


def on_stdin(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))


def test_urls_stay_as_they_are_and_files_come_once(folder: Path) -> None:
    arguments = ["s3://bucket/a b.jpg", "a.png", f"file://{folder}/a.png", ".", "./a.png"]
    assert [*named_images(arguments, None)] == [arguments[0], "a.png", arguments[2], "b.png"]


def test_a_list_with_a_byte_order_mark(folder: Path) -> None:
    (folder / "list").write_bytes(b"\xef\xbb\xbfa.png\r\n\r\nhttp://host//b.png\n")
    assert [*named_images([], folder / "list")] == ["a.png", "http://host//b.png"]


def test_a_list_through_a_pipe_is_read_again_and_again(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    writer = threading.Thread(target=lambda: (folder / "pipe").write_text("a.png\nb.png\n"))
    writer.start()
    names = named_images([], folder / "pipe")
    writer.join()
    assert [*names] == [*names] == ["a.png", "b.png"]


@pytest.mark.parametrize("arguments", [(["-"], None), ([], Path("-"))])
def test_standard_input(arguments: tuple[list[str], Path | None], monkeypatch: pytest.MonkeyPatch) -> None:
    on_stdin(b"\xef\xbb\xbfb.png\na.png\n", monkeypatch)
    assert [*named_images(*arguments)] == ["b.png", "a.png"]
    on_stdin(b"\n", monkeypatch)
    with pytest.raises(ValueError, match=r"^-: names no image$"):
        named_images(*arguments)
    on_stdin(Path("a.png").read_bytes(), monkeypatch)
    with pytest.raises(ValueError, match=r"^-: must be a list of images, but is an image; give /dev/stdin"):
        named_images(*arguments)


def test_a_list_that_is_no_text(folder: Path) -> None:
    (folder / "list").write_bytes(b"a.png\nb\0.png\n")
    with pytest.raises(ValueError, match=r"^line 2 of the list holds a zero byte: it must be UTF-8 text$"):
        named_images([], folder / "list")
