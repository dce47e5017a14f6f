"""Other sources of boxes: callables from an image to boxes, like `selective_search`, and boxes from files."""

import json
import math
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, as_boxes, from_one_based
from detector.images.resizing import check_image
from detector.proposals.mat_files import read_mat
from detector.runtime.optional import optional

_MAX_BYTES = 1_000_000_000
_ENCRYPTED = 1  # bit of a member's flags
UNREADABLE = (
    ValueError,
    TypeError,
    EOFError,
    RecursionError,
    OverflowError,
    KeyError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)

CONTRIB_MODES = {
    "single": "switchToSingleStrategy",
    "fast": "switchToSelectiveSearchFast",
    "quality": "switchToSelectiveSearchQuality",
}


def selectivesearch_package(
    image: NDArray[np.uint8],
    *,
    scale: float = 100,
    sigma: float = 0.8,
    min_size: int = 50,
    min_side: int = 20,
    max_boxes: int = 2000,
) -> Boxes:
    """Propose boxes by the PyPI package `selectivesearch`: (R, 4) float32, last merged first, without duplicates.

    image: (H, W, 3) uint8 RGB. scale, sigma, min_size: the package's parameters. It has one color space and one
    similarity, and describes texture by local binary patterns. Its corners are inclusive: one pixel is added here.
    """
    package = optional("selectivesearch", "proposals")
    with warnings.catch_warnings():
        # it gives scikit-image floating-point images where whole numbers are advised
        warnings.simplefilter("ignore", UserWarning)
        _, regions = package.selective_search(check_image(image), scale=scale, sigma=sigma, min_size=min_size)
    corners = np.array([region["rect"] for region in regions], np.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2] + 1
    return _selected(corners[::-1], min_side, max_boxes)


def opencv_contrib(
    image: NDArray[np.uint8], *, mode: str = "fast", min_side: int = 20, max_boxes: int = 2000, seed: int = 0
) -> Boxes:
    """Propose boxes by OpenCV's selective search (`cv2.ximgproc`): (R, 4) float32, in its order, without duplicates.

    image: (H, W, 3) uint8 RGB. mode: "single", "fast" or "quality". seed: of OpenCV's random numbers, which decide the
    order. Raises ValueError for a build of OpenCV without the contrib modules.
    """
    if mode not in CONTRIB_MODES:
        raise ValueError(f"mode must be one of {', '.join(CONTRIB_MODES)}, but got {mode!r}")
    segmentation = getattr(getattr(cv2, "ximgproc", None), "segmentation", None)
    if segmentation is None:
        raise ValueError(
            "OpenCV's selective search needs the package opencv-contrib-python-headless in place of "
            "opencv-python-headless, since both provide cv2"
        )
    cv2.setRNGSeed(seed)
    search = segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(cv2.cvtColor(check_image(image), cv2.COLOR_RGB2BGR))
    getattr(search, CONTRIB_MODES[mode])()
    corners = np.asarray(search.process(), np.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return _selected(corners, min_side, max_boxes)


def _selected(boxes: Boxes, min_side: int, max_boxes: int) -> Boxes:
    large = (boxes[:, 2] - boxes[:, 0] >= min_side) & (boxes[:, 3] - boxes[:, 1] >= min_side)
    boxes = boxes[large]
    first = np.sort(np.unique(boxes, axis=0, return_index=True)[1])
    return np.ascontiguousarray(boxes[first[:max_boxes]])


class PrecomputedBoxes(Mapping[str, Boxes]):
    """Boxes from a file, by image id.

    path: a file of one of three kinds, recognized by its suffix:

    - `.npz`: an (R, 4) array per id, x1 y1 x2 y2, 0-based and half-open;
    - `.json`: an object {id: [[x1, y1, x2, y2], ...]}, the same;
    - `.mat`: as published with R-CNN, Fast R-CNN and SPP-net: cells `images` (ids) and `boxes` (y1 x1 y2 x2,
      1-based and inclusive). MATLAB's version 7.3, which is HDF5, is not supported.

    Raises OSError for an unreadable file and ValueError for one without such boxes, each in one line with its name.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        readers = {".npz": _read_npz, ".json": _read_json, ".mat": _read_mat}
        if self.path.suffix not in readers:
            raise ValueError(f"{path}: boxes are read from {', '.join(readers)} files")
        try:
            self._boxes = readers[self.path.suffix](self.path)
        except OSError as error:
            raise type(error)(f"{path}: {error.strerror or error}") from error
        except UNREADABLE as error:
            raise ValueError(f"{path}: {' '.join(str(error).split())}") from error

    def __getitem__(self, image_id: str) -> Boxes:
        if image_id not in self._boxes:
            raise ValueError(f"{self.path}: no boxes for image {image_id!r}")
        return self._boxes[image_id]

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._boxes

    def __iter__(self) -> Iterator[str]:
        return iter(self._boxes)

    def __len__(self) -> int:
        return len(self._boxes)


def _read_npz(path: Path) -> dict[str, Boxes]:
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("not an .npz archive")
        file.seek(0)
        archive = np.load(file, allow_pickle=False)
        size = sum(each.file_size for each in archive.zip.infolist())
        if size > _MAX_BYTES:
            raise ValueError(f"holds {size} bytes, more than the {_MAX_BYTES} allowed")
        for each in archive.zip.infolist():
            if each.flag_bits & _ENCRYPTED:
                raise ValueError(f"{each.filename} is encrypted: write the boxes without a password")
            with archive.zip.open(each) as member:
                _check_header(member, each)
        return {image_id: _checked(archive[image_id], image_id) for image_id in archive.files}


def _check_header(member: IO[bytes], info: zipfile.ZipInfo) -> None:
    """Raise ValueError for an array that is larger than its file: memory would be allocated for it at once."""
    versions = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(member)
    if version not in versions:
        raise ValueError(f"{info.filename}: has the unknown version {version}")
    shape, _, dtype = versions[version](member)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > info.file_size:
        raise ValueError(f"{info.filename}: claims {shape} of {dtype} in {info.file_size} bytes")


def _read_json(path: Path) -> dict[str, Boxes]:
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"must hold an object of image ids, but holds a {type(found).__name__}")
    return {image_id: _checked(boxes, image_id) for image_id, boxes in found.items()}


def _read_mat(path: Path) -> dict[str, Boxes]:
    found = read_mat(path)
    boxes = {image_id: _checked(cell, image_id)[:, [1, 0, 3, 2]] for image_id, cell in found.items()}
    return {image_id: from_one_based(each).astype(np.float32) for image_id, each in boxes.items()}


def _checked(boxes: Any, image_id: str) -> Boxes:
    if np.size(boxes) == 0:
        return np.empty((0, 4), np.float32)
    return as_boxes(boxes, f"boxes of {image_id}")
