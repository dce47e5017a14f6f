"""Gradients of an image in end-to-end training: its boxes, its mirror image, hard examples, losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detector.boxes import decode_deltas, encode_deltas
from detector.training.end_to_end.region_network import box_losses
from detector.training.sampling import DELTA_SPREAD
from tests.training.end_to_end.small import RED, noting, predicted, training

BOXES = np.array([[0, 32, 64, 96], [0, 32, 64, 80]], np.float32)
OBJECTS = np.array([RED, RED], np.float32)


@pytest.mark.parametrize("flips", [False, True])
def test_boxes_are_read_where_they_are_in_an_image_and_its_mirror_image(
    flips: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is red is the object, wherever it is; labels are seen in the losses that follow."""
    made = training(tmp_path, flips=flips)
    seen = predicted(made, monkeypatch)
    lost: list[Any] = []

    def losses(scores: Any, deltas: Any, labels: Any, targets: Any) -> Any:
        lost.append((labels.clone(), targets.clone()))
        return box_losses(scores, deltas, labels, targets)

    monkeypatch.setattr("detector.training.end_to_end.training.box_losses", losses)
    read: list[Any] = []
    resize = made._maps
    monkeypatch.setattr(made, "_maps", noting(read, lambda image, *_: image.copy(), resize))
    for number in range(12):
        made._gradients(number, 160, warming_up=True)
    mirrored = [bool(image[40, 150, 0]) for image in read]
    assert set(mirrored) == ({False, True} if flips else {False})
    for (features, _, _), (labels, targets) in zip(seen, lost, strict=True):
        assert sorted(labels.tolist()) == [0, 0, 3, 3]
        for row, label, target in zip(features.tolist(), labels.tolist(), targets.tolist(), strict=True):
            assert row == pytest.approx([0.8, 0, 0] if label == 0 else [0, 0, 0], abs=1e-5)
            if label == 3:
                assert target == [0, 0, 0, 0]
            else:
                # the object itself, or the box that lacks its lower quarter: 8 / 48 down, in units of .1
                down = target[1]
                assert down == pytest.approx(0, abs=1e-4) or down == pytest.approx(8 / 48 / 0.1, rel=1e-4)
                assert target[0] == pytest.approx(0, abs=1e-4)


def test_deltas_to_the_side_flip_with_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = training(
        tmp_path, boxes=[[16, 32, 80, 96]], flips=True, foreground_fraction=1.0, rois_per_image=2, hard_examples=2
    )
    found = set()

    def losses(scores: Any, deltas: Any, labels: Any, targets: Any) -> Any:
        found.update(np.round(targets[:, 0].numpy(), 3).tolist())
        return box_losses(scores, deltas, labels, targets)

    monkeypatch.setattr("detector.training.end_to_end.training.box_losses", losses)
    for number in range(12):
        made._gradients(number, 160, warming_up=True)
    # a quarter of a side too far to the right, in units of .1, and to the left in the mirror image
    assert found == {0.0, -2.5, 2.5}


def test_the_loss_is_averaged_over_the_hard_examples_and_its_gradient_is_torchs(tmp_path: Path) -> None:
    made = training(tmp_path)
    loss, gradients = made._gradients(0, 160, warming_up=False)
    # one red, two black: of the object and the box that nearly covers it, only the harder, which is to move
    features = torch.tensor([[0.8, 0, 0], [0, 0, 0], [0, 0, 0]])
    labels = torch.tensor([0, 3, 3])
    encoded = torch.tensor([[0, 8 / 48, 0, np.log(64 / 48)], [0, 0, 0, 0], [0, 0, 0, 0]])
    targets = (encoded / torch.from_numpy(DELTA_SPREAD)).float()
    classification, regression = box_losses(*made.network.predict(features), labels, targets)
    expected = (classification.sum() + regression.sum()) / 4
    assert loss == pytest.approx(expected.item(), rel=1e-4)
    learned = dict(zip(made.parameters, gradients, strict=True))
    of_head = [name for name in made.parameters if not name.startswith("last.")]
    parameters = dict(made.network.named_parameters())
    plain = torch.autograd.grad(expected, [parameters[name] for name in of_head])
    for name, each in zip(of_head, plain, strict=True):
        torch.testing.assert_close(learned[name], each, rtol=1e-3, atol=1e-5)
    assert learned["last.weight"].abs().sum() > 0


def test_the_second_regressor_learns_from_boxes_as_the_first_refines_them(tmp_path: Path) -> None:
    # a box of three quarters of the object, and a first regressor that moves it by half of what is missing
    settings = {"boxes": [[0, 32, 64, 80]], "foreground_fraction": 1.0, "rois_per_image": 2, "hard_examples": 2}
    made = training(tmp_path, second_min_iou=0.6, **settings)
    second = made.network.second_regressor
    assert second is not None
    with torch.no_grad():
        made.network.regressor.weight.zero_()
        made.network.regressor.bias[1] = 4 / 48 / 0.1
    loss, gradients = made._gradients(0, 160, warming_up=True)
    learned = dict(zip(made.parameters, gradients, strict=True))
    features = torch.tensor([[0.8, 0, 0], [0.8, 0, 0]])
    labels = torch.tensor([0, 0])
    targets = torch.from_numpy(encode_deltas(BOXES, OBJECTS) / DELTA_SPREAD)
    moved = decode_deltas(BOXES, np.array([[0, 4 / 48, 0, 0]], np.float32))
    missing = torch.from_numpy(encode_deltas(moved, OBJECTS) / DELTA_SPREAD)
    classification, regression = box_losses(*made.network.predict(features), labels, targets)
    more = box_losses(*made.network.predict(features, refined=True), labels, missing)[1]
    expected = (classification.sum() + regression.sum() + more.sum()) / 2
    assert loss == pytest.approx(expected.item(), rel=1e-4)
    plain = torch.autograd.grad(expected, [second.weight, second.bias])
    for name, each in zip(("weight", "bias"), plain, strict=True):
        torch.testing.assert_close(learned[f"second_regressor.{name}"], each, rtol=1e-3, atol=1e-5)


def test_only_hard_examples_are_trained_on_after_the_warmup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = training(tmp_path, hard_examples=1, dropout=0.25)
    seen = predicted(made, monkeypatch)
    made._gradients(0, 160, warming_up=False)
    (everything, without, none), (hard, dropped, generator) = seen
    assert (len(everything), len(hard)) == (4, 1)
    assert (without, none) == (0.0, None)
    assert dropped == 0.25 and generator is not None
    seen.clear()
    made._gradients(0, 160, warming_up=True)
    assert [len(features) for features, _, _ in seen] == [1]


def test_an_image_without_boxes_has_no_gradients(tmp_path: Path) -> None:
    made = training(tmp_path, objects={"a": []}, boxes=np.zeros((0, 4)))
    assert made._gradients(0, 160, warming_up=True) == (0.0, ())
    before = [each.detach().clone() for each in made.parameters.values()]
    assert made._step(0) == 0.0
    assert all(torch.equal(a, b) for a, b in zip(before, made.parameters.values(), strict=True))


def test_images_are_taken_in_turns_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = training(tmp_path, objects={name: [(RED, 0)] for name in "abcde"})
    seen: list[int] = []
    plain = made.images.labeled_boxes
    monkeypatch.setattr(
        type(made.images), "labeled_boxes", noting(seen, lambda _, index: index, lambda _, index: plain(index))
    )
    for number in range(15):
        made._gradients(number, 160, warming_up=True)
    turns = [seen[start : start + 5] for start in (0, 5, 10)]
    assert all(sorted(turn) == [0, 1, 2, 3, 4] for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1
