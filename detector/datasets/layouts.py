"""Which tool's layout lies at a path, told by the files, and its reader."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from detector.datasets.archive import unpacked
from detector.datasets.dataset import Report
from detector.datasets.image_finder import files_below, images_among
from detector.datasets.readers.coco import is_coco, read_coco_files
from detector.datasets.readers.open_images import is_boxes_csv, read_open_images
from detector.datasets.readers.voc import read_lists, read_loose
from detector.datasets.readers.yolo import CLASS_FILES, is_yolo_yaml, read_yolo
from detector.datasets.records import FORMATS, TOOLS, Export

_PARTS = {"train", "val", "valid", "validation", "test", "images", "labels", "annotations", "obj_train_data"}
_XML_START = 2048  # bytes in which the root of an annotation must begin
_ROOT_TAG = re.compile(rb"<annotation[\s>/]")


@dataclass(frozen=True)
class _Layout:
    """A layout that was recognized: its family, what shows it, and how it is read."""

    family: str
    evidence: Path
    read: Callable[[Report], Export]


def read_export(path: Path, format_name: str | None, report: Report) -> Export:
    """The data set at ``path``: a folder, a zip file, or the JSON, YAML or CSV file of one.

    format_name: one of `FORMATS`, where several would fit or none is recognized.
    Raises OSError and ValueError, with one line that opens with ``path``, where there is none.
    """
    if format_name is not None and format_name not in FORMATS:
        raise ValueError(f"--format must be one of {', '.join(FORMATS)}, but is {format_name!r}")
    family = "voc" if format_name in TOOLS else format_name
    tool = TOOLS.get(format_name or "")
    if path.suffix.lower() == ".zip" and path.is_file():
        root, chosen = _innermost(unpacked(path)), None
    elif path.is_file():
        root, chosen = _root_of(path), path
    else:
        root, chosen = path, None
    files = files_below(root)
    found = _recognized(root, files, chosen, tool)
    if family is not None:
        found = [layout for layout in found if layout.family == family]
    if not found:
        what = format_name or "known"
        known = "VOC XML, COCO JSON, YOLO (data.yaml or classes.txt) or Open Images CSV"
        raise ValueError(f"{path}: holds no annotations of a {what} layout; read are {known}")
    if len(found) > 1:
        several = ", ".join(f"{layout.family} ({layout.evidence.relative_to(root)})" for layout in found)
        remedy = "give one of them as the data" if len({layout.family for layout in found}) == 1 else "say --format"
        raise ValueError(f"{path}: may be read as {several}: {remedy}")
    return found[0].read(report)


def _innermost(folder: Path) -> Path:
    """The folder itself, or the one that is all it holds, unless that is a part of a layout."""
    held = sorted(folder.iterdir())
    if len(held) != 1 or not held[0].is_dir() or held[0].name.lower() in _PARTS:
        return folder
    return held[0]


def _root_of(path: Path) -> Path:
    """The folder below which the images of an annotation file lie."""
    folder = path.absolute().parent
    return folder.parent if folder.name.lower() in ("annotations", "labels") else folder


def _recognized(root: Path, files: Sequence[Path], chosen: Path | None, tool: str | None) -> list[_Layout]:
    if chosen is not None:
        chosen = chosen.absolute()
        files = [path.absolute() for path in files]
    considered = files if chosen is None else [chosen]
    layouts = [] if chosen is not None else _voc_layouts(root, files, tool)
    coco = [path for path in considered if path.suffix.lower() == ".json" and is_coco(path)]
    if coco:
        layouts.append(_Layout("coco", coco[0], lambda report: read_coco_files(root, files, coco, report)))
    layouts += _yolo_layouts(root, files, considered)
    boxes = [path for path in considered if path.suffix.lower() == ".csv" and is_boxes_csv(path)]
    if boxes:
        layouts.append(_Layout("open-images", boxes[0], lambda report: read_open_images(root, files, boxes, report)))
    return layouts


def _voc_layouts(root: Path, files: Sequence[Path], tool: str | None) -> list[_Layout]:
    lists = {path.parent for path in files if path.suffix == ".txt" and path.parts[-3:-1] == ("ImageSets", "Main")}
    if lists:
        return [_list_layout(folder.parent.parent, files, tool) for folder in sorted(lists)]
    loose = next((path for path in files if path.suffix.lower() == ".xml" and _is_annotation(path)), None)
    if loose is None:
        return []
    return [_Layout("voc", loose, lambda report: read_loose(root, files, tool, report))]


def _list_layout(folder: Path, files: Sequence[Path], tool: str | None) -> _Layout:
    own = [path for path in files if folder in path.parents]
    return _Layout("voc", folder / "ImageSets" / "Main", lambda report: read_lists(folder, own, tool, report))


def _is_annotation(path: Path) -> bool:
    with path.open("rb") as file:
        return _ROOT_TAG.search(file.read(_XML_START)) is not None


def _yolo_layouts(root: Path, files: Sequence[Path], considered: Sequence[Path]) -> list[_Layout]:
    descriptions = [path for path in considered if path.suffix.lower() in (".yaml", ".yml") and is_yolo_yaml(path)]
    if descriptions:
        return [_yolo_layout(root, files, path) for path in descriptions]
    classes = next((path for path in considered if path.name in CLASS_FILES), None)
    if classes is None or not _has_labels(root, files):
        return []
    return [_Layout("yolo", classes, lambda report: read_yolo(root, files, None, report))]


def _has_labels(root: Path, files: Sequence[Path]) -> bool:
    """Whether some text file is called as an image, or lies in a folder of labels."""
    stems = {path.stem for path in images_among(files)}
    texts = [path for path in files if path.suffix.lower() == ".txt" and path.name not in CLASS_FILES]
    return any(path.stem in stems or "labels" in path.relative_to(root).parts[:-1] for path in texts)


def _yolo_layout(root: Path, files: Sequence[Path], description: Path) -> _Layout:
    return _Layout("yolo", description, lambda report: read_yolo(root, files, description, report))
