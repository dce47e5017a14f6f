"""PASCAL VOC: an XML file for each image, with or without the devkit's lists of images.

LabelImg, CVAT, Roboflow and Label Studio write the same XML, but some of them count pixels from 0.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from detector.boxes import from_one_based
from detector.datasets.dataset import Object
from detector.datasets.image_finder import files_below, images_among
from detector.datasets.issues import Issue, IssueKind, Report
from detector.datasets.records import UNSPLIT, Export, Record, split_in_name, split_name, split_of_folder
from detector.datasets.split_lists import FilesByName, Listed, assign_splits, is_class_list, read_list
from detector.datasets.text import read_xml_text
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
    "labelme-voc": "LabelMe",
}
"""Tools that write VOC's XML, by the name of the format that selects them."""

_ONE_BASED = {"VOC": True, "Roboflow": True} | dict.fromkeys(("LabelImg", "CVAT", "Label Studio", "LabelMe"), False)
_XML_START = 2048  # bytes within which the root of an annotation must begin
_ROOT_TAG = re.compile(rb"<annotation[\s>/]")
_IMAGE_FOLDERS = ("jpegimages", "images", "image")
_STANDARD = ("train", "val", "test")


def is_voc(path: Path) -> bool:
    """Return whether an XML file starts as an annotation does."""
    with path.open("rb") as file:
        # without the zeros of UTF-16
        return _ROOT_TAG.search(file.read(_XML_START).replace(b"\0", b"")) is not None


def read_voc(root: Path, files: Sequence[Path], report: Report, tool: str | None = None) -> Export:
    """Read XML files without ImageSets, next to their images or in their own folder: LabelImg, Roboflow, Label Studio.

    Splits are those of lists of images such as PaddleDetection's train.txt, else of folders. tool: the program that
    wrote the files, a value of `TOOLS`; None: each file is recognized by itself.
    """
    paths = [path for path in files if path.suffix.lower() == ".xml"]
    assigned = assign_splits(files, paths)
    splits: dict[str, list[Record]] = {}
    tools = set()
    issues: list[Issue] = []
    for path in paths:
        if (tree := _read_xml(path, issues.append)) is None or tree.tag != "annotation":
            continue
        tools.add(tool or _tool_of(tree))
        split = assigned.splits.get(path) or split_of_folder(path.parent, root)
        splits.setdefault(split, []).append(_record(tree, path, path.stem, tool, issues.append))
    if not splits:
        reason = f"; {issues[0].line}" if issues else ""
        raise ValueError(f"{root}: none of the XML files is a VOC annotation{reason}")
    for issue in issues:
        report(issue)
    description = f"{' and '.join(sorted(tools))} XML"
    return Export(description, root, images_among(files), splits, notes=assigned.notes)


def read_voc_lists(folder: Path, files: Sequence[Path], report: Report, tool: str | None = None) -> Export:
    """Read a folder with ImageSets, as the VOC devkit, CVAT, VoTT and `write_dataset` lay it out, in any case.

    tool: as `read_voc` takes it. Raises ValueError for lists that name no images.
    """
    images = images_among(files)
    roots = [each for each in folder.iterdir() if each.name.lower() in _IMAGE_FOLDERS and each.is_dir()]
    own = [path for path in images if any(each.name.lower() == "jpegimages" for each in path.parents)]
    find = FilesByName(path for path in files if path.suffix.lower() == ".xml").find
    find_image = FilesByName(images).find
    where = list_folders(folder, files)[folder]
    lists, notes = _lists_by_split([path for path in files if path.parent == where and path.suffix.lower() == ".txt"])
    records: dict[str, list[Record]] = {}
    taken: set[Path | str] = set()
    for split, paths in lists.items():
        listed = {each.annotation or each.name: each for path in paths for each in read_list(path, find)}
        if len(paths) > 1:  # VoTT divides the images of each class, so one of two classes may be on both sides
            if twice := taken & listed.keys():
                what = f"{len(twice)} images are on lists of {split} and of a split before it: they stay in that"
                notes = (*notes, f"{folder}: {what}")
            listed = {key: each for key, each in listed.items() if key not in taken}
            taken |= listed.keys()
        if listed and not any(each.annotation or find_image(each.name) for each in listed.values()):
            first = next(iter(listed.values())).name
            raise ValueError(
                f"{paths[0]}: none of its {len(listed)} lines, such as {first!r}, names an annotation or an image "
                f"below {folder}"
            )
        found = [_listed_record(folder, each, paths[0], roots, tool, report) for each in listed.values()]
        records[split] = [each for each in found if each is not None]
    if not any(records.values()):
        raise ValueError(f"{folder}: the lists in ImageSets name no images")
    written_by = "CVAT PASCAL VOC" if (folder / "labelmap.txt").is_file() else "VOC devkit"
    return Export(written_by, folder, own or images, records, listed=True, notes=notes)


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
        others = ", ".join(other.stem for other in sorted(path.parent.glob("*.txt")) if not _class_of(other, set()))
        raise FileNotFoundError(f"{path}: no such list, there are {others or 'none'}")
    annotations, images = folder / "Annotations", folder / "JPEGImages"
    listed = read_list(path, FilesByName(annotations.rglob("*.xml")).find)
    if not listed:
        raise ValueError(f"{path}: lists no images")
    image_ids = [
        each.name if each.annotation is None else each.annotation.relative_to(annotations).with_suffix("").as_posix()
        for each in listed
    ]
    first, count = Counter(image_ids).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{path}: lists image {first!r} twice")
    records = []
    for image_id, each in zip(image_ids, listed, strict=True):
        if each.annotation is None:
            what = f"{annotations / f'{image_id}.xml'}: no such annotation"
            report(Issue(IssueKind.MISSING_ANNOTATION, what))
        elif record := _listed_record(folder, each, path, [images], TOOLS["voc-devkit"], report):
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


