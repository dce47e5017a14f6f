"""A small dataset of drawn shapes, for tests of training and evaluation without any download."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.datasets.dataset import Dataset
from detector.datasets.loading import load_voc
from detector.datasets.writing import voc_xml

SYNTHETIC_CLASSES = ("circle", "square", "triangle")

# RGB around which the objects of each class vary; color, shape and texture all distinguish the classes
_COLORS = np.array([(200, 60, 50), (50, 90, 200), (60, 170, 70)], np.float64)


def write_synthetic_voc(
    root: Path | str,
    n_images: int,
    seed: int = 0,
    split: str = "train",
    suffixes: Sequence[str] = (".jpg", ".jpg", ".jpg", ".png"),
) -> Dataset:
    """Draw n_images into a VOC folder under root and return them as `detector.datasets.loading.load_voc` reads them.

    Images are 160 to 260 pixels a side, in files with ``suffixes`` in turn. On a speckled background
    lie 2 to 4 ringed circles, checkered squares and striped triangles of 40 to 90 pixels that do not overlap,
    or one where no room is left; one in ten is flagged difficult. The same arguments draw the same images; a
    second split in the same folder needs another name, and another seed to differ.
    """
    root = Path(root)
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    image_ids = [f"{split}_{number:04d}" for number in range(n_images)]
    for number, image_id in enumerate(image_ids):
        image, boxes, labels = _draw_image(generator)
        difficult = generator.random(len(boxes)) < 0.1
        path = root / "JPEGImages" / f"{image_id}{suffixes[number % len(suffixes)]}"
        if not cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
            raise OSError(f"{path}: could not be written")
        names = [SYNTHETIC_CLASSES[label] for label in labels]
        xml = voc_xml(path.name, image.shape[:2], names, boxes, difficult.tolist())
        (root / "Annotations" / f"{image_id}.xml").write_text(xml, encoding="utf-8")
    lines = "".join(f"{image_id}\n" for image_id in image_ids)
    (root / "ImageSets" / "Main" / f"{split}.txt").write_text(lines, encoding="utf-8")
    return load_voc(root, split, SYNTHETIC_CLASSES)


def _draw_image(
    generator: np.random.Generator,
) -> tuple[NDArray[np.uint8], list[NDArray[np.int64]], list[int]]:
    height, width = generator.integers(160, 261, 2)
    coarse = generator.normal(generator.uniform(110, 190), 12, (height // 8, width // 8, 3)).astype(np.float32)
    canvas = cv2.resize(coarse, (int(width), int(height)), interpolation=cv2.INTER_CUBIC)
    canvas = canvas + generator.normal(0, 4, (height, width, 1))
    boxes = _place(generator, int(height), int(width), int(generator.integers(2, 5)))
    labels = [int(generator.integers(len(SYNTHETIC_CLASSES))) for _ in boxes]
    for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
        texture, mask = _draw_object(generator, label, int(x2 - x1))
        canvas[y1:y2, x1:x2][mask] = texture[mask]
    return np.clip(canvas, 0, 255).astype(np.uint8), boxes, labels


def _place(generator: np.random.Generator, height: int, width: int, n_objects: int) -> list[NDArray[np.int64]]:
    """At most n_objects square boxes that do not touch, at least one."""
    boxes: list[NDArray[np.int64]] = []
    for _ in range(200):
        if len(boxes) == n_objects:
            break
        side = generator.integers(40, 91)
        x1, y1 = generator.integers(0, width - side + 1), generator.integers(0, height - side + 1)
        box = np.array([x1, y1, x1 + side, y1 + side])
        if all((box[:2] > other[2:]).any() or (box[2:] < other[:2]).any() for other in boxes):
            boxes.append(box)
    return boxes


def _draw_object(
    generator: np.random.Generator, label: int, side: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Texture (side, side, 3) in RGB and the mask (side, side) of the object's shape, which fills its box."""
    y, x = np.mgrid[:side, :side] + 0.5 - side / 2
    period = generator.uniform(8, 14)
    if label == 0:
        pattern, mask = np.hypot(x, y) % period < period / 2, np.hypot(x, y) <= side / 2
    elif label == 1:
        pattern, mask = (x // period + y // period) % 2 == 0, np.ones((side, side), np.bool_)
    else:
        pattern, mask = (x + y) % period < period / 2, np.abs(x) <= (y + side / 2) / 2
    color = _COLORS[label] + generator.normal(0, 15, 3)
    texture = color * np.where(pattern, 1.0, 0.55)[:, :, None] + generator.normal(0, 4, (side, side, 1))
    return texture, mask
