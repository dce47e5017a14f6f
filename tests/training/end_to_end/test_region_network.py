"""Region network: pooling of windows, centering, losses of boxes, hard examples, sampled boxes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from detector.features.pyramid_layer import SpatialPyramidPooling
from detector.training.end_to_end.region_network import RegionNetwork, box_losses, hardest
from detector.training.end_to_end.training import refined_boxes
from detector.training.sampling import LabeledBoxes, sample_labeled_boxes
from detector.training.training_set import TrainingSet

CELLS = np.array([[0, 0, 9, 7], [2, 1, 3, 2], [3, 0, 9, 5], [0, 3, 7, 7]])


def pooled(maps: torch.Tensor, cells: np.ndarray, levels: tuple[int, ...]) -> torch.Tensor:
    """Pool windows of maps ``(1, C, h, w)``."""
    network = RegionNetwork(nn.Identity(), levels, maps.shape[1], 4, 2, seed=0)
    return network.pool(maps, network.largest(maps, cells))


def test_windows_are_pooled_like_whole_maps() -> None:
    levels = (6, 3, 2, 1)
    random = torch.Generator().manual_seed(0)
    maps = torch.randn(1, 3, 7, 9, dtype=torch.float64, generator=random).requires_grad_()
    layer = SpatialPyramidPooling(levels)
    expected = torch.cat([layer(maps[:, :, y1:y2, x1:x2]) for x1, y1, x2, y2 in CELLS.tolist()])
    found = pooled(maps, CELLS, levels)
    assert torch.equal(found, expected)
    directions = torch.randn(expected.shape, dtype=torch.float64, generator=random)
    (ours,) = torch.autograd.grad((found * directions).sum(), maps)
    (slow,) = torch.autograd.grad((expected * directions).sum(), maps)
    torch.testing.assert_close(ours, slow)
    assert torch.autograd.gradcheck(lambda each: pooled(each, CELLS, (3, 2)), maps)
    assert pooled(maps, CELLS[:0], levels).shape == (0, 150)


def test_the_first_of_equal_cells_gets_the_whole_gradient() -> None:
    maps = torch.zeros(1, 1, 2, 4, requires_grad=True)
    pooled(maps, np.array([[0, 0, 4, 2]]), (2, 1)).sum().backward()
    # the bins begin at columns 0 and 2 of rows 0 and 1, and that of level 1 at the first cell
    assert maps.grad is not None
    assert maps.grad.tolist() == [[[[2, 0, 1, 0], [1, 0, 1, 0]]]]


def test_layers_for_uncentered_features_predict_like_those_of_centered_ones() -> None:
    network = RegionNetwork(nn.Identity(), (2, 1), 4, 8, 3, seed=0)
    features = 3 + 2 * torch.randn(30, 20, generator=torch.Generator().manual_seed(0))
    network.center(features)
    centered = (features - network.get_buffer("mean")) * network.get_buffer("scale")
    assert float(centered.mean(0).abs().max()) < 1e-5
    assert float(centered.norm(dim=1).mean()) == pytest.approx(20**0.5, rel=1e-4)
    scores, deltas = network.predict(features)
    assert (scores.shape, deltas.shape) == ((30, 4), (30, 3, 4))
    plain_scores, plain_deltas = predicted_by_layers(network.layers(), features)
    torch.testing.assert_close(plain_scores, scores)
    torch.testing.assert_close(plain_deltas, deltas.flatten(1))
    dropped, _ = network.predict(features, 0.5, torch.Generator().manual_seed(1))
    again, _ = network.predict(features, 0.5, torch.Generator().manual_seed(1))
    assert torch.equal(dropped, again)
    assert not torch.allclose(dropped, scores)


def predicted_by_layers(layers: dict[str, torch.Tensor], features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    values = features
    for name in ("fc6", "fc7"):
        values = torch.relu(values @ layers[f"{name}.weight"].T + layers[f"{name}.bias"])
    scores, deltas = (
        values @ layers[f"{name}.weight"].T + layers[f"{name}.bias"] for name in ("classifier", "regressor")
    )
    return scores, deltas


def test_classification_and_regression_losses_by_hand() -> None:
    # the first box is of class 1, the second background, the third of class 0
    scores = torch.tensor([[0.0, np.log(2.0), 0.0], [0.0, 0.0, np.log(6.0)], [0.0, 0.0, 0.0]], dtype=torch.float32)
    deltas = torch.full((3, 2, 4), 100.0)
    deltas[0, 1] = torch.tensor([0.0, 0.5, -1.0, 3.0])
    deltas[2, 0] = torch.tensor([1.0, 1.0, 1.0, 1.0])
    targets = torch.zeros(3, 4)
    targets[2] = 1.0
    classification, regression = box_losses(scores, deltas, torch.tensor([1, 2, 0]), targets)
    # -log(2 / 4), -log(6 / 8), -log(1 / 3)
    assert classification.tolist() == pytest.approx([np.log(2), np.log(4 / 3), np.log(3)])
    # 0 + .5^2 / 2 + (1 - 1/2) + (3 - 1/2); background has no regression loss
    assert regression.tolist() == pytest.approx([0.125 + 0.5 + 2.5, 0, 0])


def test_losses_of_background_alone_and_of_no_boxes() -> None:
    for n in (2, 0):
        classification, regression = box_losses(
            torch.zeros(n, 3), torch.ones(n, 2, 4), torch.full((n,), 2), torch.zeros(n, 4)
        )
        assert classification.tolist() == pytest.approx([np.log(3)] * n)
        assert regression.tolist() == [0] * n


def test_of_near_duplicates_only_the_hardest_is_taken() -> None:
    # the second overlaps the first by 0.8, and is the harder of them; the fourth is the easiest
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [20, 0, 30, 10], [40, 0, 50, 10]], np.float32)
    losses = np.array([2, 3, 1, 0.5], np.float32)
    assert hardest(boxes, losses, 2).tolist() == [1, 2]
    assert hardest(boxes, losses, 9).tolist() == [1, 2, 3]
    assert hardest(boxes[:0], losses[:0], 9).tolist() == []


def test_boxes_of_a_mirror_image() -> None:
    boxes = np.array([[10, 5, 30, 25]], np.float32)
    # a tenth of its width to the right, and half of its height down
    objects = np.array([[12, 15, 32, 35]], np.float32)
    found = LabeledBoxes(boxes, np.array([1]), objects).mirrored(100)
    assert (found.boxes.tolist(), found.objects.tolist()) == ([[70, 5, 90, 25]], [[68, 15, 88, 35]])
    assert found.labels.tolist() == [1]
    np.testing.assert_allclose(found.deltas, [[-0.1 / 0.1, 0.5 / 0.1, 0, 0]], atol=1e-5)


def test_boxes_of_objects_are_refined_by_the_deltas_of_their_class() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60], [90, 0, 100, 10]], np.float32)
    objects = np.array([[5, 0, 15, 10], [30, 20, 50, 40], [50, 50, 60, 60], [92, 0, 100, 10]], np.float32)
    labels = np.array([1, 0, 2, 1])
    deltas = torch.zeros(3, 2, 4)
    # in tenths of the width: the last one 3 px to the right, where the image ends; of the first, in both classes
    deltas[0, 1, 0], deltas[2, 1, 0], deltas[2, 0, 0] = 3.0, 5.0, 9.0
    found = refined_boxes(LabeledBoxes(boxes, labels, objects), np.array([3, 2, 0]), deltas, (100, 100), 0.6)
    # background stays out; the second row is not asked for
    assert found.boxes.tolist() == [[93, 0, 100, 10], [5, 0, 15, 10]]
    assert (found.labels.tolist(), found.objects.tolist()) == ([1, 1], [[92, 0, 100, 10], [5, 0, 15, 10]])
    # without deltas, the first box has an IoU of a third with its object
    few = refined_boxes(LabeledBoxes(boxes, labels, objects), np.array([3, 0]), torch.zeros(2, 2, 4), (100, 100), 0.6)
    assert few.boxes.tolist() == [[90, 0, 100, 10]]


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
    found = sample_labeled_boxes(image, 0, 4, 0.5, 0.5, np.random.default_rng(0))  # type: ignore[arg-type]
    order = np.argsort(-found.boxes[:, 3] * (found.boxes[:, 0] == 0))
    assert sorted(found.labels.tolist()) == [2, 2, 3, 3]
    assert found.boxes[order][:2].tolist() == [[0, 0, 10, 10], [0, 0, 10, 6]]
    # from center (5, 3) to (5, 5): 2 / 6 of its height, in units of .1; log(10 / 6) in units of .2
    expected = [[0, 0, 0, 0], [0, 2 / 6 / 0.1, 0, np.log(10 / 6) / 0.2]]
    np.testing.assert_allclose(found.deltas[order][:2], expected, rtol=1e-5)
    assert not found.deltas[found.labels == 3].any()


def test_objects_are_at_most_the_foreground_fraction(images: TrainingSet) -> None:
    random = np.random.default_rng(0)
    found = sample_labeled_boxes(images, 0, 20, 0.25, 0.5, random)
    assert len(found.labels) <= 20
    assert 0 < (found.labels < 3).sum() <= 5
    again = sample_labeled_boxes(replace(images), 0, 20, 0.25, 0.5, np.random.default_rng(0))
    assert np.array_equal(again.boxes, found.boxes)
