"""Feature maps and proposals of images on disk, a file an image, computed when missing.

Maps are kept in half precision (a 500 x 375 image at one scale of 688 px and 320 channels: 1.6 MB). They lie in a
folder named by a fingerprint of everything that changes their values, so that a changed setting never reads old
files; settings.json in it tells what that is. Each file carries a checksum and that of its image; one that is
damaged or belongs to another image is reported, computed again and replaced.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, as_boxes
from detector.datasets.dataset import Annotation
from detector.features.encoder import Encoder, FeatureMaps
from detector.images.files import read_image
from detector.parallel.map_images import EndRun, Engine, Failure, Threads, map_images
from detector.runtime.array_cache import cached_arrays
from detector.runtime.files import Arrays, fingerprint, read_text, write_json
from detector.runtime.progress import Progress, no_progress

_FORMAT = 1
SETTINGS = "settings.json"
_LONGEST_NAME = 160
_MOST_BYTES = 1_000_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureCache:
    """Feature maps and proposals of images under ``directory``.

    ``propose`` maps an image to its boxes and ``proposal_settings`` names everything that changes them, as
    JSON-able values; what changes the maps is read off the ``encoder``. ``precomputed`` boxes by image id take the
    place of proposals.
    """

    directory: Path
    encoder: Encoder
    propose: Callable[[NDArray[np.uint8]], Boxes]
    proposal_settings: Mapping[str, object]
    precomputed: Mapping[str, Boxes] | None = None

    @property
    def maps_directory(self) -> Path:
        """Folder of the feature maps of this encoder."""
        return self._folder("maps", self._map_settings(mirrored=False))

    @property
    def mirrored_maps_directory(self) -> Path:
        """Folder of the feature maps of mirror images."""
        return self._folder("maps", self._map_settings(mirrored=True))

    @property
    def proposals_directory(self) -> Path:
        """Folder of the proposals of these settings."""
        return self._folder("proposals", self.proposal_settings)

    def maps(self, image_id: str, path: Path) -> FeatureMaps:
        """Feature maps of the image at ``path``, float16, from the cache or computed and stored."""
        return self._maps(image_id, path, mirrored=False)

    def mirrored_maps(self, image_id: str, path: Path) -> FeatureMaps:
        """`maps` of the mirror image of the image."""
        return self._maps(image_id, path, mirrored=True)

    def _maps(self, image_id: str, path: Path, mirrored: bool) -> FeatureMaps:
        def compute(image: NDArray[np.uint8]) -> Arrays:
            maps = self.encoder.maps(image[:, ::-1] if mirrored else image)
            arrays: Arrays = {f"map{i}": array.astype(np.float16) for i, array in enumerate(maps.maps)}
            image_size = np.asarray(maps.image_size, np.int64)
            return {**arrays, "zooms": np.asarray(maps.zooms, np.float64), "image_size": image_size}

        directory = self.mirrored_maps_directory if mirrored else self.maps_directory
        needs = ("zooms", "image_size", *(f"map{i}" for i in range(len(self.encoder.short_sides))))
        arrays = _get(directory / _file_name(image_id), path, self._map_settings(mirrored), compute, needs)
        zooms = tuple(arrays["zooms"].tolist())
        height, width = arrays["image_size"].tolist()
        maps: tuple[Any, ...] = tuple(arrays[f"map{i}"] for i in range(len(zooms)))
        return FeatureMaps(maps, zooms, (height, width))

    def proposals(self, image_id: str, path: Path) -> Boxes:
        """Proposals ``(R, 4)`` float32 of the image at ``path``, from the cache or computed and stored."""
        if self.precomputed is not None:
            return self.precomputed[image_id]

        def compute(image: NDArray[np.uint8]) -> Arrays:
            return {"boxes": as_boxes(self.propose(image))}

        file = self.proposals_directory / _file_name(image_id)
        return as_boxes(_get(file, path, self.proposal_settings, compute, ("boxes",))["boxes"])

    def is_complete(self, image_id: str, mirrored: bool = False) -> bool:
        """Whether all files of an image, or of its mirror image, are there (not whether they are sound)."""
        name = _file_name(image_id)
        if self.precomputed is not None:
            proposed = image_id in self.precomputed
        else:
            proposed = (self.proposals_directory / name).exists()
        directory = self.mirrored_maps_directory if mirrored else self.maps_directory
        return proposed and (directory / name).exists()

    def _map_settings(self, mirrored: bool) -> Mapping[str, object]:
        backbone = self.encoder.backbone
        return {
            **({"mirrored": True} if mirrored else {}),
            "backbone": backbone.name,
            "stage": backbone.stage,
            "digest": backbone.digest,
            "precision": backbone.precision,
            # torch has no name in caches, which are older than the choice
            **({} if backbone.runtime == "torch" else {"runtime": backbone.runtime}),
            "geometry": asdict(backbone.geometry),
            "short_sides": list(self.encoder.short_sides),
        }

    def _folder(self, kind: str, settings: Mapping[str, object]) -> Path:
        return self.directory / f"{kind}-{fingerprint({'format': _FORMAT, **settings})}"


@dataclass(frozen=True)
class CacheFolder:
    """What one folder of a cache holds: its settings, and how many images in how many bytes."""

    path: Path
    settings: Mapping[str, object]
    n_images: int
    n_bytes: int


def cache_folders(directory: Path) -> list[CacheFolder]:
    """The folders of maps and proposals of the cache under ``directory``; OSError when it is no folder."""
    found = []
    for folder in sorted(path for path in directory.iterdir() if path.is_dir()):
        sizes = [path.stat().st_size for path in folder.glob("[!.]*.safetensors")]
        if (folder / SETTINGS).exists():
            found.append(CacheFolder(folder, _settings(folder / SETTINGS), len(sizes), sum(sizes)))
    return found


def _settings(path: Path) -> dict[str, object]:
    """What a folder's description says; nothing, and a line, where it is damaged: the files are sound without it."""
    try:
        settings = json.loads(read_text(path, _MOST_BYTES))
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        _log.warning("%s: is damaged", path)
        return {}
    return settings


