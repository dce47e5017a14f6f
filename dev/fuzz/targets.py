"""What is fuzzed: readers of files, each as a function of bytes.

A target returns for input that is read, and for input that is refused in one line that names the file. All else that it
raises is a fault, warnings of numpy included.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from detector.config.classifier import ClassifierConfig
from detector.config.detector import Config, parse_config
from detector.config.recipes import read_recipe
from detector.datasets.archive import member_names, unpacked
from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.issues import Issue
from detector.datasets.loading import DataSource, load_splits
from detector.evaluation.coco_results import plain_ids, read_coco_results
from detector.evaluation.voc_results import read_detections
from detector.images.decoding import decode_image
from detector.model_file import DETECTOR, ModelContents, read_model
from detector.runtime.array_files import Arrays, cached_arrays, read_arrays, write_arrays
from detector.web.bodies import image_of

Target = Callable[[bytes], None]
_SEPARATOR = b"\n---\n"
"""Between the files of targets that read two."""


@contextmanager
def _refused_in_a_line(name: str) -> Iterator[None]:
    """Take a refusal that is one line with ``name``; warnings are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            yield
        except (OSError, ValueError) as error:
            text = str(error)
            if name not in text or "\n" in text or len(text) > 3000:
                raise AssertionError(f"a refusal must be one line that names {name}: {text[:500]!r}") from error


def _image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).parents[2] / "tests" / "golden" / "1" / "images" / "JPEGImages" / "test_0001.png", path)


def _load(path: Path, **source: Any) -> None:
    """Load all splits of a dataset; issues are reported, not raised."""
    issues: list[Issue] = []
    for each in load_splits(DataSource(path, **source), report=issues.append, log=lambda line: None).values():
        for annotation in each:
            assert annotation.boxes.shape == (len(annotation.labels), 4)
            assert np.isfinite(annotation.boxes).all() and (annotation.boxes[:, 2:] > annotation.boxes[:, :2]).all()
            assert (annotation.labels < len(each.class_names)).all()
    for issue in issues:
        assert "\n" not in str(issue)


def _beside_an_image(folder: Path, file: Path, **source: Any) -> Target:
    """Read an annotation file of a folder with an image."""
    _image(folder / "a.png")

    def run(data: bytes) -> None:
        file.write_bytes(data)
        with _refused_in_a_line(folder.name):
            _load(folder, **source)

    return run


def voc(folder: Path) -> Target:
    """Read an XML file of VOC beside its image."""
    return _beside_an_image(folder / "voc", folder / "voc" / "a.xml")


def coco(folder: Path) -> Target:
    """Read a COCO file beside an image."""
    return _beside_an_image(folder / "coco", folder / "coco" / "annotations.json", format_name="coco")


def yolo(folder: Path) -> Target:
    """Read data.yaml of YOLO and, after a separator, the labels of an image."""
    root = folder / "yolo"
    _image(root / "images" / "train" / "a.png")
    (root / "labels" / "train").mkdir(parents=True)

    def run(data: bytes) -> None:
        description, _, labels = data.partition(_SEPARATOR)
        (root / "data.yaml").write_bytes(description)
        (root / "labels" / "train" / "a.txt").write_bytes(labels)
        with _refused_in_a_line("yolo"):
            _load(root)

    return run


def archive(folder: Path) -> Target:
    """Unpack a zip or tar file; the first byte says which."""
    names = ("a.zip", "a.tar", "a.tar.gz", "a.tar.xz")
    (folder / "archive").mkdir()

    def run(data: bytes) -> None:
        file = folder / "archive" / names[data[0] % len(names) if data else 0]
        file.write_bytes(data[1:])
        with _refused_in_a_line(file.name):
            target = unpacked(file)
            member_names(file)
            files = [path for path in target.rglob("*") if not path.is_dir()]
            assert all(path.is_file() and not path.is_symlink() for path in files)
            shutil.rmtree(target.parent)

    return run


def results(folder: Path) -> Target:
    """Read a COCO result file, or, where the first byte is even, a file of the devkit."""
    root = folder / "results"
    root.mkdir()
    boxes, labels = np.array([[0, 0, 10, 10]], np.float32), np.array([0])
    images = [Annotation(name, root / name, boxes, labels, np.zeros(1, np.bool_)) for name in ("a", "000012")]
    dataset = Dataset(tuple(images), ("dog", "cat"), "two")

    def run(data: bytes) -> None:
        file = root / ("comp4_det_test_dog.txt" if data[:1] < b"0" or data[:1] in b"02468" else "found.json")
        file.write_bytes(data[1:])
        with _refused_in_a_line(file.name):
            if file.suffix == ".txt":
                found = read_detections(root, "test", dataset.class_names, ["a", "000012"])
            else:
                found = read_coco_results(file, plain_ids(dataset), dataset)
            for each in found.values():
                assert each.boxes.shape == (len(each.image_ids), 4) and np.isfinite(each.scores).all()

    return run


def model(folder: Path) -> Target:
    """Read a model file; where the first byte is even, of sound arrays with the rest as its description."""
    file = folder / "model.safetensors"
    arrays: Arrays = {"svm.weights": np.zeros((3, 2), np.float32), "svm.biases": np.zeros(2, np.float32)}

    def compose(contents: ModelContents) -> Config:
        return parse_config(contents.config, "its configuration")

    def run(data: bytes) -> None:
        file.write_bytes(data[1:])
        if data[:1] in b"02468":
            with suppress(ValueError, RecursionError):
                description = json.loads(data[1:])
                if not isinstance(description, dict):
                    return
                write_arrays(file, arrays, description)
        with _refused_in_a_line(file.name):
            read_model(file, DETECTOR, compose)

    return run


def recipe(folder: Path) -> Target:
    """Read a recipe of a detector; where the first byte is odd, of a classifier."""
    file = folder / "recipe.yaml"

    def run(data: bytes) -> None:
        file.write_bytes(data[1:])
        with _refused_in_a_line(file.name):
            read_recipe(file, Config if data[:1] in b"02468" else ClassifierConfig)

    return run


def cache(folder: Path) -> Target:
    """Read a file of a cache, which is computed again where it is damaged."""
    image, file = folder / "a.png", folder / "cache" / "a.safetensors"
    _image(image)
    sound: Mapping[str, Any] = {"boxes": np.array([[0, 0, 1, 1]], np.float32)}
    file.parent.mkdir()

    def run(data: bytes) -> None:
        file.write_bytes(data)
        arrays = cached_arrays(file, lambda: dict(sound), image, ("boxes",))
        assert "boxes" in arrays
        assert read_arrays(file)[0].keys() == arrays.keys()

    return run


def body(folder: Path) -> Target:
    """Take the image out of the body of a request, whose first line is its Content-Type."""

    def run(data: bytes) -> None:
        kind, _, content = data.partition(b"\n")
        try:
            found = image_of(content, kind.decode("latin-1").strip())
            decode_image(found, max_pixels=1_000_000)
        except ValueError as error:
            assert "\n" not in str(error)

    return run


TARGETS: Mapping[str, Callable[[Path], Target]] = {
    each.__name__: each for each in (voc, coco, yolo, archive, results, model, recipe, cache, body)
}
