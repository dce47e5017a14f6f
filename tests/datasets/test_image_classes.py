"""Images with class labels: from folders, and from images and objects of datasets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.image_classes import (
    LabeledImages,
    labeled_images,
    labeled_objects,
    load_folders,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two cats, one of them in a folder below, and a dog; next to them what is no image or hidden."""
    root = tmp_path / "pets"
    for name in ("dog/1.PNG", "cat/b.png", "cat/home/a.png", "cat/.hidden.png", ".git/c.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str((root / name).with_suffix(".png")), np.zeros((4, 6, 3), np.uint8))
    (root / "dog/1.png").rename(root / "dog/1.PNG")
    (root / "cat/notes.txt").write_text("about cats")
    return root


def test_a_class_is_a_folder(root: Path) -> None:
    found = load_folders(root)
    assert [path.relative_to(root).as_posix() for path in found.paths] == ["cat/b.png", "cat/home/a.png", "dog/1.PNG"]
    assert found.class_names == ("cat", "dog")
    assert found.targets.tolist() == [[1, -1], [1, -1], [-1, 1]]
    assert (found.exclusive, found.name, found.boxes) == (True, "pets", None)


def test_folders_without_images_are_reported_and_left_out(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "bird").mkdir()
    with pytest.raises(ValueError, match="pets: found 1 x class without images; --strict allows no issues"):
        load_folders(root, strict=True)
    caplog.clear()
    assert load_folders(root).class_names == ("cat", "dog")
    assert caplog.messages == [
        f"{root / 'bird'}: no image found",
        "pets: found 1 x class without images; going on with 3 images",
    ]


def test_one_class_is_an_error(root: Path, tmp_path: Path) -> None:
    (root / "dog/1.PNG").unlink()
    (root / "dog").rmdir()
    with pytest.raises(ValueError, match="at least two; found 1"):
        load_folders(root)
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        load_folders(tmp_path / "nowhere")


def test_images_that_cannot_be_read_are_left_out(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "cat/b.png").write_bytes(b"GIF")
    found = load_folders(root)
    assert [path.name for path in found.paths] == ["a.png", "1.PNG"]
    assert found.targets.tolist() == [[1, -1], [-1, 1]]
    assert "b.png" in caplog.messages[0]
    assert caplog.messages[-1].endswith("going on with 2 images")
    with pytest.raises(ValueError, match="1 x unreadable image; --strict allows no issues"):
        load_folders(root, strict=True)
    (root / "dog/1.PNG").write_bytes(b"")
    with pytest.raises(ValueError, match="no image of class 'dog' can be read"):
        load_folders(root)


@pytest.fixture
def dataset() -> Dataset:
    """On a, a difficult cat; on b, a cat, a difficult cat and a dog; on c, nothing."""
    boxes = np.array([[0, 0, 4, 4], [1, 1, 5, 5], [2, 2, 6, 6]], np.float32)
    no_boxes, no_labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    annotations = (
        Annotation("a", Path("a.jpg"), boxes[:1], np.array([0]), np.array([True])),
        Annotation("b", Path("b.jpg"), boxes, np.array([0, 0, 1]), np.array([False, True, False])),
        Annotation("c", Path("c.jpg"), no_boxes, no_labels, no_labels.astype(np.bool_)),
    )
    return Dataset(annotations, ("cat", "dog"), "pets train")


def test_classes_with_only_difficult_objects_are_ignored(dataset: Dataset) -> None:
    found = labeled_images(dataset)
    assert found.targets.tolist() == [[0, -1], [1, 1], [-1, -1]]
    assert (found.exclusive, len(found), found.boxes) == (False, 3, None)


def test_objects_are_samples_of_one_class(dataset: Dataset) -> None:
    found = labeled_objects(dataset)
    assert found.boxes is not None
    assert [path.name for path in found.paths] == ["b.jpg", "b.jpg"]
    assert found.boxes.tolist() == [[0, 0, 4, 4], [2, 2, 6, 6]]
    assert found.targets.tolist() == [[1, -1], [-1, 1]]
    assert (found.exclusive, found.name) == (True, "objects of pets train")
    with pytest.raises(ValueError, match="pets train: all objects are difficult"):
        labeled_objects(Dataset((dataset[0], dataset[2]), dataset.class_names, dataset.name))


def test_arrays_must_fit() -> None:
    paths, names = (Path("a"), Path("b")), ("cat", "dog", "bird")
    with pytest.raises(ValueError, match=r"targets must have shape \(2, 3\), but got \(2, 2\)"):
        LabeledImages(paths, np.zeros((2, 2), np.int8), names, False, "pets")
    with pytest.raises(ValueError, match="one class"):
        LabeledImages(paths, np.ones((2, 3), np.int8), names, True, "pets")
    with pytest.raises(ValueError, match=r"boxes must have shape \(2, 4\), but got \(1, 4\)"):
        LabeledImages(paths, np.ones((2, 3), np.int8), names, False, "pets", np.zeros((1, 4), np.float32))
