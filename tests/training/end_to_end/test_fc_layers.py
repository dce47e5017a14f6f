"""Fully connected layers: their output, the boxes they are trained on, resumption, and ImageNet's layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from detector.config.detector import FineTuningConfig
from detector.heads.fully_connected import FullyConnected, Softmax
from detector.training.end_to_end import fc_layers
from detector.training.end_to_end.fc_layers import LayerTraining, imagenet_layers
from detector.training.sampling import sample_boxes
from detector.training.training_set import without_ignored
from tests.fakes import stops_after

Floats = NDArray[np.float32]


def layer(weights: list[list[float]], biases: list[float]) -> tuple[NDArray[np.float16], Floats]:
    return np.array(weights, np.float16), np.array(biases, np.float32)


def test_layers_are_applied_in_order_with_relu_after_each() -> None:
    fc6, fc7 = layer([[1, 0], [0, -1], [1, 1]], [0, 0, -1]), layer([[1, 2, 3]], [-4])
    layers = FullyConnected([fc6[0], fc7[0]], [fc6[1], fc7[1]])
    # (2, 1) -> relu(2, -1, 2) = (2, 0, 2) -> relu(2 + 6 - 4)
    assert layers(np.array([[2, 1], [0, 0]], np.float32)).tolist() == [[4], [0]]
    assert (layers.n_inputs, layers.n_features) == (2, 1)
    assert layers(np.zeros((0, 2), np.float32)).shape == (0, 1)
    with pytest.raises(ValueError, match=r"features must have shape \(_, 2\), but got \(1, 3\)"):
        layers(np.zeros((1, 3), np.float32))
    with pytest.raises(ValueError, match="follow each other"):
        FullyConnected([fc7[0], fc6[0]], [fc7[1], fc6[1]])


def test_a_row_does_not_depend_on_how_many_there_are() -> None:
    """A training that was killed computes some rows again, among others, and must go on to the same bits."""
    random = np.random.default_rng(0)
    weights = random.standard_normal((64, 3200)).astype(np.float16)
    layers = FullyConnected([weights], [np.zeros(64, np.float32)])
    features = random.standard_normal((128, 3200), dtype=np.float32)
    together = layers(features)
    for count in (1, 2, 3, 5, 31, 32, 33):
        np.testing.assert_array_equal(layers(features[:count]), together[:count])


def test_the_softmax_scores_by_log_odds() -> None:
    shares = np.array([[0.5, 0.3, 0.2], [0.01, 0.01, 0.98]])
    softmax = Softmax(np.eye(3, dtype=np.float32), np.full(3, 7, np.float32))
    scores = softmax.decision_function(np.log(shares).astype(np.float32))
    np.testing.assert_allclose(scores, np.log(shares / (1 - shares))[:, :2], rtol=1e-5, atol=1e-6)
    # certain to more digits than a probability has: still told apart, never infinite
    certain = softmax.decision_function(np.array([[50, 0, 0], [60, 0, 0], [5000, 0, 0]], np.float32))[:, 0]
    np.testing.assert_allclose(certain[:2], [50 - np.log(2), 60 - np.log(2)], rtol=1e-6)
    assert np.isfinite(certain).all()


def test_boxes_are_drawn_by_their_overlap() -> None:
    # IoU with two objects, of classes 4 and 2
    overlaps = np.array([[0.5, 0.1], [0.2, 0.9], [0.49, 0.0], [0.1, 0.0], [0.09, 0.0], [0.0, 0.0]], np.float32)
    random = np.random.default_rng(0)
    rows, labels = sample_boxes(overlaps, np.array([4, 2]), 6, 128, random)
    assert dict(zip(rows.tolist(), labels.tolist(), strict=True)) == {0: 4, 1: 2, 2: 6, 3: 6}
    for _ in range(20):
        rows, labels = sample_boxes(overlaps, np.array([4, 2]), 6, 4, random)
        assert (labels < 6).sum() == 1
        assert len(rows) == 3, "two of the boxes are background, of three that may be"
    rows, labels = sample_boxes(overlaps, np.array([4, 2]), 6, 128, random, background_iou=(0.0, 0.5))
    assert sorted(rows) == [0, 1, 2, 3, 4, 5]
    rows, labels = sample_boxes(np.zeros((3, 0), np.float32), np.zeros(0, np.int64), 6, 8, random)
    assert len(rows) == 0 == len(labels)


def test_boxes_of_ignored_objects_are_left_out() -> None:
    overlaps = np.array([[0.5, 0.1], [0.2, 0.9], [0.3, 0.4], [0.6, 0.5], [0, 0]], np.float32)
    assert without_ignored(overlaps, np.array([False, False])).tolist() == [0, 1, 2, 3, 4]
    assert without_ignored(overlaps, np.array([False, True])).tolist() == [0, 3, 4]
    assert without_ignored(overlaps, np.array([True, False])).tolist() == [1, 2, 4]
    assert without_ignored(overlaps[:, :0], np.zeros(0, bool)).tolist() == [0, 1, 2, 3, 4]


class Quadrants:
    """Images of points in the plane: the quadrant is the class, what is near the axes is background."""

    n_features, n_classes = 2, 4

    def __init__(self, first: int) -> None:
        self.first = first

    def __len__(self) -> int:
        return 12

    def sample(self, index: int, n_boxes: int, random: np.random.Generator) -> tuple[Floats, NDArray[np.int64]]:
        points = np.random.default_rng(self.first + index).uniform(-1, 1, (64, 2)).astype(np.float32)
        points = points[random.permutation(len(points))[:n_boxes]]
        labels = (points[:, 0] > 0) + 2 * (points[:, 1] > 0)
        labels[np.abs(points).min(1) < 0.2] = 4
        return points, labels.astype(np.int64)


@pytest.fixture(autouse=True)
def small_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fc_layers, "IMAGES_PER_ROUND", 8)
    monkeypatch.setattr(fc_layers, "BOXES_PER_IMAGE", 16)
    monkeypatch.setattr(fc_layers, "ROUNDS_PER_SNAPSHOT", 4)


def settings(**changes: Any) -> FineTuningConfig:
    few = FineTuningConfig(
        width=32,
        iterations=320,
        lr=0.1,
        lr_steps=(0.6, 0.85),
        momentum=0.9,
        weight_decay=5e-4,
        dropout=0.1,
        batch_size=16,
        seed=3,
    )
    return few.model_copy(update=changes)


def training(checkpoint: Path, validation: Quadrants | None = None, start: Any = (), **changes: Any) -> LayerTraining:
    images: Any = Quadrants(0)
    held_out: Any = Quadrants(1000) if validation is None else validation
    return LayerTraining(images, held_out, settings(**changes), checkpoint, start=start)


@pytest.mark.all
def test_layers_learn_a_nonlinear_problem(tmp_path: Path) -> None:
    made = training(tmp_path / "state.safetensors", iterations=1600)
    tuned = made.run()
    points, labels = Quadrants(5000).sample(0, 64, np.random.default_rng(0))
    scores = tuned.fc8.decision_function(tuned.up_to("fc7")(points))
    found = np.where(scores.max(1) > 0, scores.argmax(1), 4)
    assert (found == labels).mean() > 0.85
    assert tuned.up_to("fc6").n_features == 32
    assert made.descent.lowest < 0.5


def test_images_held_out_without_boxes_are_named_before_any_work(tmp_path: Path) -> None:
    class Empty(Quadrants):
        def sample(self, index: int, n_boxes: int, random: np.random.Generator) -> tuple[Floats, NDArray[np.int64]]:
            return super().sample(index, 0, random)

    with pytest.raises(ValueError, match="the held-out images have no boxes to select a snapshot on"):
        training(tmp_path / "state.safetensors", Empty(0)).run()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("n_rounds", "momentum"), [(1, 0.9), (5, 0.9), (9, 0.9), (5, 0.0)])
@pytest.mark.all
def test_a_killed_training_ends_with_the_same_bits(tmp_path: Path, n_rounds: int, momentum: float) -> None:
    undisturbed = training(tmp_path / "a.safetensors", momentum=momentum).run()
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path / "b.safetensors", momentum=momentum).run(stops_after(n_rounds))
    resumed = training(tmp_path / "b.safetensors", momentum=momentum).run()
    np.testing.assert_array_equal(resumed.fc6[0], undisturbed.fc6[0])
    np.testing.assert_array_equal(resumed.fc7[1], undisturbed.fc7[1])
    np.testing.assert_array_equal(resumed.fc8.weights, undisturbed.fc8.weights)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_finished_training_is_read_and_a_damaged_one_starts_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "state.safetensors"
    tuned = training(file).run()
    again = training(file).run(stops_after(0))
    np.testing.assert_array_equal(again.fc7[0], tuned.fc7[0])
    content = file.read_bytes()
    file.write_bytes(content[:-9] + b"\x00" * 9)
    np.testing.assert_array_equal(training(file).run().fc6[0], tuned.fc6[0])
    assert "damaged" in caplog.text
    assert file.read_bytes() == content


def test_the_best_snapshot_is_kept(tmp_path: Path) -> None:
    """At a rate that ruins the layers later on, what they were before stays."""
    ruined = training(tmp_path / "s.safetensors", lr=0.1, lr_steps=())
    losses: list[float] = []

    def progress(rounds, title):  # type: ignore[no-untyped-def]
        for number in rounds:
            if number == 24:
                ruined.descent.schedule.__dict__["lr"] = 1e3
            losses.append(ruined.descent.lowest)
            yield number

    tuned = ruined.run(progress)
    assert ruined.descent.lowest == losses[-1] < losses[5]
    assert np.isfinite(tuned.fc8.weights).all()


def test_a_training_that_diverges_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fine-tuning diverged: its loss was never finite; lower lr"):
        training(tmp_path / "s.safetensors", lr=1e30).run()


def test_imagenet_layers_fill_the_block_of_their_level(tmp_path: Path) -> None:
    """The first layer reads 2 x 2 cells of 3 channels, channels first: a map that is a level of the pyramid."""
    random = np.random.default_rng(0)
    tensors = {
        "classifier.1.weight": random.standard_normal((5, 12), dtype=np.float32),
        "classifier.1.bias": random.standard_normal(5, dtype=np.float32),
        "classifier.4.weight": random.standard_normal((5, 5), dtype=np.float32),
        "classifier.4.bias": random.standard_normal(5, dtype=np.float32),
        "classifier.6.weight": random.standard_normal((9, 5), dtype=np.float32),
        "classifier.6.bias": random.standard_normal(9, dtype=np.float32),
    }
    save_file(tensors, tmp_path / "classifier.safetensors")
    (fc6, biases), fc7 = imagenet_layers(tmp_path / "classifier.safetensors", (3, 2, 1), 3)
    pooled = random.standard_normal((14, 3), dtype=np.float32)  # 9 + 4 + 1 bins
    as_torchvision = pooled[9:13].T.ravel()  # channels before cells
    np.testing.assert_allclose(fc6 @ pooled.ravel(), tensors["classifier.1.weight"] @ as_torchvision, rtol=1e-5)
    np.testing.assert_array_equal(biases, tensors["classifier.1.bias"])
    np.testing.assert_array_equal(fc7[0], tensors["classifier.4.weight"])
    with pytest.raises(ValueError, match=r"with 3 channels that is none of the levels \(3, 1\)"):
        imagenet_layers(tmp_path / "classifier.safetensors", (3, 1), 3)
    save_file({"features.0.weight": tensors["classifier.1.bias"]}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other.safetensors: has no layers"):
        imagenet_layers(tmp_path / "other.safetensors", (2,), 3)
    (tmp_path / "text.safetensors").write_text("no tensors at all")
    with pytest.raises(ValueError, match=r"text.safetensors: is damaged"):
        imagenet_layers(tmp_path / "text.safetensors", (2,), 3)


def test_initial_layers_are_used(tmp_path: Path) -> None:
    start = [(np.ones((8, 2), np.float32), np.zeros(8, np.float32))]
    begun = training(tmp_path / "s.safetensors", start=start, width=8)
    np.testing.assert_array_equal(begun.descent.network.state_dict()["0.weight"].numpy(), start[0][0])
