"""What boxes should become, what it costs that they are not, and which of them are learned from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from detector.training.end_to_end.region_network import box_losses, hardest
from detector.training.sampling import LabeledBoxes, draw_boxes
from detector.training.training_set import TrainingSet


def test_losses_in_class_and_place_by_hand() -> None:
    # the first box is of class 1, the second background, the third of class 0
    scores = torch.tensor([[0.0, np.log(2.0), 0.0], [0.0, 0.0, np.log(6.0)], [0.0, 0.0, 0.0]], dtype=torch.float32)
    deltas = torch.full((3, 2, 4), 100.0)
    deltas[0, 1] = torch.tensor([0.0, 0.5, -1.0, 3.0])
    deltas[2, 0] = torch.tensor([1.0, 1.0, 1.0, 1.0])
    targets = torch.zeros(3, 4)
    targets[2] = 1.0
    of_class, of_place = box_losses(scores, deltas, torch.tensor([1, 2, 0]), targets)
    # -log(2 / 4), -log(6 / 8), -log(1 / 3)
    assert of_class.tolist() == pytest.approx([np.log(2), np.log(4 / 3), np.log(3)])
    # 0 + .5^2 / 2 + (1 - 1/2) + (3 - 1/2); background is never out of place
    assert of_place.tolist() == pytest.approx([0.125 + 0.5 + 2.5, 0, 0])


def test_losses_of_background_alone_and_of_no_boxes() -> None:
    for n in (2, 0):
        of_class, of_place = box_losses(torch.zeros(n, 3), torch.ones(n, 2, 4), torch.full((n,), 2), torch.zeros(n, 4))
        assert of_class.tolist() == pytest.approx([np.log(3)] * n)
        assert of_place.tolist() == [0] * n


def test_the_hardest_are_taken_but_of_near_duplicates_one() -> None:
    # the second overlaps the first by 0.8, and is the harder of them; the fourth is the easiest
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [20, 0, 30, 10], [40, 0, 50, 10]], np.float32)
    losses = np.array([2, 3, 1, 0.5], np.float32)
    assert hardest(boxes, losses, 2).tolist() == [1, 2]
    assert hardest(boxes, losses, 9).tolist() == [1, 2, 3]
    assert hardest(boxes[:0], losses[:0], 9).tolist() == []


def test_boxes_of_a_mirror_image() -> None:
    boxes = np.array([[10, 5, 30, 25]], np.float32)
    found = LabeledBoxes(boxes, np.array([1]), np.array([[2, 3, 4, 5]], np.float32)).mirrored(100)
    assert found.boxes.tolist() == [[70, 5, 90, 25]]
    assert (found.labels.tolist(), found.deltas.tolist()) == ([1], [[-2, 3, 4, 5]])


class _OneImage:
    """An image with an object of class 2 and boxes whose IoU with it are 1, .6, .25 and 0."""

    n_classes = 3
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 5, 5], [50, 50, 60, 60]], np.float32)

    @property
    def annotations(self) -> list[_OneImage]:
        return [self]

    labels = np.array([2])

    def labeled_boxes(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.boxes, np.array([[1], [0.6], [0.25], [0]], np.float32)


def test_targets_are_the_deltas_to_the_object_in_units_of_their_spread() -> None:
    image = _OneImage()
    found = draw_boxes(image, 0, 4, 0.5, 0.5, np.random.default_rng(0))  # type: ignore[arg-type]
    order = np.argsort(-found.boxes[:, 3] * (found.boxes[:, 0] == 0))
    assert sorted(found.labels.tolist()) == [2, 2, 3, 3]
    assert found.boxes[order][:2].tolist() == [[0, 0, 10, 10], [0, 0, 10, 6]]
    # from center (5, 3) to (5, 5): 2 / 6 of its height, in units of .1; log(10 / 6) in units of .2
    expected = [[0, 0, 0, 0], [0, 2 / 6 / 0.1, 0, np.log(10 / 6) / 0.2]]
    np.testing.assert_allclose(found.deltas[order][:2], expected, rtol=1e-5)
    assert not found.deltas[found.labels == 3].any()


def test_few_candidates_keep_their_share_of_objects(images: TrainingSet) -> None:
    random = np.random.default_rng(0)
    found = draw_boxes(images, 0, 20, 0.25, 0.5, random)
    assert len(found.labels) <= 20
    assert 0 < (found.labels < 3).sum() <= 5
    again = draw_boxes(replace(images), 0, 20, 0.25, 0.5, np.random.default_rng(0))
    assert np.array_equal(again.boxes, found.boxes)
