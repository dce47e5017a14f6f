"""Samples as a network is trained on them: resized once and kept on disk, then cropped, flipped and resized."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.classification.views import Image, cut, flipped, resize_squeezed
from detector.config.classifier import ImageConfig
from detector.images.files import read_image
from detector.images.resizing import check_image
from detector.runtime.array_cache import cached_arrays
from detector.runtime.files import Arrays, digest, file_state, fingerprint
from detector.runtime.progress import Progress, without_progress

_log = logging.getLogger(__name__)


class Samples(Protocol):
    """Images or parts of images with their classes, such as `detector.datasets.image_classes.LabeledImages`.

    ``targets`` ``(N, K)`` int8 are 1, -1, or 0 where a class is ignored; ``exclusive``: a sample has exactly
    one class; ``boxes`` ``(N, 4)`` float32 are the parts, or None.
    """

    @property
    def paths(self) -> Sequence[Path]: ...
    @property
    def targets(self) -> NDArray[np.int8]: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def exclusive(self) -> bool: ...
    @property
    def boxes(self) -> NDArray[np.float32] | None: ...


def samples_digest(samples: Samples) -> str:
    """SHA-256, in hexadecimal, of all that a training learns from; of images path, time and size."""

    def parts() -> Iterator[bytes]:
        yield repr((samples.class_names, samples.exclusive)).encode()
        for path in samples.paths:
            yield repr(file_state(path)).encode()
        yield samples.targets.tobytes()
        yield b"" if samples.boxes is None else samples.boxes.tobytes()

    return digest(parts())


@dataclass(frozen=True)
class ResizedImages:
    """The images of samples, ``(h, w, 3)`` uint8 RGB with a shorter side of ``short_side`` pixels, by index.

    Each is kept in a file of its own under ``directory``, where there is one: 0.25 MB at 256 pixels. A file is known by
    the path, time and size of its image; one that is damaged is reported, computed again and replaced.
    """

    samples: Samples
    short_side: int
    directory: Path | None = None

    def __len__(self) -> int:
        return len(self.samples.paths)

    def __getitem__(self, index: int) -> Image:
        if self.directory is None:
            return self._read(index)

        def compute() -> Arrays:
            return {"image": self._read(index)}

        arrays = cached_arrays(self._file(self.directory, index), compute, needs=("image",))
        return check_image(arrays["image"].astype(np.uint8, copy=False))

    def fill(self, progress: Progress = without_progress) -> list[int]:
        """Make what is not kept yet; indices of the samples that could be read. The others are logged."""
        readable = []
        for index in progress(range(len(self)), "images"):
            try:
                if self.directory is None or not self._file(self.directory, index).exists():
                    self[index]
                readable.append(index)
            except ValueError as error:
                _log.warning("%s; going on without it", error)
        return readable

    def _file(self, directory: Path, index: int) -> Path:
        return directory / f"images-{self.short_side}" / f"{self._key(index)}.safetensors"

    def _box(self, index: int) -> NDArray[np.float32] | None:
        return None if self.samples.boxes is None else self.samples.boxes[index]

    def _read(self, index: int) -> Image:
        image, box = read_image(self.samples.paths[index]), self._box(index)
        return resize_squeezed(image if box is None else cut(image, box), self.short_side)

    def _key(self, index: int) -> str:
        box = self._box(index)
        place = None if box is None else box.tolist()
        return fingerprint({"picture": file_state(self.samples.paths[index]), "box": place})


def epoch_order(n_samples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Indices ``(n_samples,)`` of an epoch in their random order."""
    return np.random.default_rng((seed, epoch, 0)).permutation(n_samples)


def epoch_size(config: ImageConfig, seed: int, epoch: int) -> int:
    """Pixels of a training image's side in an epoch: sizes take turns or are drawn (paper, section 3.1.2)."""
    if config.size_rule == "alternate":
        return config.sizes[epoch % len(config.sizes)]
    least, greatest = config.sizes
    return int(np.random.default_rng((seed, epoch, 1)).integers(least, greatest + 1))


def training_image(image: Image, crop: int, size: int, seed: int, epoch: int, index: int) -> Image:
    """A random crop of a resized image, flipped or not, then resized to ``size``: ``(size, size, 3)`` uint8.

    What is cropped depends on seed, epoch and the sample's index alone, never on the size.
    """
    rng = np.random.default_rng((seed, epoch, 2, index))
    top, left = (int(rng.integers(side - crop + 1)) for side in image.shape[:2])
    cropped = image[top : top + crop, left : left + crop]
    if rng.random() < 0.5:
        cropped = flipped(cropped)
    if size == crop:
        return np.ascontiguousarray(cropped)
    return cv2.resize(np.ascontiguousarray(cropped), (size, size), interpolation=cv2.INTER_LINEAR)


def batch_seed(seed: int, epoch: int, batch: int) -> int:
    """Seed of what is random inside the network in a batch."""
    return int(np.random.SeedSequence((seed, epoch, 3, batch)).generate_state(1)[0])
