"""Training a classifier: accuracy, resumption after kills, and invalid input."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detector.classification.model import Classifier
from detector.classification.training import classification_loss, split_batches, train_classifier, training_schedule
from detector.config.classifier import ClassifierConfig, load_classifier_config
from detector.datasets.image_classes import LabeledImages, exclusive_targets
from detector.images.files import read_image
from detector.runtime.progress import Progress, no_progress
from tests.fakes import tiny, write_stripes
from tests.scripts import forking

BATCHES = 4 * 3


SINGLE = tiny()
MULTI = tiny(images={"sizes": [48, 40]})
KINDS = {
    "single": SINGLE,
    "multi": MULTI,
    "random sizes": tiny(images={"sizes": [40, 48], "size_rule": "random"}),
    "no pyramid": tiny(network={"pyramid": None}),
    "frozen": tiny(network={"backbone": "efficientnet_lite0", "stage": "blocks.1", "weights": None, "frozen": True}),
    "batch norms": tiny(network={"backbone": "efficientnet_lite0", "stage": "blocks.1", "weights": None}),
}


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> LabeledImages:
    return write_stripes(tmp_path_factory.mktemp("stripes"), 20)


def interrupting(after: int) -> Progress:
    """Progress that raises KeyboardInterrupt when so many batches are done."""
    left = [after]

    def progress(items: Iterable[Any], _: str) -> Iterator[Any]:
        for item in items:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            yield item

    return progress


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.all
def test_an_interrupted_training_ends_with_the_same_bits(kind: str, stripes: LabeledImages, tmp_path: Path) -> None:
    config = KINDS[kind]
    expected = train_classifier(config, stripes)
    for after in (1, 2, 5):
        with pytest.raises(KeyboardInterrupt):
            train_classifier(config, stripes, tmp_path, interrupting(after), checkpoint_seconds=0)
    batches: list[int] = []

    def counting(items: Iterable[Any], _: str) -> Iterable[Any]:
        items = list(items)
        batches.append(len(items))
        return items

    found = train_classifier(config, stripes, tmp_path, counting, checkpoint_seconds=0)
    assert sum(batches) == BATCHES - 1 - 2 - 5
    assert found.trained.keys() == expected.trained.keys()
    for name, array in expected.trained.items():
        np.testing.assert_array_equal(found.trained[name], array, err_msg=name)


def train_until_killed(folder: Path, config: ClassifierConfig, samples: LabeledImages, after: int) -> None:
    """What the child processes do: so many batches, or all and the model."""

    def progress(items: Iterable[Any], _: str) -> Iterator[Any]:
        nonlocal after
        for item in items:
            if not after:
                os.kill(os.getpid(), signal.SIGKILL)
            after -= 1
            yield item

    train_classifier(config, samples, folder, progress, checkpoint_seconds=0).save(folder / "model")


@pytest.mark.parametrize(
    "config", [pytest.param(SINGLE, marks=pytest.mark.all, id="single"), pytest.param(MULTI, id="multi")]
)
def test_kills_change_nothing(config: ClassifierConfig, stripes: LabeledImages, tmp_path: Path) -> None:
    def run(folder: Path, after: int) -> int | None:
        folder.mkdir(exist_ok=True)
        child = forking().Process(target=train_until_killed, args=(folder, config, stripes, after))
        child.start()
        child.join()
        return child.exitcode

    assert run(tmp_path / "undisturbed", -1) == 0
    codes = [run(tmp_path / "killed", after) for after in (1, 4, 5, -1)]
    assert codes == [-signal.SIGKILL] * 3 + [0]
    assert (tmp_path / "killed/model").read_bytes() == (tmp_path / "undisturbed/model").read_bytes()


def test_another_recipe_or_other_data_start_over(stripes: LabeledImages, tmp_path: Path) -> None:
    train_classifier(SINGLE, stripes, tmp_path)
    others = (tiny(training={"seed": 1}), stripes), (SINGLE, write_stripes(tmp_path / "fewer", 16))
    for config, samples in others:
        found, expected = train_classifier(config, samples, tmp_path), train_classifier(config, samples)
        for name, array in expected.trained.items():
            np.testing.assert_array_equal(found.trained[name], array)
    assert len(list(tmp_path.glob("training-*"))) == 3


def test_images_that_changed_in_place_start_over(tmp_path: Path) -> None:
    samples = write_stripes(tmp_path / "pictures", 16)
    train_classifier(SINGLE, samples, tmp_path)
    across, down = samples.paths[:2]
    across_bytes = across.read_bytes()
    across.write_bytes(down.read_bytes())
    down.write_bytes(across_bytes)
    found, expected = train_classifier(SINGLE, samples, tmp_path), train_classifier(SINGLE, samples)
    for name, array in expected.trained.items():
        np.testing.assert_array_equal(found.trained[name], array)


def test_sizes_that_the_network_cannot_take_are_refused_before_training(stripes: LabeledImages) -> None:
    with pytest.raises(ValueError, match="the network cannot take an image of 8 x 8 pixels"):
        train_classifier(tiny(images={"sizes": [48, 8]}), stripes)


def test_a_batch_is_a_single_sample_only_if_there_is_no_other() -> None:
    def sizes(count: int, size: int) -> list[int]:
        return [len(batch) for batch in split_batches(np.arange(count), size)]

    assert sizes(7, 3) == [3, 4]
    assert sizes(8, 3) == [3, 3, 2]
    assert sizes(6, 3) == [3, 3]
    assert sizes(1, 3) == [1]
    assert sizes(3, 1) == [1, 1, 1]


def test_one_exclusive_class_is_refused() -> None:
    samples = LabeledImages((Path("a"),), np.ones((1, 1), np.int8), ("only",), True, "one")
    with pytest.raises(ValueError, match="needs at least two exclusive classes"):
        train_classifier(SINGLE, samples)


def test_weights_trained_from_scratch_are_in_the_model(stripes: LabeledImages, tmp_path: Path) -> None:
    trained = train_classifier(SINGLE, stripes)
    trained.save(tmp_path / "model")
    image = [np.full((60, 50, 3), 99, np.uint8)]
    again = Classifier.load(tmp_path / "model")
    np.testing.assert_array_equal(again.scores(image), trained.scores(image))


def test_frozen_weights_cannot_be_random(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("network: {backbone: efficientnet_lite0}")
    with pytest.raises(ValueError, match=r"r\.yaml: .*weights: random needs frozen: false"):
        load_classifier_config(tmp_path / "r.yaml", "random")


def test_a_damaged_state_is_named_and_not_used(
    stripes: LabeledImages, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = train_classifier(SINGLE, stripes, tmp_path)
    (state,) = tmp_path.glob("training-*")
    state.write_bytes(state.read_bytes()[:-1])
    found = train_classifier(SINGLE, stripes, tmp_path)
    assert "starting over" in caplog.text
    for name, array in expected.trained.items():
        np.testing.assert_array_equal(found.trained[name], array)


@pytest.mark.parametrize("exclusive", [True, False], ids=["softmax", "logistic"])
def test_separable_classes_are_learned(exclusive: bool, tmp_path: Path) -> None:
    samples = write_stripes(tmp_path / "pictures", 40, exclusive)
    network = {"backbone": "zf5/0.1", "hidden": [], "feature_norm": 10.0}
    config = tiny(network=network, training={"epochs": 12, "lr": 0.02, "lr_drop_epochs": [9]})
    classifier = train_classifier(config, samples, tmp_path)
    scores = classifier.scores([read_image(path) for path in samples.paths])
    right = (scores.argmax(1) == samples.targets.argmax(1)) if exclusive else ((scores > 0.5) == (samples.targets > 0))
    assert right.mean() > 0.9


def test_torch_s_generator_is_left_alone(stripes: LabeledImages) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_classifier(tiny(training={"epochs": 1}), stripes)
    assert torch.equal(torch.rand(3), expected)


def test_losses_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]])
    chosen = torch.from_numpy(exclusive_targets(np.array([0, 1]), 3))
    probabilities = logits.exp() / logits.exp().sum(1, keepdim=True)
    expected = -(probabilities[0, 0].log() + probabilities[1, 1].log()) / 2
    torch.testing.assert_close(classification_loss(logits, chosen, exclusive=True), expected)
    several = torch.tensor([[1, -1, 0], [0, 1, 1]], dtype=torch.int8)
    terms = [torch.sigmoid(torch.tensor(margin)).log() for margin in (2.0, 0.0, 1.0, 3.0)]
    torch.testing.assert_close(classification_loss(logits, several, exclusive=False), -sum(terms, torch.zeros(())) / 2)


def test_learning_rate_drops_by_ten() -> None:
    schedule = training_schedule(tiny(training={"epochs": 9, "lr_drop_epochs": [2, 5]}).training)
    np.testing.assert_allclose([schedule.rate(epoch) for epoch in (0, 1, 2, 4, 5)], [1e-2] * 2 + [1e-3] * 2 + [1e-4])


def test_divergence_is_an_error(stripes: LabeledImages) -> None:
    with pytest.raises(ValueError, match=r"training diverged: .* lower training\.lr"):
        train_classifier(tiny(training={"lr": 1e6}), stripes)


def test_a_class_without_an_image_is_named() -> None:
    targets = np.array([[1, -1, 0], [1, -1, -1]], np.int8)
    samples = LabeledImages((Path("a"), Path("b")), targets, ("cat", "dog", "cow"), False, "pets")
    with pytest.raises(ValueError, match="no image to train on: dog, cow"):
        train_classifier(SINGLE, samples, progress=no_progress)