def list_folders(root: Path, files: Iterable[Path]) -> dict[Path, Path]:
    """Return the folders below ``root`` that hold ImageSets, and that of their lists: Main or ImageSets."""
    found: dict[Path, Path] = {}
    for path in files:
        above = [part.lower() for part in path.relative_to(root).parts[:-1]]
        if path.suffix.lower() == ".txt" and above[-2:] == ["imagesets", "main"]:
            found[path.parents[2]] = path.parent
        elif path.suffix.lower() == ".txt" and above[-1:] == ["imagesets"]:
            found.setdefault(path.parents[1], path.parent)
    return found


def _lists_by_split(paths: Sequence[Path]) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
    """Return the lists of each split, and notes about lists that are not used.

    Those of single classes, such as dog_train.txt, count together where there is no train.txt, as VoTT leaves it out.
    """
    whole: dict[str, list[Path]] = {}
    of_classes: dict[str, list[Path]] = {}
    stems = {path.stem for path in paths}
    for path in paths:
        if split := _class_of(path, stems):
            of_classes.setdefault(split, []).append(path)
        else:
            whole[split_name(path.stem)] = [path]
    by_class = {name: paths for name, paths in of_classes.items() if name in (*_STANDARD, "trainval")}
    named = any(name == "trainval" or split_in_name(name) for name in whole)
    splits = by_class if by_class and not named else whole
    if "train" not in splits and "trainval" in splits:
        splits["train"] = splits.pop("trainval")
    for name in [name for name in splits if name not in _STANDARD]:
        if (meant := split_in_name(name)) and meant not in splits:  # train_list, 2007_train
            splits[meant] = splits.pop(name)
    standard = {name: splits[name] for name in _STANDARD if name in splits}
    unused = [str(path) for name in splits.keys() - standard.keys() - {"trainval"} for path in splits[name]]
    if standard:
        notes = (f"{', '.join(sorted(unused))}: not used beside the lists {', '.join(standard)}",) if unused else ()
        return standard, notes
    return ({UNSPLIT: next(iter(splits.values()))} if len(splits) == 1 else splits), ()


def _class_of(path: Path, stems: Collection[str]) -> str:
    """Return the split of a list of a single class, "" for other lists.

    stems: names of all lists: nut_default.txt is one of a class where there is a default.txt.
    """
    for split in {*stems, *_STANDARD, "trainval"}:
        prefix = path.stem.removesuffix(f"_{split}")
        if prefix != path.stem and (prefix in VOC_CLASSES or split in stems or is_class_list(path)):
            return split
    return ""


def _listed_record(
    folder: Path, listed: Listed, path: Path, roots: Sequence[Path], tool: str | None, report: Report
) -> Record | None:
    """Return the record of an image on the list ``path``, unlabeled without an annotation; None if that is unreadable.

    roots: folders of images.
    """
    annotation = listed.annotation
    if annotation is None:
        return Record((listed.name,), path, tuple(roots), None)
    below = annotation.relative_to(folder).parts[1:-1]
    tree = _read_xml(annotation, report)
    if tree is None:
        return None
    near = (*(each.joinpath(*below) for each in roots), *roots)
    return replace(_record(tree, annotation, annotation.stem, tool, report), near=near)


