"""Feature maps and proposals of pictures on disk, a file a picture, computed when missing.

Maps are kept in half precision (a 500 x 375 picture at one scale of 688 px and 320 channels: 1.6 MB). They lie in a
folder named by a fingerprint of everything that changes their values, so that a changed setting never reads old
files. Each file carries a checksum; a damaged file is reported, computed again and replaced.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, as_boxes
from detector.features.encoder import FeatureMaps, RegionEncoder
from detector.files import Arrays, fingerprint, read_arrays, write_arrays
from detector.image import read_image

_FORMAT = 1
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureCache:
    """Feature maps and proposals of pictures under ``directory``.

    ``propose`` maps an image to its boxes and ``proposal_settings`` names everything that changes them, as
    JSON-able values; what changes the maps is read off the ``encoder``. ``precomputed`` boxes by image id take the
    place of proposals.
    """

    directory: Path
    encoder: RegionEncoder
    propose: Callable[[NDArray[np.uint8]], Boxes]
    proposal_settings: Mapping[str, object]
    precomputed: Mapping[str, Boxes] | None = None

    @property
    def maps_directory(self) -> Path:
        """Folder of the feature maps of this encoder."""
        backbone = self.encoder.backbone
        settings = {
            "format": _FORMAT,
            "backbone": backbone.name,
            "stage": backbone.stage,
            "digest": backbone.digest,
            "precision": backbone.precision,
            "geometry": asdict(backbone.geometry),
            "short_sides": list(self.encoder.short_sides),
        }
        return self.directory / f"maps-{fingerprint(settings)}"

    @property
    def proposals_directory(self) -> Path:
        """Folder of the proposals of these settings."""
        settings = {"format": _FORMAT, **self.proposal_settings}
        return self.directory / f"proposals-{fingerprint(settings)}"

    def maps(self, image_id: str, path: Path) -> FeatureMaps:
        """Feature maps of the picture at ``path``, float16, from the cache or computed and stored."""

        def compute() -> Arrays:
            maps = self.encoder.maps(read_image(path))
            arrays: Arrays = {f"map{i}": array.astype(np.float16) for i, array in enumerate(maps.maps)}
            image_size = np.asarray(maps.image_size, np.int64)
            return {**arrays, "zooms": np.asarray(maps.zooms, np.float64), "image_size": image_size}

        arrays = _get(self.maps_directory / _file_name(image_id), compute)
        zooms = tuple(arrays["zooms"].tolist())
        height, width = arrays["image_size"].tolist()
        maps: tuple[Any, ...] = tuple(arrays[f"map{i}"] for i in range(len(zooms)))
        return FeatureMaps(maps, zooms, (height, width))

    def proposals(self, image_id: str, path: Path) -> Boxes:
        """Proposals ``(R, 4)`` float32 of the picture at ``path``, from the cache or computed and stored."""
        if self.precomputed is not None:
            return self.precomputed[image_id]

        def compute() -> Arrays:
            return {"boxes": as_boxes(self.propose(read_image(path)))}

        return as_boxes(_get(self.proposals_directory / _file_name(image_id), compute)["boxes"])

    def is_complete(self, image_id: str) -> bool:
        """Whether all files of a picture are there (not whether they are sound)."""
        name = _file_name(image_id)
        proposed = self.precomputed is not None or (self.proposals_directory / name).exists()
        return proposed and (self.maps_directory / name).exists()


def _file_name(image_id: str) -> str:
    # an image id may hold a slash; a file name must not
    return f"{quote(image_id, safe='')}.safetensors"


def _get(path: Path, compute: Callable[[], Arrays]) -> Arrays:
    try:
        return read_arrays(path)[0]
    except FileNotFoundError:
        pass
    except ValueError as error:
        _log.warning("%s; computing it again", error)
    arrays = compute()
    write_arrays(path, arrays, {})
    return arrays
