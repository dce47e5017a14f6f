"""Export a project's labels and model, and import labels of any format that is read."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from detector.datasets.archive import is_archive, unpacked
from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.image_finder import common_folders, files_below, images_among
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

    An image of the archive gives way to the project's image of its name, unless others of the archive go by that name.
    """
    source = root / (re.sub(r"[^\w.-]+", "_", Path(name).name)[-_MAX_NAME:].lstrip(".") or "labels")
    source.write_bytes(content)
    own = {image.name: image.path.resolve() for image in project.images}
    archived: dict[str | None, list[Path]] = defaultdict(list)
    if is_archive(source):
        folder = unpacked(source)
        source.unlink()
        source = root / "archive"
        shutil.move(folder, source)
        names = _ImageNames(own)
        for image in images_among(files_below(source)):
            archived[names.find(image.relative_to(source).parts)].append(image)
    for image_name, images in archived.items():
        if image_name is not None and len(images) == 1:
            images[0].unlink()
            images[0].symlink_to(own[image_name])
    others = {image_name: path for image_name, path in own.items() if image_name not in archived}
    links = {_flat(image_name): path for image_name, path in others.items()} | others
    for link_name, path in links.items():
        link = (source.parent if source.is_file() else source) / "images" / link_name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(path)
    return source


class _ImageNames:
    """Finds a project's image by the path of its copy in an archive."""

    def __init__(self, names: Iterable[str]) -> None:
        self._complete: dict[str, set[str]] = defaultdict(set)
        self._by_file: dict[str, list[str]] = defaultdict(list)
        for name in names:
            self._complete[name].add(name)
            self._complete[_flat(name)].add(name)
            self._by_file[name.rpartition("/")[2]].append(name)

    def find(self, parts: Sequence[str]) -> str | None:
        """Return the image that the last parts of a path name with all of its folders, or else the most of them.

        None where there is no image of that name, or several as good.
        """
        for first in range(len(parts)):
            if complete := self._complete.get("/".join(parts[first:])):
                return _only(complete)
        same = self._by_file.get(parts[-1], [])
        common = [common_folders(Path(name), parts) for name in same]
        return _only([name for name, length in zip(same, common, strict=True) if length == max(common)])


def _only(names: Collection[str]) -> str | None:
    return next(iter(names)) if len(names) == 1 else None


def _flat(image_name: str) -> str:
    """Return the name of an image in an export, which has no folders."""
    return image_name.replace("/", "_")


def _labels_of(annotation: Annotation, class_names: tuple[str, ...], size: tuple[int, int]) -> ImageLabels:
    boxes = [
        Box(check_class_name(class_names[label]), check_corners(corners, size))
        for corners, label in zip(annotation.boxes.tolist(), annotation.labels.tolist(), strict=True)
    ]
    return ImageLabels(tuple(boxes), done=True)
