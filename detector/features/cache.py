"""Cache feature maps and proposals on disk, one file per image; compute missing ones.

Maps are stored in half precision (a 500 x 375 image at one scale of 688 px and 320 channels: 1.6 MB), in a folder named
by a fingerprint of everything that changes their values; settings.json in it lists that. So a changed setting never
reads old files. Each file carries a checksum and that of its image; a damaged file, or one of another image, is
reported, computed again and replaced.
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
from detector.datasets.tiles import crop
from detector.features.encoder import Encoder, FeatureMaps
from detector.images.files import read_image
from detector.parallel.map_images import EndRun, Engine, Failure, Threads, map_images
from detector.runtime.array_files import Arrays, cached_arrays
from detector.runtime.files import fingerprint, read_text, write_json
from detector.runtime.progress import Progress, no_progress
from detector.tiles import Window, visible

_FORMAT = 1
_MIN_VISIBLE = 0.5  # of precomputed boxes, in a tile
SETTINGS = "settings.json"
_MAX_NAME = 160
_MAX_BYTES = 1_000_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureCache:
    """Feature maps and proposals of images and their tiles under ``directory``.

    encoder: computes the maps; it also identifies them.
    propose: image to boxes. proposal_settings: JSON-able values, everything that changes the boxes.
    precomputed: boxes by image id, instead of proposals.
    propose_in_tile: tile to boxes, by default ``propose``.
    """

    directory: Path
    encoder: Encoder
    propose: Callable[[NDArray[np.uint8]], Boxes]
    proposal_settings: Mapping[str, object]
    precomputed: Mapping[str, Boxes] | None = None
    propose_in_tile: Callable[[NDArray[np.uint8]], Boxes] | None = None

    @property
    def maps_directory(self) -> Path:
        """Folder of the feature maps of this encoder."""
        return self._folder("maps", self._map_settings(mirrored=False))

    @property
    def mirrored_maps_directory(self) -> Path:
        """Folder of the feature maps of mirrored images."""
        return self._folder("maps", self._map_settings(mirrored=True))

    @property
    def proposals_directory(self) -> Path:
        """Folder of the proposals of these settings."""
        return self._folder("proposals", self.proposal_settings)

    def maps(self, image_id: str, path: Path, window: Window | None = None) -> FeatureMaps:
        """Return the float16 feature maps of the image at ``path``, or of a tile; compute and store missing ones."""
        return self._maps(image_id, path, window, mirrored=False)

    def mirrored_maps(self, image_id: str, path: Path, window: Window | None = None) -> FeatureMaps:
        """Return the feature maps of the mirrored image or tile; see `maps`."""
        return self._maps(image_id, path, window, mirrored=True)

    def _maps(self, image_id: str, path: Path, window: Window | None, mirrored: bool) -> FeatureMaps:
        def compute(image: NDArray[np.uint8]) -> Arrays:
            maps = self.encoder.maps(image[:, ::-1] if mirrored else image)
            arrays: Arrays = {f"map{i}": array.astype(np.float16) for i, array in enumerate(maps.maps)}
            image_size = np.asarray(maps.image_size, np.int64)
            return {**arrays, "zooms": np.asarray(maps.zooms, np.float64), "image_size": image_size}

        directory = self.mirrored_maps_directory if mirrored else self.maps_directory
        needs = ("zooms", "image_size", *(f"map{i}" for i in range(len(self.encoder.short_sides))))
        file = directory / _file_name(image_id, window)
        arrays = _get(file, path, window, self._map_settings(mirrored), compute, needs)
        zooms = tuple(arrays["zooms"].tolist())
        height, width = arrays["image_size"].tolist()
        maps: tuple[Any, ...] = tuple(arrays[f"map{i}"] for i in range(len(zooms)))
        return FeatureMaps(maps, zooms, (height, width))

    def proposals(self, image_id: str, path: Path, window: Window | None = None) -> Boxes:
        """Return the proposals ``(R, 4)`` of the image at ``path``, or of a tile; compute and store missing ones.

        Of precomputed boxes, a tile has the parts of those that it shows by half.
        """
        if self.precomputed is not None:
            if window is None:
                return self.precomputed[image_id]
            inside, fractions = visible(self.precomputed[image_id], window)
            return inside[fractions >= _MIN_VISIBLE]
        propose = self.propose if window is None else self.propose_in_tile or self.propose

        def compute(image: NDArray[np.uint8]) -> Arrays:
            return {"boxes": as_boxes(propose(image))}

        file = self.proposals_directory / _file_name(image_id, window)
        return as_boxes(_get(file, path, window, self.proposal_settings, compute, ("boxes",))["boxes"])

    def is_complete(self, image_id: str, mirrored: bool = False, window: Window | None = None) -> bool:
        """Return whether all files of an image or tile, or of its mirrored one, exist; they may be damaged."""
        name = _file_name(image_id, window)
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
            "runtime": backbone.runtime,
            "geometry": asdict(backbone.geometry),
            "short_sides": list(self.encoder.short_sides),
        }

    def _folder(self, kind: str, settings: Mapping[str, object]) -> Path:
        return self.directory / f"{kind}-{fingerprint({'format': _FORMAT, **settings})}"


@dataclass(frozen=True)
class CacheFolder:
    """Contents of one folder of a cache: settings, number of images, size in bytes."""

    path: Path
    settings: Mapping[str, object]
    n_images: int
    n_bytes: int


def cache_folders(directory: Path) -> list[CacheFolder]:
    """Return the folders of maps and proposals of the cache under ``directory``; OSError for no folder."""
    found = []
    for folder in sorted(path for path in directory.iterdir() if path.is_dir()):
        sizes = [path.stat().st_size for path in folder.glob("[!.]*.safetensors")]
        if (folder / SETTINGS).exists():
            found.append(CacheFolder(folder, _settings(folder / SETTINGS), len(sizes), sum(sizes)))
    return found


def _settings(path: Path) -> dict[str, object]:
    """Return the settings of a folder; empty, with a warning, where they are damaged: the files are valid without."""
    try:
        settings = json.loads(read_text(path, _MAX_BYTES))
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        _log.warning("%s: is damaged", path)
        return {}
    return settings


def _file_name(image_id: str, window: Window | None = None) -> str:
    # an image id may contain a slash, a file name must not, and file systems limit it to 255 bytes
    name = quote(image_id, safe="")
    if len(name) > _MAX_NAME:
        name = f"{name[:_MAX_NAME]}-{fingerprint({'image_id': image_id})}"
    # no image id has an @ after quoting
    tile = "" if window is None else f"@{'_'.join(map(str, window))}"
    return f"{name}{tile}.safetensors"


def _get(
    file: Path,
    image_path: Path,
    window: Window | None,
    settings: Mapping[str, object],
    compute: Callable[[NDArray[np.uint8]], Arrays],
    needs: Collection[str],
) -> Arrays:
    def compute_from_file() -> Arrays:
        image = read_image(image_path)
        try:
            arrays = compute(crop(image, window))
        except ValueError as error:  # for example an image too narrow for the network
            raise ValueError(f"{image_path}: {error}") from error
        description = file.with_name(SETTINGS)
        if not description.exists():
            write_json(description, settings)
        return arrays

    return cached_arrays(file, compute_from_file, image_path, needs)


def fill_proposals(
    cache: FeatureCache, annotations: Iterable[Annotation], progress: Progress = no_progress
) -> list[Annotation]:
    """Compute the proposals that are missing in the cache; return the readable images, like `fill_cache`."""
    readable = []
    for each in progress(list(annotations), "proposals"):
        try:
            cache.proposals(each.image_id, each.path, each.window)
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
    workers: CacheWorkers | None = None,
) -> list[Annotation]:
    """Compute the features of images that are missing in the cache; return the readable images.

    Unreadable images are logged. A killed call continues where it was. Several processes may fill one cache at a time.
    mirrored: compute the maps of the mirrored images. workers: they compute instead of this process.
    Raises ValueError when no image is readable.
    """
    annotations = list(annotations)
    missing = [each for each in annotations if not cache.is_complete(each.image_id, mirrored, each.window)]
    unreadable: set[str] = set()
    # start at a random image, or two processes would compute the same images side by side
    start = random.randrange(len(missing)) if missing else 0
    title = "features of mirror images" if mirrored else "features"
    missing = missing[start:] + missing[:start]
    workers = workers or CacheWorkers(Threads(), lambda: cache)
    results = map_images(_FillFactory(workers.build, mirrored), missing, workers.engine)
    for each, (_, error) in zip(progress(missing, title), results, strict=True):
        if error is not None and each.image_id not in unreadable:  # a tile fails like its image
            _log.warning("%s; going on without it", error.message if isinstance(error, Failure) else error)
            unreadable.add(each.image_id)
    readable = [each for each in annotations if each.image_id not in unreadable]
    if not readable:
        raise ValueError("none of the images could be read")
    return readable


@dataclass(frozen=True)
class CacheWorkers:
    """Engine whose workers each open the cache with ``build``."""

    engine: Engine
    build: Callable[[], FeatureCache]


@dataclass(frozen=True)
class _FillFactory:
    """Factory of a worker that computes the missing features of an image and returns an error message, if any."""

    build: Callable[[], FeatureCache]
    mirrored: bool

    def __call__(self) -> Callable[[Annotation], str | None]:
        """Open the cache and return the function of one image."""
        cache = self.build()

        def fill(annotation: Annotation) -> str | None:
            image = annotation.image_id, annotation.path, annotation.window
            try:
                if not cache.is_complete(annotation.image_id, self.mirrored, annotation.window):
                    cache.proposals(*image)
                    (cache.mirrored_maps if self.mirrored else cache.maps)(*image)
            except ValueError as error:
                return str(error)
            except OSError as error:  # for example a full disk
                raise EndRun(error) from error
            return None

        return fill
