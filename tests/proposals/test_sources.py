"""The other sources of boxes, and files of boxes, good and bad."""

import inspect
import io
import json
import sys
import types
import zipfile
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.io
from skimage.data import astronaut

from detector.config.detector import ProposalConfig
from detector.proposals.mat_files import _convert
from detector.proposals.selective_search import selective_search
from detector.proposals.sources import PrecomputedBoxes, opencv_contrib, selectivesearch_package

IMAGE = np.ascontiguousarray(astronaut()[:120:2, 160:320:2])
BOXES = {"000001": np.array([[0, 0, 10, 20], [5.5, 2, 7, 3]], np.float32), "b": np.zeros((0, 4), np.float32)}


@pytest.mark.parametrize("propose", [selective_search, selectivesearch_package, opencv_contrib])
def test_defaults_are_those_of_a_recipe(propose: Any) -> None:
    fields = ProposalConfig.model_fields
    found = {name: each.default for name, each in inspect.signature(propose).parameters.items() if name in fields}
    assert {"max_boxes", "min_side"} <= found.keys()
    assert found == {name: fields[name].default for name in found}


def test_the_package_gives_boxes_inside_the_image_none_twice() -> None:
    boxes = selectivesearch_package(IMAGE, min_side=8)
    assert boxes.dtype == np.float32
    assert len(boxes) > 5
    assert (boxes >= 0).all()
    assert (boxes <= (80, 60, 80, 60)).all()
    assert ((boxes[:, 2:] - boxes[:, :2]) >= 8).all()
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    # The package merges until one region is left, and the last one comes first here.
    assert boxes[0].tolist() == [0, 0, 80, 60]
    assert np.array_equal(selectivesearch_package(IMAGE, min_side=8, max_boxes=4), boxes[:4])


def test_the_package_refuses_what_is_not_an_image() -> None:
    with pytest.raises(ValueError, match="image must be"):
        selectivesearch_package(IMAGE[..., :1])


def test_opencv_without_contrib_names_the_package_that_is_missing(monkeypatch: Any) -> None:
    monkeypatch.setattr(cv2, "ximgproc", types.SimpleNamespace(), raising=False)
    with pytest.raises(ValueError, match="opencv-contrib-python"):
        opencv_contrib(IMAGE)


class FakeSearch:
    """Stands in for OpenCV's object, with x y width height boxes, one of them twice and one too small."""

    def setBaseImage(self, image: Any) -> None:  # noqa: N802
        self.image = image

    def switchToSingleStrategy(self) -> None:  # noqa: N802
        self.mode = "single"

    def process(self) -> Any:
        assert self.mode == "single"
        assert self.image[0, 0].tolist() == IMAGE[0, 0, ::-1].tolist()
        return np.array([[1, 2, 30, 40], [0, 0, 80, 60], [1, 2, 30, 40], [0, 0, 19, 50]], np.int32)


def test_opencv_boxes_become_corners_in_its_order(monkeypatch: Any) -> None:
    segmentation = types.SimpleNamespace(createSelectiveSearchSegmentation=FakeSearch)
    monkeypatch.setattr(cv2, "ximgproc", types.SimpleNamespace(segmentation=segmentation), raising=False)
    assert opencv_contrib(IMAGE, mode="single").tolist() == [[1, 2, 31, 42], [0, 0, 80, 60]]
    with pytest.raises(ValueError, match="mode must be one of single, fast, quality, but got 'slow'"):
        opencv_contrib(IMAGE, mode="slow")


def cells(*values: Any) -> Any:
    array = np.empty((len(values), 1), object)
    for index, value in enumerate(values):
        array[index, 0] = value
    return array


def write_npz(path: Any) -> None:
    np.savez(path, **dict[str, Any](BOXES))


def write_json(path: Any) -> None:
    path.write_text(json.dumps({image_id: boxes.tolist() for image_id, boxes in BOXES.items()}))


def write_mat(path: Any) -> None:
    inclusive = [boxes[:, [1, 0, 3, 2]] + np.array([1, 1, 0, 0], np.float32) for boxes in BOXES.values()]
    scipy.io.savemat(path, {"images": cells(*BOXES), "boxes": cells(*inclusive)})


@pytest.mark.parametrize(("name", "write"), [("b.npz", write_npz), ("b.json", write_json), ("b.mat", write_mat)])
def test_files_of_boxes(tmp_path: Any, name: Any, write: Any) -> None:
    write(tmp_path / name)
    boxes = PrecomputedBoxes(tmp_path / name)
    assert sorted(boxes) == sorted(BOXES)
    assert len(boxes) == 2
    for image_id, expected in BOXES.items():
        assert boxes[image_id].dtype == np.float32
        assert np.array_equal(boxes[image_id], expected)
    with pytest.raises(ValueError, match=rf"{name}: no boxes for image '000002'"):
        boxes["000002"]


def test_mat_corners_are_one_based_and_inclusive(tmp_path: Any) -> None:
    path = tmp_path / "voc.mat"
    scipy.io.savemat(path, {"images": cells("000005"), "boxes": cells(np.array([[1, 3, 375, 500]], np.uint16))})
    assert PrecomputedBoxes(path)["000005"].tolist() == [[2, 0, 500, 375]]


def write_pickle(path: Any) -> None:
    np.savez(path, a=np.array([{"x": 1}], object))


def write_encrypted(path: Any) -> None:
    """Write an archive whose member is marked as encrypted, in its own header and in the directory."""
    np.savez(path, a=np.ones((1, 4)))
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)


def write_hdf5(path: Any) -> None:
    text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan 1 00:00:00 2024"
    path.write_bytes(text.ljust(124) + b"\x00\x02IM" + bytes(1024))


