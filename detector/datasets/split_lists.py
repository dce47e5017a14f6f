"""Lists of images: text files that name the images of a split, as VOC, darknet, PaddlePaddle and VoTT write them."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from detector.datasets.image_finder import common_folders, path_parts
from detector.datasets.records import UNSPLIT, split_in_name
from detector.datasets.text import read_text
from detector.images.files import SUFFIXES

_FLAG = re.compile(r"^(.*\S)\s+[+-]?[01](?:\.0+)?$")  # of a class: the image shows it, or does not
_ENDINGS = sorted((*SUFFIXES, ".xml", ".txt", ".json"), key=len, reverse=True)
_NAMED_FILE = re.compile(rf"^(.*?(?:{'|'.join(map(re.escape, _ENDINGS))}))[\s,;:]", re.IGNORECASE)
_SETTING = re.compile(r"^\s*(train|valid|val|test)\s*=\s*(\S.*?)\s*$", re.MULTILINE)


class Listed(NamedTuple):
    """An image of a list: its name there, and its annotation; None if no file goes by the name."""

    name: str
    annotation: Path | None


class FilesByName:
    """Finds annotation files by the names that lists use for them or their images."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in files:
            self._by_stem[path.stem.casefold()].append(path)

    def find(self, name: str) -> Path | None:
        """Return the file of an image: that with the most folders of the name, of equal ones that nearest to the root.

        The name may be a path of another machine; its suffix does not matter.
        """
        parts = path_parts(name)
        stem = _without_suffix(parts[-1]).casefold()
        found = self._by_stem.get(stem, ())
        return max(found, key=lambda path: (common_folders(path, parts), -len(path.parts)), default=None)


def read_list(path: Path, find: Callable[[str], Path | None]) -> list[Listed]:
    """Read a list of images, one per line, in its order.

    A line is a name or a path with or without a suffix, possibly in quotation marks, with a flag of 1, 0 or -1 for a
    class, or followed by an annotation file or boxes. The first reading that ``find`` knows counts, so names may
    contain spaces. Lines that start with # are comments unless an image is named so. Raises the errors of `read_text`.
    """
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    flagged = all(_FLAG.match(line) for line in lines)
    listed = []
    for line in lines:
        names = [*_names(line, flagged)]
        known = (Listed(name, annotation) for name in names if (annotation := find(name)) is not None)
        each = next(known, Listed(names[-1], None))
        if each.annotation is not None or not line.startswith("#"):
            listed.append(each)
    return listed


def is_class_list(path: Path) -> bool:
    """Return whether each line of a list ends in a flag, as in VOC's lists of single classes, such as dog_train.txt."""
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    return bool(lines) and all(_FLAG.match(line) for line in lines)


def split_lists(files: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the text files that may list the images of a split, by split: train.txt, val_list.txt, 2007_test.txt.

    Files that darknet's ``*.data`` name for a split come first.
    """
    texts = [path for path in files if path.suffix.lower() == ".txt"]
    found: dict[str, list[Path]] = defaultdict(list)
    for settings in (path for path in files if path.suffix.lower() == ".data"):
        for key, value in _SETTING.findall(read_text(settings)):
            name = path_parts(value)[-1]
            found[split_in_name(key)] += [path for path in texts if path.name == name and path not in found[key]]
    taken = {path for paths in found.values() for path in paths}
    for path in texts:
        split = split_in_name(path.stem)
        if split != UNSPLIT and path not in taken:
            found[split].append(path)
    return dict(found)


def missing_of(path: Path, listed: Sequence[Listed]) -> tuple[str, ...]:
    """Return a note about the lines of the list ``path`` that name no annotation, if there are any."""
    missing = [each.name for each in listed if each.annotation is None]
    if not missing:
        return ()
    return (f"{path}: {len(missing)} of its {len(listed)} lines, such as {missing[0]!r}, name no annotation",)


class Assigned(NamedTuple):
    """The split of each annotation file that a list names, and notes about lines that name none."""

    splits: dict[Path, str]
    notes: tuple[str, ...]


def assign_splits(files: Sequence[Path], annotations: Sequence[Path]) -> Assigned:
    """Return the splits of ``annotations`` by the lists among ``files``; the first list that names a file counts."""
    find = FilesByName(annotations).find
    own = set(annotations)
    splits: dict[Path, str] = {}
    notes: list[str] = []
    for split, paths in split_lists([path for path in files if path not in own]).items():
        for path in paths:
            listed = read_list(path, find)
            splits = {**{each.annotation: split for each in listed if each.annotation is not None}, **splits}
            notes += missing_of(path, listed)
    return Assigned(splits, tuple(notes))


def _names(line: str, flagged: bool) -> Iterator[str]:
    """Yield the names that a line may mean, likeliest first; the last one is that to report."""
    if line[0] in "\"'" and line[0] in line[1:]:
        yield line[1:].split(line[0])[0]
        return
    flag = _FLAG.match(line)
    if flag and flagged:
        yield flag.group(1)
    yield line
    if flag and not flagged:
        yield flag.group(1)
    if "\t" in line:
        yield line.split("\t")[0].strip()
    if named := _NAMED_FILE.match(line):
        yield named.group(1)
    yield line.split()[0]
    if flag:
        yield flag.group(1)


def _without_suffix(name: str) -> str:
    ending = next((each for each in _ENDINGS if name.lower().endswith(each)), "")
    return name[: len(name) - len(ending)]
