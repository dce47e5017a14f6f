"""Group the images of a dataset into scenes: augmented copies, near-duplicates and neighboring frames of a film.

Images of a scene belong on one side of a split: a score on copies of training images is too high.
"""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from detector.datasets.dataset import Annotation
from detector.datasets.image_finder import ROBOFLOW_HASH, without_export_marks
from detector.images.files import DEFAULT_MAX_PIXELS, read_image
from detector.runtime.files import file_state
from detector.runtime.threads import in_threads, thread_count

_SIDE = 16
_WORDS = _SIDE * _SIDE // 64  # of a hash
NEAR_DUPLICATE_BITS = 28
"""Maximum number of bits in which the hashes of near-duplicate images differ.

Of VOC2007, copies of 0.6 times the size and JPEG quality 60 differ in at most 18 bits in 95 cases of 100, brighter ones
in 17; any two of 600 different images differ in 48 bits or more.
"""
_MIN_CORRELATION = 0.9  # of thumbnails; plain backgrounds make hashes of different images similar
# of images whose names suggest one scene: of 4,008 neighbors of VOC2007, two pass; frames of a turning camera pass if
# they move by less than a twentieth of their width
_FRAME_BITS, _FRAME_CORRELATION = 90, 0.75
_MAX_AUGMENTED = 32  # images of one name; more of them share a name for another reason
_BLOCK = 256  # images compared with all at a time
_JPEG_DRAFT = (64, 64)  # pixels at least; JPEG decodes 1/8 of the size in a fraction of the time

_AUGMENTED = re.compile(
    r"(?:[_\-. ](?:aug|augmented|[hv]?flip|flipped|mirror|mirrored|rot|rotate|rotated|rotation|blur|blurred|noise|noisy"
    r"|bright|brightness|dark|crop|cropped|gr[ae]y|gr[ae]yscale|jitter|scale|scaled|contrast|hue|saturation|cutout|mosaic"
    r"|shear|sheared|zoom|shift|shifted)[_\-. ]?\d{0,4})+$",
    re.IGNORECASE,
)
_COPY = re.compile(r"(?: ?\(\d+\)|[_\- ]+(?:copy|kopie|copie)(?:[_\- ]?\(?\d+\)?)?)+$", re.IGNORECASE)


class _Thumbnail(NamedTuple):
    """An image of 16 x 17 gray fields, (272,) float32 of mean 0 and length 1, and difference hashes, (4,) uint64.

    A bit of the hash is set where one of 16 x 16 fields is brighter than its left neighbor: N. Krawetz, "Kind of like
    that" (2013). mirrored: the hash of the image mirrored left to right.
    """

    fields: NDArray[np.float32]
    bits: NDArray[np.uint64]
    mirrored: NDArray[np.uint64]


def scenes(images: Sequence[Annotation]) -> NDArray[np.int64]:
    """Return the scene of each image, ``(N,)`` int64, numbered 0, 1, ... in the order of their first images.

    Images are of one scene where their names are those of copies that Roboflow or an augmentation made, where they look
    alike, also mirrored, and where they are neighbors in a series of numbered names and look roughly alike. Images that
    cannot be read are grouped by name alone. Decodes each image once in a process, in a reduced size.
    """
    groups = _Groups(len(images))
    stems = [each.path.stem for each in images]
    originals = [without_export_marks(stem) for stem in stems]
    plain = [_AUGMENTED.sub("", original) for original in originals]
    exported = {original for stem, original in zip(stems, originals, strict=True) if ROBOFLOW_HASH.search(stem)}
    augmented = {name for name, original in zip(plain, originals, strict=True) if name != original}
    for rows in _rows_by(originals):
        if originals[rows[0]] in exported:
            groups.join(rows)
    for rows in _rows_by(plain):
        if plain[rows[0]] in augmented and len(rows) <= _MAX_AUGMENTED:
            groups.join(rows)
    thumbnails = in_threads(lambda each: thumbnail(each.path), images, thread_count())
    readable = [row for row, each in enumerate(thumbnails) if each is not None]
    similar = _Similar([each for each in thumbnails if each is not None], readable)
    for one, two in similar.pairs():
        groups.join((one, two))
    for one, two in _named_alike(originals):
        if similar.are(one, two):
            groups.join((one, two))
    return groups.numbers()


@cache
def _thumbnail(path: Path, state: tuple[str, int, int]) -> _Thumbnail | None:
    gray = _small_gray(path)
    if gray is None:
        return None
    fields = cv2.resize(gray, (_SIDE + 1, _SIDE), interpolation=cv2.INTER_AREA)
    centered = fields.astype(np.float32).ravel() - fields.mean(dtype=np.float32)
    length = float(np.linalg.norm(centered))
    return _Thumbnail(centered / length if length else centered, _hash(fields), _hash(fields[:, ::-1]))


def thumbnail(path: Path) -> _Thumbnail | None:
    """Return the thumbnail of an image file; None where it cannot be read."""
    try:
        return _thumbnail(path, file_state(path))
    except OSError:
        return None