BAD_FILES = [
    ("text.npz", lambda path: path.write_text("hello"), "not an .npz archive"),
    ("empty.npz", lambda path: path.write_bytes(b""), "not an .npz archive"),
    ("pickle.npz", write_pickle, "allow_pickle"),
    ("encrypted.npz", write_encrypted, "a.npy is encrypted: write the boxes without a password"),
    (
        "shape.npz",
        lambda path: np.savez(path, a=np.ones((3, 5))),
        r"boxes of a must have shape \(_, 4\), but got \(3, 5\)",
    ),
    ("text.npz", lambda path: np.savez(path, a=np.array([["x"] * 4])), "could not convert"),
    ("cut.json", lambda path: path.write_text('{"a": [[1, 2'), "line 1 column"),
    ("list.json", lambda path: path.write_text("[1]"), "must hold an object of image ids, but holds a list"),
    ("bytes.json", lambda path: path.write_bytes(b"\xff\xfe\xff"), "decode"),
    ("ragged.json", lambda path: path.write_text('{"a": [[1, 2, 3, 4], [1]]}'), "shape|sequence"),
    ("swapped.json", lambda path: path.write_text('{"a": [[9, 2, 3, 4]]}'), "boxes of a must have x1 <= x2"),
    ("null.json", lambda path: path.write_text('{"a": null}'), "a"),
    ("zeros.mat", lambda path: path.write_bytes(bytes(300)), "not a complete MATLAB file"),
    ("text.mat", lambda path: path.write_text("hello"), "not a complete MATLAB file"),
    ("hdf5.mat", write_hdf5, "MATLAB 7.3"),
    ("none.mat", lambda path: scipy.io.savemat(path, {"images": cells("a")}), "has no boxes"),
    (
        "odd.mat",
        lambda path: scipy.io.savemat(path, {"images": cells("a", "b"), "boxes": cells(1)}),
        "2 images but boxes of 1",
    ),
    ("boxes.txt", lambda path: path.write_text("1 2 3 4"), "boxes are read from .npz, .json, .mat files"),
]


@pytest.mark.parametrize(
    ("name", "write", "reason"), BAD_FILES, ids=[f"{i}-{name}" for i, (name, *_) in enumerate(BAD_FILES)]
)
def test_bad_files_are_named_in_one_line(tmp_path: Any, name: Any, write: Any, reason: Any) -> None:
    write(tmp_path / name)
    with pytest.raises(ValueError, match=reason) as error:
        PrecomputedBoxes(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(error.value)
    if name.endswith(".mat"):  # as the process of its own says it
        with pytest.raises(ValueError, match=reason):
            _convert(str(tmp_path / name), str(tmp_path / "converted.npz"))
        assert not (tmp_path / "converted.npz").exists()


def test_a_matlab_file_becomes_plain_arrays(tmp_path: Any) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"images": cells("x", "y"), "boxes": cells(np.ones((1, 4)), np.zeros((0, 4)))})
    _convert(str(tmp_path / "a.mat"), str(tmp_path / "a.npz"))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert json.loads(found["ids"].tobytes()) == ["x", "y"]
        assert found["boxes0"].tolist() == [[1.0] * 4]
        assert found["boxes1"].shape == (0, 4)


@pytest.mark.parametrize("name", ["none.npz", "none.json", "none.mat"])
def test_missing_files_are_named_in_one_line(tmp_path: Any, name: Any) -> None:
    with pytest.raises(OSError, match="No such file") as error:
        PrecomputedBoxes(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.all
def test_a_cut_off_mat_file_is_refused_wherever_it_is_cut(tmp_path: Any) -> None:
    write_mat(tmp_path / "whole.mat")
    whole = (tmp_path / "whole.mat").read_bytes()
    cut = tmp_path / "cut.mat"
    for length in range(0, len(whole) - 8, 89):
        cut.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.mat: "):
            PrecomputedBoxes(cut)


def test_arrays_that_promise_what_is_not_there_take_no_memory(tmp_path: Any) -> None:
    path = tmp_path / "lies.npz"
    file = io.BytesIO()
    np.save(file, np.zeros((2, 4), np.float32))
    lies = file.getvalue().replace(b"(2, 4), }" + b" " * 12, b"(999999999999, 4), }"[:21].ljust(21))
    assert len(lies) == len(file.getvalue()) and lies != file.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", lies)
    with pytest.raises(ValueError, match=r"lies\.npz: a\.npy: claims \(999999999999, 4\) of float32 in \d+ bytes"):
        PrecomputedBoxes(path)


def test_what_ends_the_reader_of_matlab_files_ends_nothing_else(tmp_path: Any, monkeypatch: Any) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(b"")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ValueError, match=r"a\.mat: not a complete MATLAB file \(its reader ended with 1\)"):
        PrecomputedBoxes(path)


def test_the_seed_is_that_of_opencv_s_random_numbers(monkeypatch: Any) -> None:
    class Shuffling(FakeSearch):
        def process(self) -> Any:
            boxes = np.array([[number, 0, 40, 40] for number in range(30)], np.int32)
            order = cv2.randu(np.zeros(30, np.float32), 0, 1).argsort()
            return boxes[order]

    segmentation = types.SimpleNamespace(createSelectiveSearchSegmentation=Shuffling)
    monkeypatch.setattr(cv2, "ximgproc", types.SimpleNamespace(segmentation=segmentation), raising=False)
    first, again, other = (opencv_contrib(IMAGE, mode="single", seed=seed).tolist() for seed in (3, 3, 4))
    assert first == again != other
    assert sorted(first) == sorted(other)
