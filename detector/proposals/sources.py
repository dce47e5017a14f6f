"""Other sources of boxes: every one is a callable from an image to boxes, as `selective_search` is.

Precomputed boxes belong to an image id, so a file of them gives such a callable for each id.
"""

import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, as_boxes, from_one_based
from detector.images.resizing import check_image
from detector.runtime.optional import optional

if __name__ != "__main__":
    from detector.runtime.optional import optional

_SECONDS = 50
_MAX_MAT_BYTES = 3_000_000_000


def read_mat(path: Path) -> dict[str, NDArray[Any]]:
    """The cells `images` and `boxes` of a MATLAB file: an array for each id, as it is written.

    Raises OSError where it cannot be read, ValueError where it is no such file, and MissingPackageError without scipy.
    """
    optional("scipy", "proposals")
    with path.open("rb"):
        pass
    with tempfile.TemporaryDirectory(prefix="spp-detector-") as folder:
        target = Path(folder) / "boxes.npz"
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-P", __file__, str(path), str(target), json.dumps(sys.path)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_SECONDS, env=environment)
        except subprocess.TimeoutExpired:
            raise ValueError("not a whole MATLAB file (reading it takes too long)") from None
        if done.returncode or not target.exists():
            said = done.stdout.decode("utf-8", "replace").strip()
            raise ValueError(said or f"not a whole MATLAB file (its reader ended with {done.returncode})")
        with np.load(target, allow_pickle=False) as found:
            ids = json.loads(found["ids"].tobytes())
            return {image_id: found[f"boxes{number}"] for number, image_id in enumerate(ids)}


def _convert(path: str, target: str) -> None:
    """Write the cells of a file as an archive of plain arrays; ValueError says what is wrong with it."""
    import scipy.io

    try:
        found = scipy.io.loadmat(path)
    except NotImplementedError:  # what scipy raises at MATLAB 7.3, which is HDF5
        raise ValueError("a MATLAB 7.3 file; save it with -v7") from None
    except Exception as error:  # scipy raises IndexError, OSError, zlib.error and more at a damaged file
        raise ValueError(f"not a whole MATLAB file ({error})") from None
    for name in ("images", "boxes"):
        if name not in found:
            raise ValueError(f"must hold the cells images and boxes, but has no {name}")
    ids = [str(np.asarray(cell).item()) for cell in found["images"].ravel()]
    cells = [np.asarray(cell, np.float64) for cell in found["boxes"].ravel()]
    if len(ids) != len(cells):
        raise ValueError(f"holds {len(ids)} images but boxes of {len(cells)}")
    arrays: dict[str, Any] = {f"boxes{number}": cell for number, cell in enumerate(cells)}
    np.savez(target, ids=np.frombuffer(json.dumps(ids).encode(), np.uint8), **arrays)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MAT_BYTES, _MAX_MAT_BYTES))
    sys.path[:] = json.loads(sys.argv[3])
    try:
        _convert(*sys.argv[1:3])
    except (ValueError, TypeError) as error:
        print(error)
        sys.exit(1)


Source = Callable[[NDArray[np.uint8]], Boxes]

_MOST_BYTES = 1_000_000_000
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
    """Boxes of the PyPI package `selectivesearch`: (R, 4) float32, last joined first, no box twice.

    image: (H, W, 3) uint8 RGB. scale, sigma, min_size: the package's parameters. It has one color space and
    one similarity, counts texture by local binary patterns, and its corners are inclusive: one pixel is added
    here.
    """
    package = optional("selectivesearch", "proposals")
    with warnings.catch_warnings():
        # It feeds scikit-image floating-point images where whole numbers are advised.
        warnings.simplefilter("ignore", UserWarning)
        _, regions = package.selective_search(check_image(image), scale=scale, sigma=sigma, min_size=min_size)
    corners = np.array([region["rect"] for region in regions], np.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2] + 1
    return _selected(corners[::-1], min_side, max_boxes)


def opencv_contrib(
    image: NDArray[np.uint8], *, mode: str = "fast", min_side: int = 20, max_boxes: int = 2000, seed: int = 0
) -> Boxes:
    """Boxes of OpenCV's selective search (`cv2.ximgproc`): (R, 4) float32, in its order, no box twice.

    image: (H, W, 3) uint8 RGB. mode: "single", "fast" or "quality". seed: of OpenCV's random numbers, which
    it draws for its order. Raises ValueError where the installed OpenCV is the build without the contrib
    modules.
    """
    if mode not in CONTRIB_MODES:
        raise ValueError(f"mode must be one of {', '.join(CONTRIB_MODES)}, but got {mode!r}")
    segmentation = getattr(getattr(cv2, "ximgproc", None), "segmentation", None)
    if segmentation is None:
        raise ValueError(
            "OpenCV's selective search needs the package opencv-contrib-python in place of opencv-python, "
            "since both provide cv2"
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

    path: a file of one of three kinds, told by its suffix:

    - `.npz`: an array (R, 4) for each id, x1 y1 x2 y2, 0-based and half-open as everywhere in this project;
    - `.json`: an object {id: [[x1, y1, x2, y2], ...]}, the same;
    - `.mat`: as published with R-CNN, Fast R-CNN and SPP-net: cells `images` (ids) and `boxes` (y1 x1 y2 x2,
      1-based and inclusive). MATLAB's version 7.3 is another format, HDF5, and is not read.

    Raises OSError if the file cannot be read and ValueError if it does not hold such boxes, each in one line
    with its name.
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

    def for_image(self, image_id: str) -> Source:
        """The source for one image: a callable that returns the boxes of `image_id` whatever the image."""
        boxes = self[image_id]
        return lambda image: boxes


def _read_npz(path: Path) -> dict[str, Boxes]:
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("not an .npz archive")
        file.seek(0)
        archive = np.load(file, allow_pickle=False)
        size = sum(each.file_size for each in archive.zip.infolist())
        if size > _MOST_BYTES:
            raise ValueError(f"holds {size} bytes, more than the {_MOST_BYTES} allowed")
        for each in archive.zip.infolist():
            with archive.zip.open(each) as member:
                _check_header(member, each)
        return {image_id: _checked(archive[image_id], image_id) for image_id in archive.files}


def _check_header(member: IO[bytes], info: zipfile.ZipInfo) -> None:
    """Raise ValueError where an array promises more than there is: memory would be taken for it at once."""
    versions = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(member)
    if version not in versions:
        raise ValueError(f"{info.filename}: is of the unknown version {version}")
    shape, _, dtype = versions[version](member)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > info.file_size:
        raise ValueError(f"{info.filename}: promises {shape} of {dtype} in {info.file_size} bytes")


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
