"""The dataset of drawn shapes that tests train on."""

from pathlib import Path

import cv2
import numpy as np

from detector.datasets.loading import load_voc
from tests.synthetic import SYNTHETIC_CLASSES, write_synthetic_voc


def test_synthetic_boxes_fit_their_objects(tmp_path: Path) -> None:
    dataset = write_synthetic_voc(tmp_path, 12, seed=3)
    assert len(dataset) == 12
    assert dataset.class_names == SYNTHETIC_CLASSES
    assert {annotation.path.suffix for annotation in dataset} == {".jpg", ".png"}
    strongest = {"circle": 0, "square": 2, "triangle": 1}  # RGB channel
    sizes = set()
    for annotation in dataset:
        image = cv2.cvtColor(cv2.imread(str(annotation.path)), cv2.COLOR_BGR2RGB).astype(int)
        sizes.add(image.shape)
        assert 1 <= len(annotation.boxes) <= 4
        spread = image.max(axis=2) - image.min(axis=2)
        for (x1, y1, x2, y2), label in zip(annotation.boxes.astype(int), annotation.labels, strict=True):
            assert 0 <= x1 < x2 <= image.shape[1]
            assert 0 <= y1 < y2 <= image.shape[0]
            # Saturated pixels reach from edge to edge of the box, and their color is the class's.
            rows, columns = np.nonzero(spread[y1:y2, x1:x2] > 45)
            assert max(rows.min(), columns.min(), y2 - y1 - 1 - rows.max(), x2 - x1 - 1 - columns.max()) <= 4
            mean = image[y1:y2, x1:x2][rows, columns].mean(axis=0)
            assert mean.argmax() == strongest[SYNTHETIC_CLASSES[label]]
    assert len(sizes) > 6


def test_synthetic_set_depends_on_its_seed_alone(tmp_path: Path) -> None:
    first, again = (
        write_synthetic_voc(tmp_path / "a", 4, seed=5),
        write_synthetic_voc(tmp_path / "b", 4, seed=5),
    )
    other = write_synthetic_voc(tmp_path / "a", 4, seed=6, split="val")
    for one, two, three in zip(first, again, other, strict=True):
        assert one.path.read_bytes() == two.path.read_bytes() != three.path.read_bytes()
        np.testing.assert_array_equal(one.boxes, two.boxes)
        np.testing.assert_array_equal(one.difficult, two.difficult)
    assert len(load_voc(tmp_path / "a", "train", SYNTHETIC_CLASSES)) == 4
