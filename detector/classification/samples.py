"""Training samples: resized once and cached on disk, then randomly cropped, flipped and resized."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.classification.views import Image, crop_box, flipped, resize_squeezed
from detector.config.classifier import ImageConfig
from detector.datasets.image_classes import LabeledImages
from detector.images.files import read_image
from detector.images.resizing import check_image
from detector.runtime.array_files import Arrays, cached_arrays
from detector.runtime.files import digest, file_state, fingerprint
from detector.runtime.progress import Progress, no_progress

_log = logging.getLogger(__name__)


def samples_digest(samples: LabeledImages) -> str:
    """Return the SHA-256, in hexadecimal, of the training data; images count by path, time and size."""

    def parts() -> Iterator[bytes]:
        yield repr((samples.class_names, samples.exclusive)).encode()
        for path in samples.paths:
            yield repr(file_state(path)).encode()
        yield samples.targets.tobytes()
        yield b"" if samples.boxes is None else samples.boxes.tobytes()

    return digest(parts())


@dataclass(frozen=True)
class ResizedImages:
    """The images of samples by index, ``(h, w, 3)`` uint8 RGB with a shorter side of ``short_side`` pixels.

    With a ``directory``, each is cached in a file of its own: 0.25 MB at 256 pixels. The file is found by the path,
    time and size of its image; a damaged one is logged, computed again and replaced.
    """

    samples: LabeledImages
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

    def fill(self, progress: Progress = no_progress) -> list[int]:
        """Resize the samples that are not cached; return the indices of all that can be read. Others are logged."""
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
        return resize_squeezed(image if box is None else crop_box(image, box), self.short_side)

    def _key(self, index: int) -> str:
        box = self._box(index)
        state = file_state(self.samples.paths[index])
        return fingerprint({"image": state, "box": None if box is None else box.tolist()})


def epoch_order(n_samples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the indices ``(n_samples,)`` of an epoch in random order."""
    return np.random.default_rng((seed, epoch, 0)).permutation(n_samples)


def epoch_size(config: ImageConfig, seed: int, epoch: int) -> int:
    """Return the side in pixels of training images in an epoch, alternating or random (paper, section 3.1.3)."""
    if config.size_rule == "alternate":
        return config.sizes[epoch % len(config.sizes)]
    smallest, largest = config.sizes
    return int(np.random.default_rng((seed, epoch, 1)).integers(smallest, largest + 1))


def training_image(image: Image, crop: int, size: int, seed: int, epoch: int, index: int) -> Image:
    """Return a random crop of a resized image, randomly flipped, ``(size, size, 3)`` uint8.

    The crop depends on seed, epoch and the index of the sample only, and not on the size.
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
    """Return the seed of the random numbers inside the network in a batch."""
    return int(np.random.SeedSequence((seed, epoch, 3, batch)).generate_state(1)[0])
