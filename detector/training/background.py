"""Background that ships: feature maps and proposals of photographs, as negatives for classes of one's own.

A few images of one subject show a detector few kinds of background, so that it finds its classes everywhere else. The
package holds quantized feature maps of photographs of common objects, from which boxes are mined like from any image.
`dev.background` makes them. They belong to one backbone; others have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, iou
from detector.features.encoder import Encoder, FeatureMaps
from detector.runtime.array_files import Arrays, read_arrays, read_metadata, write_arrays

BACKGROUNDS = files("detector") / "models"
_FORMAT = "spp-background 1"
_PATTERN = "background-*.safetensors"
_STEPS = 127
_SCORED_EVERY = 4
_SAME_OBJECT = 0.1
"""IoU with an object of a class being trained, from which on a box is no background of it."""
_ALSO_CALLED = {
    "aeroplane": {"airplane", "plane", "aircraft"},
    "bicycle": {"bike", "cyclist"},
    "bus": {"vehicle", "coach"},
    "car": {"vehicle", "truck", "van", "taxi", "auto"},
    "cow": {"cattle", "bull", "animal"},
    "diningtable": {"table"},
    "horse": {"animal", "pony"},
    "motorbike": {"motorcycle", "bike", "vehicle"},
    "person": {"human", "man", "woman", "people", "pedestrian", "player", "face", "head", "rider", "boy", "girl"},
    "pottedplant": {"plant", "flower", "tree", "leaf"},
    "sheep": {"animal", "lamb", "goat"},
    "sofa": {"couch", "chair"},
    "train": {"vehicle", "tram"},
    "tvmonitor": {"tv", "monitor", "screen", "television", "laptop", "computer"},
}


@dataclass(frozen=True, eq=False)
class BackgroundImage:
    """Feature map of a photograph, its proposals, and the objects that are in it.

    steps: ``(h, w, C)`` int8; times ``scale`` ``(C,)`` float32 it is the map.
    zoom: resized over original size. image_size: (H, W).
    boxes: ``(R, 4)`` float32. objects: ``(M, 4)`` float32. names: classes of the objects.
    """

    steps: NDArray[np.int8]
    scale: NDArray[np.float32]
    zoom: float
    image_size: tuple[int, int]
    boxes: Boxes
    objects: Boxes
    names: Sequence[str]

    @property
    def maps(self) -> FeatureMaps:
        """The feature map, float16, as a cache stores it."""
        return FeatureMaps(((self.steps * self.scale).astype(np.float16),), (self.zoom,), self.image_size)

    def background_of(self, class_names: Sequence[str]) -> NDArray[np.bool_]:
        """Return whether each box is background of each class, ``(R, K)``: it covers no object that may be of it."""
        overlaps = iou(self.boxes, self.objects) >= _SAME_OBJECT
        meant = np.array([[_may_be(other, name) for name in class_names] for other in self.names], bool)
        return ~(overlaps.astype(np.float32) @ meant.reshape(len(self.names), len(class_names)) > 0)


def _may_be(voc_name: str, class_name: str) -> bool:
    """Return whether a class may be another name for objects of VOC's class, or for a kind of them."""
    words = class_name.casefold().replace("-", " ").replace("_", " ").split()
    known = {voc_name, *_ALSO_CALLED.get(voc_name, ())}
    return any(word in known or word.removesuffix("s") in known for word in ("".join(words), *words))


@dataclass(frozen=True)
class Background:
    """Background of the K classes of a training.

    mined: images whose boxes are negatives. scored: others, on which the calibration sees false detections.
    """

    class_names: Sequence[str]
    mined: Sequence[BackgroundImage] = ()
    scored: Sequence[BackgroundImage] = ()

    @classmethod
    def of(cls, encoder: Encoder, class_names: Sequence[str]) -> Background:
        """Load the background of an encoder's backbone; every fourth image is not mined."""
        images = load_background(encoder)
        mined = [each for number, each in enumerate(images) if number % _SCORED_EVERY]
        return cls(class_names, mined, images[::_SCORED_EVERY])


def load_background(encoder: Encoder) -> list[BackgroundImage]:
    """Return the background of an encoder's backbone; empty where there is none for it."""
    for path in sorted(Path(str(BACKGROUNDS)).glob(_PATTERN)):
        if read_metadata(path).get("backbone") == encoder.backbone.digest:
            arrays, metadata = read_arrays(path)
            return [*_images(arrays, metadata["names"])]
    return []


def _images(arrays: Arrays, names: Iterable[Sequence[str]]) -> Iterator[BackgroundImage]:
    for number, own in enumerate(names):
        steps, scale, boxes, objects, shape = (
            arrays[f"{number}.{each}"] for each in ("steps", "scale", "boxes", "objects", "shape")
        )
        zoom, height, width = shape.tolist()
        size = int(height), int(width)
        yield BackgroundImage(
            steps.astype(np.int8),
            scale.astype(np.float32),
            zoom,
            size,
            boxes.astype(np.float32),
            objects.astype(np.float32),
            own,
        )


def save_background(path: Path, backbone_digest: str, images: Sequence[BackgroundImage]) -> None:
    """Write the background of a backbone; corners are rounded to pixels."""
    arrays: Arrays = {}
    for number, each in enumerate(images):
        shape = np.array([each.zoom, *each.image_size], np.float64)
        arrays |= {f"{number}.steps": each.steps, f"{number}.scale": each.scale, f"{number}.shape": shape}
        arrays |= {f"{number}.boxes": each.boxes.round().astype(np.int16)}
        arrays |= {f"{number}.objects": each.objects.round().astype(np.int16)}
    names = [list(each.names) for each in images]
    write_arrays(path, arrays, {"format": _FORMAT, "backbone": backbone_digest, "names": names})


def quantize(feature_map: NDArray[np.floating]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return a map ``(h, w, C)`` as int8 steps and the size ``(C,)`` float32 of a step of each channel."""
    scale = np.abs(feature_map).max((0, 1)).astype(np.float32) / _STEPS
    scale[scale == 0] = 1
    return np.round(feature_map / scale).astype(np.int8), scale
