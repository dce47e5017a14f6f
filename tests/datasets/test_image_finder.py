"""Find images by the names that tools write."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.datasets.image_finder import AmbiguousImageError, ImageFinder, files_below, images_among
from detector.results.files import ResultFolder


def finder(*names: str) -> ImageFinder:
    return ImageFinder([Path("/data") / name for name in names])


@pytest.mark.parametrize(
    ("there", "written"),
    [
        ("a.jpg", "a.jpg"),
        ("below/a.jpg", "a.jpg"),
        ("below/a.jpg", "elsewhere/a.jpg"),
        ("my photo.jpg", "my%20photo.jpg"),
        ("my%20photo.jpg", "my%20photo.jpg"),
        ("a.jpg", "C:\\Users\\anna\\a.jpg"),
        ("A.JPG", "a.jpg"),
        ("a.jpeg", "a.jpg"),
        ("a.png", "a"),
        ("v1.2.png", "v1.2"),
        ("K\u00f6ln.jpg", "Ko\u0308ln.jpg"),
        ("1a2b3c4d-my_photo.jpg", "my photo.jpg"),
        ("my photo (1).jpg", "1a2b3c4d-my_photo_1_.jpg"),
        ("a_jpg.rf.0a1b2c3d4e5f60718293a4b5c6d7e8f9.jpg", "a.jpg"),
        ("a.jpg", "a_jpg.rf.0a1b2c3d4e5f60718293a4b5c6d7e8f9.jpg"),
        ("a.jpg", "https://example.org/photos/a.jpg?width=100&name=b.jpg"),
        ("a.jpg", "/data/local-files/?d=photos/a.jpg"),
    ],
)
def test_names_as_tools_write_them(there: str, written: str) -> None:
    assert finder(there, "other.jpg", "below/another.png").find([written], []) == Path("/data") / there


def test_the_folder_decides_between_images_of_one_name() -> None:
    images = finder("train/a.jpg", "valid/a.jpg", "valid/deep/b.jpg", "train/b.jpg")
    assert images.find(["a.jpg"], [Path("/data/valid")]) == Path("/data/valid/a.jpg")
    assert images.find(["somewhere/train/a.jpg"], []) == Path("/data/train/a.jpg")
    assert images.find(["b"], [Path("/data/valid")]) == Path("/data/valid/deep/b.jpg")


def test_names_are_tried_in_their_order() -> None:
    images = finder("photos/a.jpg", "photos/a.png", "photos/b.jpg")
    assert images.find(["b", "a.jpg"], [Path("/data/photos")]) == Path("/data/photos/b.jpg")
    assert images.find(["a", "a.png"], [Path("/data/photos")]) == Path("/data/photos/a.png")
    assert images.find(["1", "a.png"], []) == Path("/data/photos/a.png")


def test_ambiguous_names_are_errors() -> None:
    images = finder("one/a.jpg", "two/a.jpg", "three/a.png")
    with pytest.raises(AmbiguousImageError, match=r"2 images go by the name: /data/one/a.jpg, /data/two/a.jpg"):
        images.find(["a.jpg"], [])
    with pytest.raises(AmbiguousImageError, match="3 images"):
        images.find(["a"], [])
    with pytest.raises(FileNotFoundError, match=r"there is no image 'b.jpg'"):
        images.find(["b.jpg"], [])
    with pytest.raises(FileNotFoundError):
        images.find(["../../etc/passwd"], [Path("/data/one")])
    with pytest.raises(FileNotFoundError):
        images.find([""], [Path("/data/one")])


def test_hidden_files_and_link_cycles_are_skipped(tmp_path: Path) -> None:
    for name in ("a.jpg", "sub/B.PNG", "notes.txt", ".hidden.jpg", "__MACOSX/._a.jpg", ".cache/c.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "sub" / "circle").symlink_to(tmp_path)
    files = files_below(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in files] == ["a.jpg", "notes.txt", "sub/B.PNG"]
    assert [path.name for path in images_among(files)] == ["a.jpg", "B.PNG"]
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder"):
        files_below(tmp_path / "nowhere")


def test_results_of_this_program_are_no_data_inside_of_other_folders(tmp_path: Path) -> None:
    path = ResultFolder(tmp_path / "report", ()).fixed("errors.csv")
    path.write_text("image,label\n")
    (tmp_path / "labels.json").touch()
    assert files_below(tmp_path) == [tmp_path / "labels.json"]
    # asked for by name, they may be corrected drafts
    assert files_below(tmp_path / "report") == [tmp_path / "report" / "errors.csv"]
