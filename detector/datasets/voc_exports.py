"""VOC's XML as labelling tools write it, with the devkit's lists or without any.

Tools disagree about the first pixel; each marks its files, so that a folder may hold files of several:

============  =========================================  ===========================================
tool          mark                                       corners
============  =========================================  ===========================================
VOC devkit    none of those below                        from 1, the last pixel is part of the box
Roboflow      database roboflow.com (or .ai)             as in the devkit
LabelImg      path, or database Unknown                  from 0, where the box ends; never below 1
CVAT          annotation Unknown and image Unknown       from 0, where the box ends, with fractions
Label Studio  owner Label Studio                         from 0, where the box ends
============  =========================================  ===========================================
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

from detector.datasets.faults import Fault, Kind, Report
from detector.datasets.records import UNSPLIT, Export, Record, split_name, split_of_folder
from detector.datasets.tree import images_among
from detector.datasets.voc import VOC_CLASSES, objects_of, read_xml

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
    """The record of an entry of a list; without an annotation file it is unlabelled. None where that is unreadable."""
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
