"""Recognize the annotation format of a path by its files, and read it."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from detector.datasets.archive import is_archive, member_names, unpacked
from detector.datasets.image_finder import files_below, images_among
from detector.datasets.issues import Report
from detector.datasets.readers.box_tables import is_box_table, read_box_tables
from detector.datasets.readers.coco import is_coco, read_coco
from detector.datasets.readers.createml import is_createml, read_createml
from detector.datasets.readers.cvat import is_cvat, read_cvat
from detector.datasets.readers.datumaro import is_datumaro, read_datumaro
from detector.datasets.readers.image_folder import is_image_folder, read_image_folder
from detector.datasets.readers.label_studio import is_label_studio, read_label_studio
from detector.datasets.readers.labelme import is_labelme, read_labelme
from detector.datasets.readers.open_images import is_open_images, read_open_images
from detector.datasets.readers.via import is_via, read_via
from detector.datasets.readers.voc import TOOLS, is_voc, list_folders, read_voc, read_voc_lists
from detector.datasets.readers.vott import is_vott, read_vott
from detector.datasets.readers.yolo import (
    CLASS_FILES,
    is_class_file,
    is_label_file,
    is_yolo_names,
    is_yolo_yaml,
    read_yolo,
)
from detector.datasets.records import Export
from detector.datasets.unread_formats import unread_format


class _FileFormat(NamedTuple):
    """A format whose annotation files are recognized one by one.

    suffixes: of files that may be one. description: of the format, for messages.
    read: called with the folder, all files below it, the files recognized, and what receives issues.
    """

    suffixes: tuple[str, ...]
    description: str
    recognizes: Callable[[Path], bool]
    read: Callable[[Path, Sequence[Path], Sequence[Path], Report], Export]


_FILE_FORMATS = {
    "cvat-xml": _FileFormat((".xml",), "CVAT XML", is_cvat, read_cvat),
    "labelme": _FileFormat((".json",), "LabelMe JSON", is_labelme, read_labelme),
    "label-studio": _FileFormat((".json",), "Label Studio JSON", is_label_studio, read_label_studio),
    "via": _FileFormat((".json", ".csv"), "VIA JSON or CSV", is_via, read_via),
    "createml": _FileFormat((".json",), "Create ML JSON", is_createml, read_createml),
    "vott": _FileFormat((".json",), "VoTT JSON", is_vott, read_vott),
    "datumaro": _FileFormat((".json",), "Datumaro JSON", is_datumaro, read_datumaro),
    "image-folder": _FileFormat((".jsonl", ".csv"), "Hugging Face ImageFolder", is_image_folder, read_image_folder),
    "open-images": _FileFormat((".csv",), "Open Images CSV", is_open_images, read_open_images),
    "box-csv": _FileFormat((".csv",), "CSV of boxes (as of TensorFlow, VoTT)", is_box_table, read_box_tables),
    "coco": _FileFormat((".json",), "COCO JSON", is_coco, read_coco),
}
"""A new format of annotation files is one entry here. The first that recognizes a file counts; COCO takes longest."""

FORMATS = ("voc", "yolo", *_FILE_FORMATS, *TOOLS)

_KNOWN = ["VOC XML", "YOLO (data.yaml or classes.txt)", *(each.description for each in _FILE_FORMATS.values())]
_MAX_HINTS = 20  # files that are opened to find out what was meant
_PARTS = {"train", "val", "valid", "validation", "test", "images", "labels", "annotations", "obj_train_data"}


class _Match(NamedTuple):
    """A format that was recognized, the file or folder that shows it, and its reader."""

    format_name: str
    evidence: Path
    read: Callable[[Report], Export]


def read_export(path: Path, format_name: str | None, report: Report) -> Export:
    """Read the dataset at ``path``: a folder, a zip file, or an annotation file.

    format_name: one of `FORMATS`, needed only where none or several are recognized.
    Raises OSError and ValueError, with one line that starts with ``path``, where there is not exactly one dataset.
    """
    if format_name is not None and format_name not in FORMATS:
        raise ValueError(f"--format must be one of {', '.join(FORMATS)}, but is {format_name!r}")
    tool = TOOLS.get(format_name or "")
    wanted = "voc" if tool else format_name
    root, chosen = path, None
    if path.is_file() and is_archive(path):
        root = _innermost(unpacked(path))
    elif path.is_file():
        root, chosen = _root_of(path), path
    files = files_below(root)
    found = _file_matches(root, files, chosen) if chosen else _folder_matches(root, files, tool)
    found = [match for match in found if wanted in (None, match.format_name)]
    archives = [] if chosen or found else [each for each in files if is_archive(each)]
    if len(archives) == 1:
        return read_export(archives[0], format_name, report)
    if not found and format_name is None:
        names = member_names(path) if root is not path and chosen is None else ()
        if sentence := unread_format(root, [chosen.absolute()] if chosen else files, names):
            raise ValueError(f"{path}: {sentence}")
    if not found:
        what = f"the {format_name} format" if format_name else "a known format"
        raise ValueError(
            f"{path}: holds no annotations of {what}; known are {', '.join(_KNOWN)}{_hint(root, files, archives)}"
        )
    if len(found) > 1:
        several = ", ".join(f"{match.format_name} ({match.evidence.relative_to(root)})" for match in found)
        one_format = len({match.format_name for match in found}) == 1
        remedy = "give one of them as the data" if one_format else "choose one with --format"
        raise ValueError(f"{path}: may be read as {several}: {remedy}")
    return found[0].read(report)


def coco_files(path: Path) -> list[Path]:
    """Return the COCO files of the dataset at ``path``, which `read_export` takes."""
    if path.is_file() and not is_archive(path):
        files = [path]
    else:
        files = files_below(unpacked(path) if path.is_file() else path)
    return [each for each in files if _format_of(each) == "coco"]


def _innermost(folder: Path) -> Path:
    """Return the only folder in ``folder``, unless it is a part of a dataset; else ``folder`` itself."""
    held = sorted(folder.iterdir())
    if len(held) != 1 or not held[0].is_dir() or held[0].name.lower() in _PARTS:
        return folder
    return held[0]


def _root_of(path: Path) -> Path:
    """Return the folder that holds the images of an annotation file."""
    folder = path.absolute().parent
    return folder.parent if folder.name.lower() in ("annotations", "labels") else folder


def _file_matches(root: Path, files: Sequence[Path], chosen: Path) -> list[_Match]:
    """Return the formats of one annotation file."""
    chosen, files = chosen.absolute(), [path.absolute() for path in files]
    return [*_yolo_matches(root, files, [chosen]), *_matches(root, files, [chosen])]


def _folder_matches(root: Path, files: Sequence[Path], tool: str | None) -> list[_Match]:
    return [*_voc_matches(root, files, tool), *_yolo_matches(root, files, files), *_matches(root, files, files)]


def _matches(root: Path, files: Sequence[Path], candidates: Sequence[Path]) -> list[_Match]:
    own: dict[str, list[Path]] = {}
    for path in candidates:
        if name := _format_of(path):
            own.setdefault(name, []).append(path)
    return [
        _Match(name, paths[0], partial(_FILE_FORMATS[name].read, root, files, paths)) for name, paths in own.items()
    ]


def _format_of(path: Path) -> str | None:
    """Return the first format that recognizes an annotation file."""
    suffix = path.suffix.lower()
    found = (name for name, each in _FILE_FORMATS.items() if suffix in each.suffixes and each.recognizes(path))
    return next(found, None)


def _voc_matches(root: Path, files: Sequence[Path], tool: str | None) -> list[_Match]:
    matches = []
    for folder, lists in sorted(list_folders(root, files).items()):
        own = [path for path in files if folder in path.parents]
        matches.append(_Match("voc", lists, partial(read_voc_lists, folder, own, tool=tool)))
    if matches:
        return matches
    loose = next((path for path in files if path.suffix.lower() == ".xml" and is_voc(path)), None)
    return [] if loose is None else [_Match("voc", loose, partial(read_voc, root, files, tool=tool))]


def _yolo_matches(root: Path, files: Sequence[Path], candidates: Sequence[Path]) -> list[_Match]:
    yamls = [path for path in candidates if path.suffix.lower() in (".yaml", ".yml")]
    descriptions = [path for path in yamls if is_yolo_yaml(path)]
    if not descriptions and _labels_among(root, files):
        # some tools name classes, but no splits
        descriptions = [path for path in yamls if is_yolo_names(path)]
    if descriptions:
        return [_Match("yolo", path, partial(read_yolo, root, files, path)) for path in descriptions]
    classes = next((path for path in candidates if is_class_file(path)), None)
    if classes is None or not _labels_among(root, files):
        return []
    return [_Match("yolo", classes, partial(read_yolo, root, files, None))]


def _labels_among(root: Path, files: Sequence[Path]) -> list[Path]:
    """Return the text files that are named after an image or lie in a folder of labels."""
    stems = {path.stem for path in images_among(files)}
    texts = [path for path in files if path.suffix.lower() == ".txt" and not is_class_file(path)]
    return [path for path in texts if path.stem in stems or "labels" in path.relative_to(root).parts[:-1]]


def _hint(root: Path, files: Sequence[Path], archives: Sequence[Path]) -> str:
    """Return what may be meant where no format is recognized; "" for no idea."""
    if archives:
        return (
            f"; it holds {', '.join(path.name for path in archives[:3])}: give one of them as the data, or unpack them"
        )
    if any(is_label_file(path) for path in _labels_among(root, files)[:_MAX_HINTS]):
        return f"; its YOLO labels need a data.yaml or a file that names the classes: {', '.join(CLASS_FILES[:3])}"
    return ""
