"""COCO's JSON as labelling tools write it: one file, or one for each split, with the images anywhere."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detector.datasets.coco import name_of_image, names_of_categories, objects_of_image, read_file
from detector.datasets.faults import Fault, Kind, Report
from detector.datasets.records import UNSPLIT, Export, Record, split_name, split_of_folder
from detector.datasets.tree import images_among

_SPLIT_IN_NAME = re.compile(
    r"(?:^|[_\-.])(train|training|val|valid|validation|test)(?:\d{4})?(?=[_\-.]|$)", re.IGNORECASE
)
_SUBSET = re.compile(r"^instances_(\w+)$")


def is_coco(path: Path) -> bool:
    """Whether a file looks like one of COCO's without being read as JSON: all three lists are named in it."""
    wanted = {b'"images"', b'"annotations"', b'"categories"'}
    tail = b""
    with path.open("rb") as file:
        while wanted and (block := file.read(1 << 22)):
            wanted -= {word for word in wanted if word in tail + block}
            tail = block[-16:]
    return not wanted


def read_coco_files(root: Path, files: Sequence[Path], paths: Sequence[Path], report: Report) -> Export:
    """The COCO files ``paths`` of a data set whose images are among ``files``.

    Raises ValueError for a file that is not COCO's and for several files of one split.
    """
    by_split: dict[str, Path] = {}
    for path in _instances(paths):
        split = _split(path, root)
        if split in by_split:
            raise ValueError(
                f"{root}: {by_split[split].relative_to(root)} and {path.relative_to(root)} are both annotations "
                f"of {split or 'all images'}: give the file that is meant as the data"
            )
        by_split[split] = path
    if len(by_split) == 1 and next(iter(by_split)) not in ("train", "val", "test"):
        by_split = {UNSPLIT: next(iter(by_split.values()))}
    names: dict[str, None] = {}
    splits = {}
    tools = set()
    for split, path in by_split.items():
        coco = read_file(path)
        _drop_root_category(coco)
        categories = names_of_categories(coco, path)
        names.update(dict.fromkeys(categories.values()))
        tools.add(_tool(coco, path))
        splits[split] = _records(coco, path, categories, report)
    return Export(" and ".join(sorted(tools)), root, images_among(files), splits, tuple(names))


def _instances(paths: Sequence[Path]) -> list[Path]:
    """COCO's own files of objects, where those of captions or key points lie next to them."""
    return [path for path in paths if path.stem.startswith("instances")] or list(paths)


def _split(path: Path, root: Path) -> str:
    if found := _SPLIT_IN_NAME.search(path.stem):
        return split_name(found.group(1))
    if found := _SUBSET.match(path.stem):
        return split_name(found.group(1))
    return split_of_folder(path.parent, root)


def _drop_root_category(coco: Any) -> None:
    """Take out Roboflow's category 0: it stands for the project, has no objects, and may be named as a real one."""
    used = {each["category_id"] for each in coco.dataset["annotations"]}
    root = coco.cats.get(0, {})
    if len(coco.cats) > 1 and 0 not in used and root.get("supercategory") == "none":
        del coco.cats[0]


def _tool(coco: Any, path: Path) -> str:
    info = coco.dataset.get("info")
    contributor = info.get("contributor") if isinstance(info, dict) else None
    if contributor == "Label Studio":
        return "Label Studio COCO"
    if path.name == "_annotations.coco.json":
        return "Roboflow COCO"
    return "COCO"


def _records(coco: Any, path: Path, categories: dict[Any, str], report: Report) -> list[Record]:
    for each in coco.dataset["annotations"]:
        if each["image_id"] not in coco.imgs:
            source = f"{path}: annotation {each['id']}"
            report(Fault(Kind.BAD_OBJECT, f"{source}: there is no image {each['image_id']!r}"))
    images = coco.dataset["images"]
    names = [name_of_image(image, path) for image in images]
    most, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{path}: lists image {most!r} twice")
    # Label Studio annotates what the browser shows, but notes the size of what is stored
    shown = _tool(coco, path) == "Label Studio COCO"
    return [
        Record(
            (name,),
            path,
            (path.parent, path.parent / "images", path.parent.parent / "images"),
            objects_of_image(coco.imgToAnns.get(image["id"], ()), categories, path, report),
            _size(image),
            shown=shown,
        )
        for image, name in zip(images, names, strict=True)
    ]


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    if not all(isinstance(side, int | float) and 0 < side < 1e9 for side in (width, height)):
        return None
    return int(width), int(height)  # type: ignore[arg-type]
