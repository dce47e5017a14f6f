"""Data sets in the folder layout of the PASCAL VOC devkit."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, ParseError, SubElement, indent, tostring

from numpy.typing import ArrayLike

from detector.boxes import from_one_based, to_one_based
from detector.datasets.dataset import Dataset, Fault, Kind, Object, Report, annotate, labels_by_name, raise_fault
from detector.datasets.image_finder import images_among
from detector.datasets.records import UNSPLIT, Export, Record, split_name, split_of_folder
from detector.runtime.optional import optional

VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_IMAGE_SUFFIXES = tuple(
    suffix
    for lower in (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
    for suffix in (lower, lower.upper())
)


def load_voc(
    root: Path | str, split: str, class_names: Sequence[str] | None = VOC_CLASSES, report: Report = raise_fault
) -> Dataset:
    """Read the annotations of all images that ImageSets/Main/<split>.txt lists, in its order.

    root: the folder that holds JPEGImages, Annotations and ImageSets, or one above it: a devkit folder with
        exactly one VOC20xx in it, or the folder that holds such a VOCdevkit.
    class_names: the classes that may occur; labels are indices into them. None: those that do occur, sorted (VOC's
        own order, too, is the alphabet's).
    report: what to do about a fault of a single image or object. Where it returns, as `list.append` does, the image
        or the object is left out.
    Image files are not opened and may be missing. Raises FileNotFoundError for a missing folder, list or
    annotation, and ValueError for a file that does not hold what it should; either names the file.
    """
    labels_by_name(class_names or ())
    folder = _find_folder(Path(root))
    image_ids = _read_split(folder, split, class_names or ())
    found = {image_id: _read_objects(folder / "Annotations" / f"{image_id}.xml", report) for image_id in image_ids}
    if class_names is None:
        class_names = sorted({each.class_name for objects in found.values() for each in objects or ()})
    label_of = labels_by_name(class_names)
    annotations = tuple(
        annotate(image_id, _image_path(folder, image_id), objects, label_of, report)
        for image_id, objects in found.items()
        if objects is not None
    )
    return Dataset(annotations, tuple(class_names), f"{folder.resolve().name} {split}")


def has_split(root: Path | str, split: str) -> bool:
    """Whether there is a list of that name; ``root`` and errors are those of `load_voc`."""
    return _split_file(_find_folder(Path(root)), split).is_file()


def annotation_xml(
    file_name: str, size: tuple[int, int], class_names: Iterable[str], boxes: ArrayLike, difficult: Iterable[bool]
) -> str:
    """The annotation file of an image, as `load_voc` reads it: to the last bit of the corners.

    size: height and width. class_names, boxes, difficult: of each object a name, a row of ``(N, 4)``, and the flag.
    What XML cannot hold in a name is replaced.
    """
    root = Element("annotation")
    _add(root, filename=_in_xml(file_name))
    height, width = size
    _add(SubElement(root, "size"), width=width, height=height, depth=3)
    for name, corners, flag in zip(class_names, to_one_based(boxes).tolist(), difficult, strict=True):
        element = SubElement(root, "object")
        _add(element, name=_in_xml(name), pose="Unspecified", truncated=0, difficult=int(flag))
        # a float32, and 1 more, is told apart by far fewer digits
        texts = (repr(round(corner, 12)).removesuffix(".0") for corner in corners)
        _add(SubElement(element, "bndbox"), **dict(zip(_CORNERS, texts, strict=True)))
    indent(root)
    return tostring(root, encoding="unicode") + "\n"


def _add(element: Element, **texts: object) -> None:
    for tag, text in texts.items():
        SubElement(element, tag).text = str(text)


def _in_xml(text: str) -> str:
    # a path may hold bytes that are no UTF-8
    sound = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in sound)


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
        raise ValueError(f"{root}: holds several data sets ({found}), name one of them")
    return years[0]


def _split_file(folder: Path, split: str) -> Path:
    return folder / "ImageSets" / "Main" / f"{split}.txt"


def _read_split(folder: Path, split: str, class_names: Sequence[str]) -> list[str]:
    path = _split_file(folder, split)
    if not path.is_file():
        # The devkit keeps a list for each class in the same folder, such as dog_train.txt.
        per_class = tuple(f"{name}_" for name in (*class_names, *VOC_CLASSES))
        stems = sorted(other.stem for other in path.parent.glob("*.txt"))
        splits = [stem for stem in stems if not stem.startswith(per_class)]
        raise FileNotFoundError(f"{path}: no such list, there are {', '.join(splits) or 'none'}")
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    image_ids = [line.split()[0] for line in lines if line.strip()]
    if not image_ids:
        raise ValueError(f"{path}: lists no images")
    seen: set[str] = set()
    for image_id in image_ids:
        if image_id in seen:
            raise ValueError(f"{path}: lists image {image_id!r} twice")
        seen.add(image_id)
    return image_ids


def _read_objects(path: Path, report: Report) -> list[Object] | None:
    """The objects of an annotation file, the faulty ones left out; None where the file cannot be read."""
    tree = read_xml(path, report)
    return None if tree is None else objects_of(tree, path, report)


def read_xml(path: Path, report: Report) -> Element | None:
    """The root of an annotation file; None, and a report, where it is missing or cannot be read."""
    if not path.is_file():
        report(Fault(Kind.MISSING_ANNOTATION, f"{path}: no such annotation"))
        return None
    xml = optional("defusedxml.ElementTree", "train")
    try:
        root: Element = xml.parse(path).getroot()
    except (ParseError, ValueError, LookupError, OSError) as error:
        report(Fault(Kind.BAD_ANNOTATION, f"{path}: not a readable XML file ({error})"))
        return None
    return root


def objects_of(
    tree: Element, path: Path, report: Report, one_based: bool = True, numbered: bool = False
) -> list[Object]:
    """The objects of an annotation, the faulty ones reported and left out.

    one_based: whether corners are VOC's; else they are ours, as programs write them that count pixels from 0.
    numbered: whether sources and reports say which object of the file, from 1, they mean.
    """
    objects = []
    # Direct children alone, here and below: the <part> of a person has a name and a bndbox of its own.
    for number, element in enumerate(tree.findall("object"), 1):
        source = f"{path}: object {number}" if numbered else str(path)
        try:
            name, written, difficult = _read_name(element), _read_corners(element), _is_difficult(element)
        except ValueError as error:
            report(Fault(Kind.BAD_OBJECT, f"{source}: {error}"))
            continue
        x1, y1, x2, y2 = from_one_based(written).tolist() if one_based else written
        if x1 < x2 and y1 < y2:
            objects.append(Object(source, name, (x1, y1, x2, y2), difficult))
        else:
            corners = ", ".join(f"{corner:g}" for corner in written)
            report(Fault(Kind.EMPTY_BOX, f"{source}: bndbox is empty: {corners}"))
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
    for tag in _CORNERS:
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


def _image_path(folder: Path, image_id: str) -> Path:
    candidates = [folder / "JPEGImages" / f"{image_id}{suffix}" for suffix in _IMAGE_SUFFIXES]
    return next((path for path in candidates if path.exists()), candidates[0])


ONE_BASED = {"VOC": True, "Roboflow": True, "LabelImg": False, "CVAT": False, "Label Studio": False}
"""Whether the program that wrote a file counts pixels from 1, as VOC does."""

_IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "image")
_STANDARD = ("train", "val", "test")


def read_lists(folder: Path, files: Sequence[Path], tool: str | None, report: Report) -> Export:
    """A folder with ImageSets/Main, as the VOC devkit, CVAT and our own writer lay it out.

    tool: the program that wrote it, a key of `ONE_BASED`; None: what each file is marked as.
    """
    images = images_among(files)
    own = [path for path in images if folder / "JPEGImages" in path.parents]
    paths = sorted((folder / "ImageSets" / "Main").glob("*.txt"))
    splits = {_list_name(path): path for path in paths if not _is_of_class(path, paths)}
    if "train" not in splits and "trainval" in splits:
        splits["train"] = splits.pop("trainval")
    if standard := {name: path for name, path in splits.items() if name in _STANDARD}:
        splits = standard
    elif len(splits) == 1:
        splits = {UNSPLIT: next(iter(splits.values()))}
    records = {
        name: [_listed_record(folder, image_id, tool, report) for image_id in _image_ids(path)]
        for name, path in splits.items()
    }
    kept = {name: [each for each in found if each is not None] for name, found in records.items()}
    if not any(kept.values()):
        raise ValueError(f"{folder}: the lists in ImageSets/Main name no images")
    written_by = "CVAT PASCAL VOC" if (folder / "labelmap.txt").is_file() else "VOC devkit"
    return Export(written_by, folder, own or images, kept, listed=True)


def read_loose(root: Path, files: Sequence[Path], tool: str | None, report: Report) -> Export:
    """XML files without lists, next to their images or in a folder of their own: LabelImg, Roboflow, Label Studio."""
    splits: dict[str, list[Record]] = {}
    tools = set()
    for path in files:
        if path.suffix.lower() != ".xml" or (tree := read_xml(path, report)) is None:
            continue
        if tree.tag != "annotation":
            continue
        tools.add(tool or tool_of(tree))
        split = split_of_folder(path.parent, root)
        splits.setdefault(split, []).append(_record(tree, path, path.stem, tool, report))
    if not splits:
        raise ValueError(f"{root}: none of the XML files is an annotation of VOC's form")
    return Export(f"{' and '.join(sorted(tools))} XML", root, images_among(files), splits)


def tool_of(tree: Element) -> str:
    """The program that wrote an annotation, by its mark."""
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


def _record(tree: Element, path: Path, stem: str, tool: str | None, report: Report) -> Record:
    # folder and path in the file are those of another machine; the file's own name is what tools go by
    name = (tree.findtext("filename") or "").strip().replace("\\", "/").rsplit("/", 1)[-1]
    names = (stem, name) if name else (stem,)
    above = path.parent.parent
    near = (path.parent, *(above / folder for folder in _IMAGE_FOLDERS))
    one_based = ONE_BASED[tool or tool_of(tree)]
    return Record(names, path, near, objects_of(tree, path, report, one_based, numbered=True), _size(tree))


def _size(tree: Element) -> tuple[int, int] | None:
    """Width and height as annotated; None where they are missing, no numbers, or 0 as some programs write."""
    try:
        width, height = (int(float(tree.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _listed_record(folder: Path, image_id: str, tool: str | None, report: Report) -> Record | None:
    """The record of an entry of a list; without an annotation file it is unlabeled. None where that is unreadable."""
    path = folder / "Annotations" / f"{image_id}.xml"
    parts = PurePosixPath(image_id).parts
    if ".." in parts or image_id.startswith("/"):
        report(Fault(Kind.BAD_ANNOTATION, f"{folder}: the lists name {image_id!r}, which leads out of the folder"))
        return None
    near = (folder.joinpath("JPEGImages", *parts[:-1]), folder / "JPEGImages")
    if not path.is_file():
        return Record((parts[-1],), path, near, None)
    if (tree := read_xml(path, report)) is None:
        return None
    record = _record(tree, path, image_id, tool, report)
    return Record((parts[-1], *record.names[1:]), path, near, record.objects, record.size)


def _list_name(path: Path) -> str:
    return split_name(path.stem)


def _is_of_class(path: Path, paths: Sequence[Path]) -> bool:
    """Whether a list is the devkit's list of a class, such as dog_train.txt next to train.txt."""
    stems = {other.stem for other in paths}
    return any(
        path.stem.endswith(f"_{stem}") and (path.stem[: -len(stem) - 1] in VOC_CLASSES or stem in stems)
        for stem in {*stems, "train", "val", "trainval", "test"}
    )


def _image_ids(path: Path) -> list[str]:
    """The images of a list, each once: the first word of a line, or what is in quotation marks."""
    found: dict[str, None] = {}
    for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        line = line.strip()
        if line:
            found[line[1:].split('"')[0] if line.startswith('"') else line.split()[0]] = None
    return list(found)