def _file_name(image_id: str) -> str:
    # an image id may hold a slash; a file name must not, and file systems end it at 255 bytes
    name = quote(image_id, safe="")
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}-{fingerprint({'image_id': image_id})}"
    return f"{name}.safetensors"


def _get(
    file: Path,
    image_path: Path,
    settings: Mapping[str, object],
    compute: Callable[[NDArray[np.uint8]], Arrays],
    needs: Collection[str],
) -> Arrays:
    def compute_from_file() -> Arrays:
        image = read_image(image_path)
        try:
            arrays = compute(image)
        except ValueError as error:  # such as an image too narrow for the network
            raise ValueError(f"{image_path}: {error}") from error
        description = file.with_name(SETTINGS)
        if not description.exists():
            write_json(description, settings)
        return arrays

    return cached_arrays(file, compute_from_file, image_path, needs)


def fill_proposals(
    cache: FeatureCache, annotations: Iterable[Annotation], progress: Progress = no_progress
) -> list[Annotation]:
    """Compute the proposals that the cache lacks; return the images that could be read, as `fill_cache` does."""
    readable = []
    for each in progress(list(annotations), "proposals"):
        try:
            cache.proposals(each.image_id, each.path)
            readable.append(each)
        except ValueError as error:
            _log.warning("%s; going on without it", error)
    if not readable:
        raise ValueError("none of the images could be read")
    return readable


def fill_cache(
    cache: FeatureCache,
    annotations: Iterable[Annotation],
    progress: Progress = no_progress,
    mirrored: bool = False,
    where: Where | None = None,
) -> list[Annotation]:
    """Compute what the cache lacks of the images, or of their mirror images; return those that could be read.

    The others are logged. Killed and started again, it goes on where it was. Several processes may fill one cache at a
    time; ``where`` is who does, if not this one. Raises ValueError when none could be read.
    """
    annotations = list(annotations)
    missing = [each for each in annotations if not cache.is_complete(each.image_id, mirrored)]
    unreadable: set[str] = set()
    # begin anywhere, or two processes would compute the same images side by side
    start = random.randrange(len(missing)) if missing else 0
    title = "features of mirror images" if mirrored else "features"
    missing = missing[start:] + missing[:start]
    where = where or Where(Threads(), lambda: cache)
    results = map_images(Filling(where.build, mirrored), missing, where.engine)
    for each, (_, error) in zip(progress(missing, title), results, strict=True):
        if error is not None:
            _log.warning("%s; going on without it", error.message if isinstance(error, Failure) else error)
            unreadable.add(each.image_id)
    readable = [each for each in annotations if each.image_id not in unreadable]
    if not readable:
        raise ValueError("none of the images could be read")
    return readable


@dataclass(frozen=True)
class Where:
    """Who fills a cache: an engine, whose workers each build it for themselves."""

    engine: Engine
    build: Callable[[], FeatureCache]


@dataclass(frozen=True)
class Filling:
    """Makes what computes the features that a cache lacks of an image, and tells why it cannot, if so."""

    build: Callable[[], FeatureCache]
    mirrored: bool

    def __call__(self) -> Callable[[Annotation], str | None]:
        """Build the cache."""
        cache = self.build()

        def fill(annotation: Annotation) -> str | None:
            image = annotation.image_id, annotation.path
            try:
                if not cache.is_complete(annotation.image_id, self.mirrored):
                    cache.proposals(*image)
                    (cache.mirrored_maps if self.mirrored else cache.maps)(*image)
            except ValueError as error:
                return str(error)
            except OSError as error:  # such as of a full disk
                raise EndRun(error) from error
            return None

        return fill
