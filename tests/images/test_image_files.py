"""Image files: any name, finding them by patterns, and writing them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detector.images.files import find_images, read_image, write_image
from tests.images.encoded import IMAGE, encode, read_bytes

# ---- names


@pytest.mark.parametrize("name", ["with space.png", "bücher 猫.png", "UPPER.PNG", "really a png.jpg", "bare"])
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    np.testing.assert_array_equal(read_bytes(tmp_path, encode(IMAGE, "PNG"), name), IMAGE)


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
        assert str(caught.value) == f"{pattern}: no image found"


def test_images_of_other_formats_are_left_out_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detector.images.files.find_spec", lambda name: None)
    for name in ("a.jpg", "b.HEIC", "c.heic", "d.jxl", ".hidden.heic", "notes.txt", "e.avif", "sub/f.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    line = (
        "images of formats that are not read are left out (2 HEIC, 1 JPEG XL); pip install 'spp-detector[heic]' reads"
    )
    assert [path.name for path in find_images([str(tmp_path)])] == ["a.jpg", "e.avif"]
    assert line in caplog.text
    monkeypatch.setattr("detector.images.files.find_spec", lambda name: name)
    assert [path.name for path in find_images([str(tmp_path)])] == ["a.jpg", "b.HEIC", "c.heic", "e.avif"]


def test_a_folder_of_folders_says_how_to_search_them(tmp_path: Path) -> None:
    (tmp_path / "day 1" / "raw").mkdir(parents=True)
    (tmp_path / "day 1" / "raw" / "a.jpg").touch()
    with pytest.raises(ValueError, match=r"no image found; there are some in subfolders: give '.*/\*\*'$"):
        find_images([str(tmp_path)])
    assert find_images([f"{tmp_path}/**"]) == [tmp_path / "day 1" / "raw" / "a.jpg"]


# ---- writing


@pytest.mark.parametrize("name", ["a.png", "b.BMP", "ü 1.webp", "c.tiff"])
def test_written_images_read_back(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / name, IMAGE[::-1])
    write_image(tmp_path / name, IMAGE)
    image = read_image(tmp_path / name)
    assert np.abs(image.astype(int) - IMAGE).max() <= (40 if name.endswith("webp") else 0)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_failed_writing_says_why_and_leaves_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder.png").mkdir()
    too_wide = np.zeros((1, 70_000, 3), np.uint8)
    for name, image, reason in (
        ("a.xyz", IMAGE, "no image format has the extension '.xyz'"),
        ("bare", IMAGE, "no image format has the extension ''"),
        ("missing/a.png", IMAGE, "No such file or directory"),
        ("folder.png", IMAGE, "directory"),
        ("a.jpg", too_wide, "70000 x 1 pixels"),
    ):
        with pytest.raises(OSError) as caught:
            write_image(tmp_path / name, image)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert reason in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ValueError, match="uint8 RGB"):
        write_image(tmp_path / "a.png", IMAGE[..., 0])