def _record(tree: Element, path: Path, stem: str, tool: str | None, report: Report) -> Record:
    # folder and path in the file are those of another machine; tools go by the file's own name
    name = (tree.findtext("filename") or "").strip().replace("\\", "/").rsplit("/", 1)[-1]
    names = (stem, name) if name else (stem,)
    near = (path.parent, *(path.parent.parent / folder for folder in ("JPEGImages", "images", "Images", "image")))
    objects, complete = _objects(tree, path, _ONE_BASED[tool or _tool_of(tree)], report)
    return Record(names, path, near, objects, _size(tree), complete=complete)


def _read_xml(path: Path, report: Report) -> Element | None:
    """Return the root of an annotation file; report one that cannot be read and return None."""
    xml = optional("defusedxml.ElementTree", "train")
    try:
        root: Element = xml.fromstring(read_xml_text(path))
    except (ParseError, ValueError, OSError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        report(Issue(IssueKind.BAD_ANNOTATION, f"{path}: not a readable XML file ({reason})"))
        return None
    return root


def _tool_of(tree: Element) -> str:
    """Return the tool that wrote an annotation, recognized by what it leaves there."""
    source = {child.tag: (child.text or "").strip() for child in tree.find("source") or ()}
    if (tree.findtext("owner/name") or "").strip() == "Label Studio":
        return "Label Studio"
    if all(tree.find(tag) is not None for tag in ("database", "annotation", "image")):
        return "LabelMe"  # its labelme2voc.py
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


def _objects(tree: Element, path: Path, one_based: bool, report: Report) -> tuple[list[Object], bool]:
    """Return the objects of an annotation, and whether all could be read; report those with issues.

    one_based: whether corners are VOC's, 1-based and inclusive; else 0-based and half-open.
    """
    objects, complete = [], True
    # direct children only, here and below: the <part> of a person has its own name and bndbox
    for number, element in enumerate(tree.findall("object"), 1):
        source = f"{path}: object {number}"
        try:
            name, written = _read_name(element), _read_corners(element)
        except ValueError as error:
            report(Issue(IssueKind.BAD_OBJECT, f"{source}: {error}"))
            complete = False
            continue
        corners = written
        # some tools write a box as it was drawn, from any corner
        for low, high in ((0, 2), (1, 3)):
            if written[high] < written[low] - one_based:
                corners = [*corners]
                corners[low], corners[high] = written[high], written[low]
        x1, y1, x2, y2 = from_one_based(corners).tolist() if one_based else corners
        if x1 < x2 and y1 < y2:
            objects.append(Object(source, name, (x1, y1, x2, y2), _is_difficult(element)))
        else:
            numbers = ", ".join(f"{corner:g}" for corner in written)
            report(Issue(IssueKind.EMPTY_BOX, f"{source}: bndbox is empty: {numbers}"))
    return objects, complete


def _read_name(element: Element) -> str:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise ValueError("object without a name")
    return name


def _read_corners(element: Element) -> list[float]:
    """Return xmin, ymin, xmax and ymax of an object: of its bndbox, else around its rotated box or polygon."""
    if (bndbox := element.find("bndbox")) is not None:
        return [_number(bndbox, tag) for tag in CORNERS]
    if (rotated := element.find("robndbox")) is not None:  # roLabelImg
        x, y, width, height, angle = (_number(rotated, tag) for tag in ("cx", "cy", "w", "h", "angle"))
        cosine, sine = abs(math.cos(angle)), abs(math.sin(angle))
        dx, dy = (width * cosine + height * sine) / 2, (width * sine + height * cosine) / 2
        return [x - dx, y - dy, x + dx, y + dy]
    if (polygon := element.find("polygon")) is not None:
        points = [(_number(point, "x"), _number(point, "y")) for point in polygon.findall("pt")]
        numbers = (tag[1:] for tag in (child.tag for child in polygon) if re.fullmatch(r"x\d+", tag))
        points += [(_number(polygon, f"x{number}"), _number(polygon, f"y{number}")) for number in numbers]
        if points:
            xs, ys = zip(*points, strict=True)
            return [min(xs), min(ys), max(xs), max(ys)]
    raise ValueError("object without a bndbox")


def _number(element: Element, tag: str) -> float:
    text = (element.findtext(tag) or "").strip()
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{tag} must be a number, but got {text!r}")
    return number


def _is_difficult(element: Element) -> bool:
    """Return the flag, which is 0 or 1, or a word of another tool such as Unspecified."""
    return (element.findtext("difficult") or "").strip().lower() in ("1", "1.0", "true", "yes")
