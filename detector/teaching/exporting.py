"""Export a project's labels and model, and import labels of any format that is read."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from detector.datasets.archive import is_archive, unpacked
from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.image_finder import ImageFinder, files_below, images_among
from detector.datasets.issues import Issue
from detector.datasets.loading import DataSource, load_splits
from detector.datasets.writing import WRITTEN_FORMATS, file_stem, write_dataset
from detector.model_file import MODEL_NAME
from detector.runtime.files import RESULTS_MARK
from detector.teaching.labels import Box, ImageLabels, check_class_name, check_corners
from detector.teaching.project import Project, ProjectImage

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
            annotations.append(labels.to_annotation(_image_id(image), image.path, names))
    return Dataset(tuple(annotations), names, project.folder.name)


def import_labels(project: Project, name: str, content: bytes) -> dict[str, Any]:
    """Take over the labels of an annotation file or an archive, as they are exported by labeling tools.

    name: of the file, which may decide how it is read. Images are found by their names, with folders where several have
    one name. Images that have boxes already keep them. Returns ``{"images", "boxes", "skipped", "line"}``. Raises
    ValueError, in one line, where nothing can be read.
    """
    with tempfile.TemporaryDirectory(dir=project.folder, prefix=".import-") as folder:
        root = Path(folder).resolve()
        numbers = {image.path.resolve(): number for number, image in enumerate(project.images)}
        source = _with_images(root, name, content, project)
        issues: list[Issue] = []
        splits = load_splits(DataSource(source), report=issues.append)
        imported, n_unknown = {}, 0
        for dataset in splits.values():
            for each in dataset:
                number = numbers.get(each.path.resolve())
                if number is None:
                    n_unknown += 1
                elif not project.labels(number).boxes:
                    imported[number] = _labels_of(each, dataset.class_names, project.size(number))
    project.add_labels(imported)
    n_boxes = sum(len(each.boxes) for each in imported.values())
    n_skipped = len(issues) + n_unknown
    line = f"imported {n_boxes} boxes of {len(imported)} images" + (f"; {n_skipped} left out" if n_skipped else "")
    return {"images": len(imported), "boxes": n_boxes, "skipped": n_skipped, "line": line}


def _with_images(root: Path, name: str, content: bytes, project: Project) -> Path:
    """Write an annotation file or the contents of an archive next to links to the project's images; return its path.

    An image of the archive gives way to the project's image that it names, unless others of the archive name that, too.
    """
    source = root / (re.sub(r"[^\w.-]+", "_", Path(name).name)[-_MAX_NAME:].lstrip(".") or "labels")
    source.write_bytes(content)
    own = _by_name(project)
    archived: dict[Path | None, list[Path]] = defaultdict(list)
    if is_archive(source):
        folder = unpacked(source)
        source.unlink()
        source = root / "archive"
        shutil.move(folder, source)
        finder = ImageFinder(list(own))
        for image in images_among(files_below(source)):
            archived[_named(image.relative_to(source), finder, own)].append(image)
    for target, images in archived.items():
        if target is not None and len(images) == 1:
            images[0].unlink()
            images[0].symlink_to(target)
    for image_name, targets in own.items():
        link = (source.parent if source.is_file() else source) / "images" / image_name
        if len(targets) > 1 or archived.keys() & targets or link.exists():
            continue
        link.parent.mkdir(parents=True, exist_ok=True)
        for target in targets:
            link.symlink_to(target)
    return source


def _by_name(project: Project) -> dict[Path, set[Path]]:
    """Return the images that each path may mean: their own, and that of their copies in exports, without folders."""
    found: dict[Path, set[Path]] = defaultdict(set)
    for image in project.images:
        own = Path(image.name)
        found[own].add(image.path.resolve())
        if len(own.parts) > 1:
            found[Path(file_stem(_image_id(image)) + own.suffix)].add(image.path.resolve())
    return found


def _image_id(image: ProjectImage) -> str:
    return str(Path(image.name).with_suffix(""))


def _named(copy: Path, finder: ImageFinder, own: Mapping[Path, set[Path]]) -> Path | None:
    """Return the image of the project that a copy in an archive names, with the most of its folders; None for several.

    A name that is complete, with all folders of the image, counts first.
    """
    names = ["/".join(copy.parts[first:]) for first in range(len(copy.parts))]
    try:
        (meant,) = own[finder.find(names, [Path()])]
    except (FileNotFoundError, ValueError):  # none, or several
        return None
    return meant


def _labels_of(annotation: Annotation, class_names: tuple[str, ...], size: tuple[int, int]) -> ImageLabels:
    boxes = [
        Box(check_class_name(class_names[label]), check_corners(corners, size))
        for corners, label in zip(annotation.boxes.tolist(), annotation.labels.tolist(), strict=True)
    ]
    return ImageLabels(tuple(boxes), done=True)
