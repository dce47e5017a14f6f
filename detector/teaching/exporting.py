"""Export a project's labels and model, and import labels of any format that is read."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detector.datasets.archive import is_archive, unpacked
from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.image_finder import files_below, images_among
from detector.datasets.issues import Issue
from detector.datasets.loading import DataSource, load_splits
from detector.datasets.writing import WRITTEN_FORMATS, write_dataset
from detector.model_file import MODEL_NAME
from detector.runtime.files import RESULTS_MARK
from detector.teaching.labels import Box, ImageLabels, check_class_name, check_corners
from detector.teaching.project import Project

_LEARNED = {"model": MODEL_NAME, "report": "report"}
EXPORTS = (*_LEARNED, *WRITTEN_FORMATS)
_MAX_NAME = 100


def export_project(project: Project, format_name: str, write_learned: Callable[[str, Path], None]) -> Path:
    """Write a model, a report, or the finished images with labels below the project's exports; return the path.

    ``write_learned`` writes the "model" or the "report" to a path. An earlier export of the same format is replaced.
    Raises ValueError where there is nothing to export, OSError.
    """
    project.exports.mkdir(exist_ok=True)
    # the project folder stays one dataset
    (project.exports / RESULTS_MARK).touch()
    if format_name in _LEARNED:
        path = project.exports / _LEARNED[format_name]
        write_learned(format_name, path.absolute())
        return path
    dataset = project_dataset(project)
    if not len(dataset):
        raise ValueError("there are no labels yet: finish an image first")
    write_dataset({"": dataset}, project.exports / format_name, format_name, overwrite=True)
    return project.exports / format_name


def project_dataset(project: Project) -> Dataset:
    """Return the finished images of a project as a dataset."""
    names = project.class_names
    annotations = []
    for number, image in enumerate(project.images):
        labels = project.labels(number)
        if labels.done:
            image_id = str(Path(image.name).with_suffix(""))
            annotations.append(labels.to_annotation(image_id, image.path, names))
    return Dataset(tuple(annotations), names, project.folder.name)


def import_labels(project: Project, name: str, content: bytes) -> dict[str, Any]:
    """Take over the labels of an annotation file or an archive, as they are exported by labeling tools.

    name: of the file, which may decide how it is read. Images are found by their names; labels of images that have
    labels already stay. Returns ``{"images", "boxes", "skipped", "line"}``. Raises ValueError, in one line, where
    nothing can be read.
    """
    with tempfile.TemporaryDirectory(dir=project.folder, prefix=".import-") as folder:
        root = Path(folder).resolve()
        numbers = {image.path.resolve(): number for number, image in enumerate(project.images)}
        source = _with_images(root, name, content, project)
        issues: list[Issue] = []
        splits = load_splits(DataSource(source), report=issues.append)
        imported = {}
        for dataset in splits.values():
            for each in dataset:
                number = numbers.get(each.path.resolve())
                if number is not None and not project.labels(number).boxes:
                    imported[number] = _labels_of(each, dataset.class_names, project.size(number))
    project.add_labels(imported)
    n_boxes = sum(len(each.boxes) for each in imported.values())
    line = f"imported {n_boxes} boxes of {len(imported)} images"
    return {"images": len(imported), "boxes": n_boxes, "skipped": len(issues), "line": line}


def _with_images(root: Path, name: str, content: bytes, project: Project) -> Path:
    """Write an annotation file or the contents of an archive next to links to the project's images; return its path.

    An image of the archive gives way to the project's image of the same name.
    """
    source = root / (re.sub(r"[^\w.-]+", "_", Path(name).name)[-_MAX_NAME:].lstrip(".") or "labels")
    source.write_bytes(content)
    own = {Path(image.name).name: image.path.resolve() for image in project.images}
    if is_archive(source):
        folder = unpacked(source)
        source.unlink()
        source = root / "archive"
        shutil.move(folder, source)
        for image in images_among(files_below(source)):
            image.unlink()
            if image.name in own:
                image.symlink_to(own.pop(image.name))
    for image_name, path in own.items():
        link = source.parent / "images" / image_name if source.is_file() else source / "images" / image_name
        link.parent.mkdir(exist_ok=True)
        if not link.exists():
            link.symlink_to(path)
    return source


def _labels_of(annotation: Annotation, class_names: tuple[str, ...], size: tuple[int, int]) -> ImageLabels:
    boxes = [
        Box(check_class_name(class_names[label]), check_corners(corners, size))
        for corners, label in zip(annotation.boxes.tolist(), annotation.labels.tolist(), strict=True)
    ]
    return ImageLabels(tuple(boxes), done=True)
