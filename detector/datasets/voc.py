"""Data sets in the folder layout of the PASCAL VOC devkit."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, SubElement, indent, tostring

from numpy.typing import ArrayLike

from detector.boxes import from_one_based, to_one_based
from detector.datasets.annotation import Dataset, Object, annotate, labels_by_name
from detector.datasets.faults import Fault, Kind, Report, raise_fault
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