def _hash(fields: NDArray[np.uint8]) -> NDArray[np.uint64]:
    bits: NDArray[np.uint64] = np.packbits(fields[:, 1:] > fields[:, :-1]).view(np.uint64)
    return bits


def _small_gray(path: Path) -> NDArray[np.uint8] | None:
    """Return an image as gray values of any small size; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            if file.read(3) == b"\xff\xd8\xff":
                file.seek(0)
                return _small_jpeg(JpegImageFile(file))
        return cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY)
    except Exception:  # parsers raise nearly every kind of exception on damaged data
        return None


def _small_jpeg(image: JpegImageFile) -> NDArray[np.uint8]:
    if image.width * image.height > DEFAULT_MAX_PIXELS:
        raise ValueError("too many pixels")
    image.draft("L", _JPEG_DRAFT)
    return np.asarray(ImageOps.exif_transpose(image.convert("L")))


def _rows_by(keys: Sequence[Hashable]) -> Iterable[list[int]]:
    """Return the rows of each key, in their order."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        groups[key].append(row)
    return groups.values()


def _named_alike(stems: Sequence[str]) -> list[tuple[int, int]]:
    """Return pairs of rows of copies, such as "a" and "a (1)", and of neighbors in a series of numbered names."""
    copies = [_COPY.sub("", stem) for stem in stems]
    pairs = [pair for rows in _rows_by(copies) for pair in pairwise(rows)]
    numbers = [len(stem) - len(stem.rstrip("0123456789")) for stem in stems]
    for rows in _rows_by([stem[: len(stem) - n] for stem, n in zip(stems, numbers, strict=True)]):
        frames = [row for row in rows if numbers[row]]
        pairs += pairwise(sorted(frames, key=lambda row: int(stems[row][-numbers[row] :])))
    return pairs


class _Similar:
    """Compares thumbnails of the images of some rows."""

    def __init__(self, thumbnails: Sequence[_Thumbnail], rows: Sequence[int]) -> None:
        self._rows = rows
        self._at = {row: number for number, row in enumerate(rows)}
        self._fields = np.array([each.fields for each in thumbnails], np.float32).reshape(-1, _SIDE * (_SIDE + 1))
        self._bits = np.array([each.bits for each in thumbnails], np.uint64).reshape(-1, _WORDS)
        self._mirrored = np.array([each.mirrored for each in thumbnails], np.uint64).reshape(-1, _WORDS)
        flipped = self._fields.reshape(-1, _SIDE, _SIDE + 1)[:, :, ::-1]
        self._flipped = np.ascontiguousarray(flipped).reshape(self._fields.shape)

    def pairs(self) -> Iterable[tuple[int, int]]:
        """Yield the rows of images that look alike, as they are or mirrored."""
        for start in range(0, len(self._rows), _BLOCK):
            block = slice(start, start + _BLOCK)
            bits, fields = self._bits[start:], self._fields[start:]
            near = (_distances(self._bits[block], bits) <= NEAR_DUPLICATE_BITS) & (
                self._fields[block] @ fields.T >= _MIN_CORRELATION
            )
            near |= (_distances(self._mirrored[block], bits) <= NEAR_DUPLICATE_BITS) & (
                self._flipped[block] @ fields.T >= _MIN_CORRELATION
            )
            for one, two in np.argwhere(near).tolist():
                if one < two:
                    yield self._rows[start + one], self._rows[start + two]

    def are(self, one: int, two: int) -> bool:
        """Return whether images whose names suggest one scene look roughly alike."""
        if one not in self._at or two not in self._at:
            return False
        first, second = self._at[one], self._at[two]
        distance = _distances(self._bits[first : first + 1], self._bits[second : second + 1])[0, 0]
        correlation = self._fields[first] @ self._fields[second]
        return bool(distance <= _FRAME_BITS and correlation >= _FRAME_CORRELATION)


def _distances(some: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the numbers of bits in which (N, 4) hashes differ from (M, 4) others, (N, M) int64."""
    total = np.zeros((len(some), len(others)), np.int64)
    for word in range(_WORDS):
        total += np.bitwise_count(some[:, word, None] ^ others[:, word])
    return total


class _Groups:
    """Rows that are joined to groups."""

    def __init__(self, count: int) -> None:
        self._parent = [*range(count)]

    def join(self, rows: Iterable[int]) -> None:
        """Make all of the rows one group, with what they are grouped with already."""
        for one, two in pairwise(rows):
            first, second = self._root(one), self._root(two)
            self._parent[max(first, second)] = min(first, second)

    def numbers(self) -> NDArray[np.int64]:
        """Return the group of each row, numbered in the order of their first rows."""
        roots = [self._root(row) for row in range(len(self._parent))]
        numbers = {root: number for number, root in enumerate(dict.fromkeys(roots))}
        return np.array([numbers[root] for root in roots], np.int64)

    def _root(self, row: int) -> int:
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]
            row = self._parent[row]
        return row
