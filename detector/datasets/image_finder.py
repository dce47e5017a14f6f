"""Find files below a folder, and images by the names that labeling tools wrote."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote

from detector.images.files import SUFFIXES
from detector.runtime.files import RESULTS_MARK

_MAX_FILES = 2_000_000
_HASH_BEFORE = re.compile(r"^[0-9a-f]{8}-")  # Label Studio, on upload
ROBOFLOW_HASH = re.compile(r"_(?:jpe?g|png|webp|bmp|tiff?|gif)\.rf\.\w+$", re.IGNORECASE)
"""Suffix that Roboflow adds to names, on export: several copies of an image differ in it."""


_NO_PHOTOS = re.compile(
    r"mask|trimap|segment|semantic|instance|visuali[sz]ation|depth|thumbnail|preview|ground.?truth"
    r"|^(?:gt|viz|annotations?|labels?)$",
    re.IGNORECASE,
)
_NO_PHOTO = re.compile(r"[_\-.](?:masks?|seg|segmentation|labels?|trimap|gt|instances?|depth|viz)$", re.IGNORECASE)


class AmbiguousImageError(ValueError):
    """Several images go by the same name."""


def files_below(root: Path) -> list[Path]:
    """Return all files at any depth below a folder, sorted, without hidden ones and what macOS adds to zip files.

    Hidden JSON files count, since some tools write annotations there (.annotations.coco.json). Folders inside with
    results of this program do not: they are no data. Links to folders are followed once. Raises FileNotFoundError for a
    missing folder and ValueError for one that holds millions of files.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such file or folder")
    found: list[Path] = []
    folders, seen = [root], set()
    while folders:
        folder = folders.pop()
        if (real := folder.resolve()) in seen:
            continue
        seen.add(real)
        if folder != root and (folder / RESULTS_MARK).is_file():
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                hidden = entry.name.startswith(".")
                if entry.name == "__MACOSX" or entry.name.startswith("._"):
                    continue
                if entry.is_dir():
                    if not hidden:
                        folders.append(Path(entry.path))
                elif (not hidden or entry.name.lower().endswith(".json")) and entry.is_file():
                    found.append(Path(entry.path))
        if len(found) > _MAX_FILES:
            raise ValueError(f"{root}: holds more than {_MAX_FILES} files")
    return sorted(found)


def images_among(files: Iterable[Path]) -> list[Path]:
    """Return the files whose names are those of images, without masks and drawings of an image that is there, too."""
    images = [path for path in files if path.suffix.lower() in SUFFIXES]
    drawn = [path for path in images if _NO_PHOTOS.search(path.parent.name) or _NO_PHOTO.search(path.stem)]
    if not drawn:
        return images
    photos = {path.stem for path in images} - {path.stem for path in drawn}
    photos |= {path.stem for path in images if not _NO_PHOTOS.search(path.parent.name)}
    masks = {path for path in drawn if _photo_of(path) in photos}
    return [path for path in images if path not in masks]


def _photo_of(mask: Path) -> str:
    """Return the stem of the image that a mask may belong to."""
    return mask.stem if _NO_PHOTOS.search(mask.parent.name) else _NO_PHOTO.sub("", mask.stem)


def without_export_marks(stem: str) -> str:
    """Return the stem of an image's name without the hashes that Label Studio and Roboflow add to it."""
    return ROBOFLOW_HASH.sub("", _HASH_BEFORE.sub("", stem))


class ImageFinder:
    """Finds images by the names that exports use.

    A name is compared exactly; then with escapes such as %20 resolved, ignoring case; then without suffix; then
    without the prefix of Label Studio ("1a2b3c4d-") and the suffix of Roboflow ("_jpg.rf.0123abcd"). The first
    comparison with a match counts.
    """

    def __init__(self, images: Sequence[Path]) -> None:
        self._tables: list[dict[str, list[Path]]] = []
        for key in _KEYS:
            table: dict[str, list[Path]] = defaultdict(list)
            for path in images:
                table[key(path.name)].append(path)
            self._tables.append(table)

    def exact(self, name: str) -> Sequence[Path]:
        """Return the images of exactly this file name, in any folder."""
        return self._tables[0].get(path_parts(name)[-1], ())

    def find(self, names: Sequence[str], near: Sequence[Path], then: Collection[Path] = ()) -> Path:
        """Return the image that one of ``names`` means, preferably directly in one of the folders ``near``.

        Of several matches, the one with the most folders of the name counts, then one below a folder of ``near``, then
        one in a folder of ``then``.
        Raises FileNotFoundError for no match and AmbiguousImageError if several remain.
        """
        parts = [path_parts(name) for name in names]
        # of several images by one name, such as a photo and its mask, another name may mean one alone
        exact_names = {each[-1] for each in parts}
        several: list[Path] = []
        for folder in near:
            for each in parts:
                exact = folder.joinpath(*each)
                if exact in self._tables[0].get(each[-1], ()):
                    return exact
                found = self._named(each[-1], folder) if len(each) == 1 else []
                found = [path for path in found if path.name in exact_names] or found
                if len(found) == 1:
                    return found[0]
                several = several or found
        if several:
            raise _ambiguous(several)
        for each in parts:
            if found := self._named(each[-1]):
                found = [path for path in found if path.name in exact_names] or found
                return self._only(found, each, near, then)
        raise FileNotFoundError(f"there is no image {' or '.join(map(repr, dict.fromkeys(names)))}")

    def _named(self, name: str, folder: Path | None = None) -> list[Path]:
        for key, table in zip(_KEYS, self._tables, strict=True):
            found = table.get(key(name), [])
            if folder is not None:
                found = [path for path in found if path.parent == folder]
            if found:
                return found
        return []

    def _only(self, found: list[Path], parts: Sequence[str], near: Sequence[Path], then: Collection[Path]) -> Path:
        common = [common_folders(path, parts) for path in found]
        found = [path for path, length in zip(found, common, strict=True) if length == max(common)]
        for folder in near:
            if len(found) > 1 and (below := [path for path in found if folder in path.parents]):
                found = below
        found = [path for path in found if path.parent in then] or found
        if len(found) > 1:
            raise _ambiguous(found)
        return found[0]


def _ambiguous(found: Sequence[Path]) -> AmbiguousImageError:
    return AmbiguousImageError(f"{len(found)} images go by the name: {', '.join(map(str, found[:3]))}")


def path_parts(name: str) -> list[str]:
    """Return the folders and the file name of a path or URL of any system."""
    name = name.replace("\\", "/")
    if "?d=" in name:  # Label Studio's URL of a local file
        name = name.split("?d=", 1)[1]
    elif "://" in name:
        name = name.split("?", 1)[0]
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return parts or [""]


def common_folders(path: Path, parts: Sequence[str]) -> int:
    """Return the number of equal folders above a file and in the parts of a name, counted from the file."""
    count = 0
    for one, two in zip(reversed(path.parent.parts), reversed(parts[:-1]), strict=False):
        if _plain(one) != _plain(two):
            break
        count += 1
    return count


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", unquote(name)).casefold()


def _stem(name: str) -> str:
    plain = _plain(name)
    stem, dot, suffix = plain.rpartition(".")
    return stem if stem and dot + suffix in SUFFIXES else plain


def _bare(name: str) -> str:
    """Return the stem without additions of Label Studio and Roboflow, which also replace blanks and punctuation."""
    return re.sub(r"[^\w-]+", "_", without_export_marks(_stem(name)))


_KEYS: tuple[Callable[[str], str], ...] = (str, _plain, _stem, _bare)
