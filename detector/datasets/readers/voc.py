"""PASCAL VOC: an XML file for each image, with or without the devkit's lists of images.

LabelImg, CVAT, Roboflow and Label Studio write the same XML, but some of them count pixels from 0.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, ParseError

from detector.boxes import from_one_based
from detector.datasets.dataset import Object
from detector.datasets.image_finder import files_below, images_among
from detector.datasets.issues import Issue, IssueKind, Report
from detector.datasets.records import UNSPLIT, Export, Record, split_name, split_of_folder
from detector.runtime.optional import optional

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
CORNERS = ("xmin", "ymin", "xmax", "ymax")

TOOLS = {
    "voc-devkit": "VOC",
    "labelimg": "LabelImg",
    "roboflow-voc": "Roboflow",
    "cvat-voc": "CVAT",
    "label-studio-voc": "Label Studio",
}
"""Tools that write VOC's XML, by the name of the format that selects them."""

_ONE_BASED = {"VOC": True, "Roboflow": True, "LabelImg": False, "CVAT": False, "Label Studio": False}
_XML_START = 2048  # bytes within which the root of an annotation must begin
_ROOT_TAG = re.compile(rb"<annotation[\s>/]")
_IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "image")
_STANDARD = ("train", "val", "test")


def is_voc(path: Path) -> bool:
    """Return whether an XML file starts as an annotation does."""
    with path.open("rb") as file:
        return _ROOT_TAG.search(file.read(_XML_START)) is not None


def read_voc(root: Path, files: Sequence[Path], report: Report, tool: str | None = None) -> Export:
    """Read XML files without lists, next to their images or in their own folder: LabelImg, Roboflow, Label Studio.

    tool: the program that wrote them, a value of `TOOLS`; None: each file is recognized by itself.
    """
    splits: dict[str, list[Record]] = {}
    tools = set()
    for path in files:
        if path.suffix.lower() != ".xml" or (tree := _read_xml(path, report)) is None:
            continue
        if tree.tag != "annotation":
            continue
        tools.add(tool or _tool_of(tree))
        split = split_of_folder(path.parent, root)
        splits.setdefault(split, []).append(_record(tree, path, path.stem, tool, report))
    if not splits:
        raise ValueError(f"{root}: none of the XML files is a VOC annotation")
    return Export(f"{' and '.join(sorted(tools))} XML", root, images_among(files), splits)


def read_voc_lists(folder: Path, files: Sequence[Path], report: Report, tool: str | None = None) -> Export:
    """Read a folder with ImageSets/Main, as the VOC devkit, CVAT and `write_dataset` lay it out.

    tool: as `read_voc` takes it.
    """
    images = images_among(files)
    own = [path for path in images if folder / "JPEGImages" in path.parents]
    splits = {split_name(path.stem): path for path in _split_lists(folder)}
    if "train" not in splits and "trainval" in splits:
        splits["train"] = splits.pop("trainval")
    if standard := {name: path for name, path in splits.items() if name in _STANDARD}:
        splits = standard
    elif len(splits) == 1:
        splits = {UNSPLIT: next(iter(splits.values()))}
    records = {
        name: [_listed_record(folder, image_id, tool, report) for image_id in dict.fromkeys(_image_ids(path))]
        for name, path in splits.items()
    }
    kept = {name: [each for each in found if each is not None] for name, found in records.items()}
    if not any(kept.values()):
        raise ValueError(f"{folder}: the lists in ImageSets/Main name no images")
    written_by = "CVAT PASCAL VOC" if (folder / "labelmap.txt").is_file() else "VOC devkit"
    return Export(written_by, folder, own or images, kept, listed=True)


def read_voc_split(root: Path, split: str, report: Report) -> Export:
    """Read the images that the devkit's ImageSets/Main/<split>.txt lists, in its order.

    root: the folder that holds JPEGImages, Annotations and ImageSets, or one above it: a devkit folder with exactly
        one VOC20xx in it, or the folder that holds such a VOCdevkit.
    Raises FileNotFoundError for a missing folder or list and ValueError for a list that is empty or names an image
    twice; a missing annotation is reported.
    """
    folder = _find_folder(root)
    path = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        others = ", ".join(other.stem for other in _split_lists(folder))
        raise FileNotFoundError(f"{path}: no such list, there are {others or 'none'}")
    image_ids = _image_ids(path)
    if not image_ids:
        raise ValueError(f"{path}: lists no images")
    first, count = Counter(image_ids).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{path}: lists image {first!r} twice")
    images = folder / "JPEGImages"
    records = []
    for image_id in image_ids:
        record = _listed_record(folder, image_id, TOOLS["voc-devkit"], report)
        if record is not None and record.objects is None:
            report(Issue(IssueKind.MISSING_ANNOTATION, f"{record.source}: no such annotation"))
        elif record is not None:
            records.append(replace(record, image_id=image_id, path=images / f"{image_id}.jpg"))
    there = images_among(files_below(images)) if images.is_dir() else []
    return Export("VOC devkit", folder, there, {split: records}, listed=True)


def _find_folder(root: Path) -> Path:
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    if (root / "ImageSets" / "Main").is_dir():
        return root
    years = sorted(
        path.parent.parent
        for pattern in ("VOC20[0-9][0-9]/ImageSets/Main", "VOCdevkit/VOC20[0-9][0-9]/ImageSets/Main")
        for path in root.glob(pattern)
    )
    if not years:
        raise FileNotFoundError(f"{root}: holds neither ImageSets/Main nor a VOC20xx folder with it")
    if len(years) > 1:
        found = ", ".join(str(year.relative_to(root)) for year in years)
        raise ValueError(f"{root}: holds several datasets ({found}); give one of them")
    return years[0]


