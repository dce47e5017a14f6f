"""Data sets in the folder layout of the PASCAL VOC devkit.

The only place, beside the devkit's result files, where VOC's own corners exist: 1-based, both ends inclusive.
Here x1 and y1 lose 1 and x2 and y2 stay, so that widths, areas and IoU are the devkit's without any `+ 1`.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import ElementTree

from data.annotation import Annotation, Dataset

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

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")


def load_voc(root: Path | str, split: str, class_names: Sequence[str] = VOC_CLASSES) -> Dataset:
    """Read the annotations of all images that ImageSets/Main/<split>.txt lists, in its order.

    root: the folder that holds JPEGImages, Annotations and ImageSets, or one above it: a devkit folder with
        exactly one VOC20xx in it, or the folder that holds such a VOCdevkit.
    class_names: the classes that may occur; labels are indices into them.
    Image files are not opened and may be missing. Raises FileNotFoundError for a missing folder, list or
    annotation, and ValueError for a file that does not hold what it should; either names the file.
    """
    names = tuple(class_names)
    if len(set(names)) < len(names):
        raise ValueError(f"class_names must differ from each other, but got {', '.join(names)}")
    folder = _find_folder(Path(root))
    label_of = {name: label for label, name in enumerate(names)}
    image_ids = _read_split(folder, split, names)
    annotations = tuple(_load_annotation(folder, image_id, label_of) for image_id in image_ids)
    return Dataset(annotations, names, f"{folder.resolve().name} {split}")


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


def _read_split(folder: Path, split: str, class_names: tuple[str, ...]) -> list[str]:
    path = folder / "ImageSets" / "Main" / f"{split}.txt"
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


def _load_annotation(folder: Path, image_id: str, label_of: dict[str, int]) -> Annotation:
    path = folder / "Annotations" / f"{image_id}.xml"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such annotation")
    try:
        tree = ElementTree.parse(path)
    except (ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{path}: not a readable XML file ({error})") from error
    # Direct children alone, here and below: the <part> of a person has a name and a bndbox of its own.
    elements = tree.findall("object")
    try:
        boxes = [_read_box(element) for element in elements]
        labels = [_read_label(element, label_of) for element in elements]
        difficult = [_is_difficult(element) for element in elements]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Annotation(
        image_id,
        _image_path(folder, image_id),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(difficult, np.bool_),
    )


def _read_label(element: Element, label_of: dict[str, int]) -> int:
    name = (element.findtext("name") or "").strip()
    if name not in label_of:
        raise ValueError(f"unknown class {name!r}" if name else "object without a name")
    return label_of[name]


def _read_box(element: Element) -> tuple[float, float, float, float]:
    bndbox = element.find("bndbox")
    if bndbox is None:
        raise ValueError("object without a bndbox")
    corners = []
    for tag in ("xmin", "ymin", "xmax", "ymax"):
        text = (bndbox.findtext(tag) or "").strip()
        try:
            corners.append(float(text))
        except ValueError:
            corners.append(math.nan)
        if not math.isfinite(corners[-1]):
            raise ValueError(f"{tag} must be a number, but got {text!r}")
    x1, y1, x2, y2 = corners[0] - 1, corners[1] - 1, corners[2], corners[3]
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f"bndbox is empty: {', '.join(f'{corner:g}' for corner in corners)}")
    return x1, y1, x2, y2


def _is_difficult(element: Element) -> bool:
    text = (element.findtext("difficult") or "0").strip()
    if text not in ("0", "1"):
        raise ValueError(f"difficult must be 0 or 1, but got {text!r}")
    return text == "1"


def _image_path(folder: Path, image_id: str) -> Path:
    candidates = [folder / "JPEGImages" / f"{image_id}{suffix}" for suffix in _IMAGE_SUFFIXES]
    return next((path for path in candidates if path.exists()), candidates[0])