def _split_lists(folder: Path) -> list[Path]:
    """Return the lists of a devkit folder without those of single classes, such as dog_train.txt."""
    paths = sorted((folder / "ImageSets" / "Main").glob("*.txt"))
    stems = {path.stem for path in paths}
    splits = {*stems, "train", "val", "trainval", "test"}

    return [
        path
        for path in paths
        if not any(
            path.stem.endswith(f"_{split}") and (path.stem.removesuffix(f"_{split}") in VOC_CLASSES or split in stems)
            for split in splits
        )
    ]


def _image_ids(path: Path) -> list[str]:
    """Return the images of a list: the first word of each line, or the text in quotation marks."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines()]
    return [line[1:].split('"')[0] if line.startswith('"') else line.split()[0] for line in lines if line]


def _listed_record(folder: Path, image_id: str, tool: str | None, report: Report) -> Record | None:
    """Return the record of a listed image, unlabeled if it has no annotation file; None if that is unreadable."""
    path = folder / "Annotations" / f"{image_id}.xml"
    parts = PurePosixPath(image_id).parts
    if ".." in parts or image_id.startswith("/"):
        what = f"the lists name {image_id!r}, which leads out of the folder"
        report(Issue(IssueKind.BAD_ANNOTATION, f"{folder}: {what}"))
        return None
    near = (folder.joinpath("JPEGImages", *parts[:-1]), folder / "JPEGImages")
    if not path.is_file():
        return Record((parts[-1],), path, near, None)
    tree = _read_xml(path, report)
    return None if tree is None else replace(_record(tree, path, parts[-1], tool, report), near=near)


def _record(tree: Element, path: Path, stem: str, tool: str | None, report: Report) -> Record:
    # folder and path in the file are those of another machine; tools go by the file's own name
    name = (tree.findtext("filename") or "").strip().replace("\\", "/").rsplit("/", 1)[-1]
    names = (stem, name) if name else (stem,)
    near = (path.parent, *(path.parent.parent / folder for folder in _IMAGE_FOLDERS))
    objects = _objects(tree, path, _ONE_BASED[tool or _tool_of(tree)], report)
    return Record(names, path, near, objects, _size(tree))


def _read_xml(path: Path, report: Report) -> Element | None:
    """Return the root of an annotation file; report one that cannot be read and return None."""
    xml = optional("defusedxml.ElementTree", "train")
    try:
        root: Element = xml.parse(path).getroot()
    except (ParseError, ValueError, LookupError, OSError) as error:
        report(Issue(IssueKind.BAD_ANNOTATION, f"{path}: not a readable XML file ({error})"))
        return None
    return root


def _tool_of(tree: Element) -> str:
    """Return the tool that wrote an annotation, recognized by what it leaves there."""
    source = {child.tag: (child.text or "").strip() for child in tree.find("source") or ()}
    if (tree.findtext("owner/name") or "").strip() == "Label Studio":
        return "Label Studio"
    if source.get("database", "").lower().startswith("roboflow"):
        return "Roboflow"
    if source.get("database") == source.get("annotation") == source.get("image") == "Unknown":
        return "CVAT"
    if tree.find("path") is not None or source.get("database") == "Unknown":
        return "LabelImg"
    return "VOC"


def _size(tree: Element) -> tuple[int, int] | None:
    """Return width and height as annotated; None if missing, not numbers, or 0, as some tools write."""
    try:
        width, height = (int(float(tree.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _objects(tree: Element, path: Path, one_based: bool, report: Report) -> list[Object]:
    """Return the objects of an annotation; report those with issues and leave them out.

    one_based: whether corners are VOC's, 1-based and inclusive; else 0-based and half-open.
    """
    objects = []
    # direct children only, here and below: the <part> of a person has its own name and bndbox
    for number, element in enumerate(tree.findall("object"), 1):
        source = f"{path}: object {number}"
        try:
            name, written, difficult = _read_name(element), _read_corners(element), _is_difficult(element)
        except ValueError as error:
            report(Issue(IssueKind.BAD_OBJECT, f"{source}: {error}"))
            continue
        x1, y1, x2, y2 = from_one_based(written).tolist() if one_based else written
        if x1 < x2 and y1 < y2:
            objects.append(Object(source, name, (x1, y1, x2, y2), difficult))
        else:
            corners = ", ".join(f"{corner:g}" for corner in written)
            report(Issue(IssueKind.EMPTY_BOX, f"{source}: bndbox is empty: {corners}"))
    return objects


def _read_name(element: Element) -> str:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise ValueError("object without a name")
    return name


def _read_corners(element: Element) -> list[float]:
    bndbox = element.find("bndbox")
    if bndbox is None:
        raise ValueError("object without a bndbox")
    corners = []
    for tag in CORNERS:
        text = (bndbox.findtext(tag) or "").strip()
        try:
            corners.append(float(text))
        except ValueError:
            corners.append(math.nan)
        if not math.isfinite(corners[-1]):
            raise ValueError(f"{tag} must be a number, but got {text!r}")
    return corners


def _is_difficult(element: Element) -> bool:
    text = (element.findtext("difficult") or "0").strip()
    if text not in ("0", "1"):
        raise ValueError(f"difficult must be 0 or 1, but got {text!r}")
    return text == "1"
