"""Steps of end-to-end training: rates, averages, sizes, the moving average of the weights, the state, the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from detector.runtime.array_files import read_arrays
from detector.training.end_to_end.region_network import RegionNetwork
from detector.training.end_to_end.training import EndToEndTraining, heads_of, jitter_colors
from detector.training.sampling import DELTA_SPREAD
from tests.training.end_to_end.small import RED, TWO, noting, training


def rates(made: EndToEndTraining) -> dict[str, float]:
    return {name: group["lr"] for name, group in zip(made.parameters, made.optimizer.param_groups, strict=True)}


def test_rates_and_decay_are_those_of_the_layers(tmp_path: Path) -> None:
    made = training(tmp_path, warmup_steps=2, weight_decay=0.25)
    decays = {
        name: group["weight_decay"] for name, group in zip(made.parameters, made.optimizer.param_groups, strict=True)
    }
    assert set(made.parameters) == {
        f"{layer}.{kind}" for layer in ("last", "fc6", "fc7", "classifier", "regressor") for kind in ("weight", "bias")
    }
    assert {name for name, decay in decays.items() if decay == 0.25} == {
        name for name in made.parameters if name.endswith("weight")
    }
    assert {decay for name, decay in decays.items() if name.endswith("bias")} == {0.0}
    made._step(0)
    assert rates(made)["last.weight"] == pytest.approx(0.5 * 0.001)
    assert rates(made)["fc6.weight"] == pytest.approx(0.5 * 0.01)
    made._step(2)  # half of the way down
    assert rates(made)["last.bias"] == pytest.approx(0.5 * 0.001)
    assert rates(made)["regressor.bias"] == pytest.approx(0.5 * 0.01)


def test_gradients_of_images_are_averaged_and_bounded(tmp_path: Path) -> None:
    made = training(tmp_path, objects={name: [(RED, 0)] for name in "ab"}, images_per_step=2)
    each = [made._gradients(number, 160, warming_up=False)[1] for number in range(2)]
    made._step(0)
    for parameter, first, second in zip(made.parameters.values(), *each, strict=True):
        torch.testing.assert_close(parameter.grad, (first + second) / 2)
    with torch.no_grad():
        made.network.regressor.weight.mul_(1e6)
    made._step(1)
    norms = torch.stack([each.grad.norm() for each in made.parameters.values() if each.grad is not None])
    assert norms.norm().item() == pytest.approx(5, rel=1e-3)


def test_sides_are_drawn_by_the_step_between_those_of_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = training(tmp_path, min_sizes_start=(100, 120), min_sizes_end=(200, 240), steps=100)
    sides: list[int] = []
    monkeypatch.setattr(made, "_gradients", noting(sides, lambda _, side, __: side, lambda *_: (0.0, ())))
    for step in (*range(5), *range(95, 100)):
        made._step(step)
    assert all(100 <= side <= 127 for side in sides[:5]) and all(190 <= side <= 240 for side in sides[5:])
    assert len(set(sides)) > 5


def test_images_of_a_step_and_the_warm_up_follow_from_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = training(tmp_path, images_per_step=3, warmup_steps=2)
    seen: list[tuple[int, bool]] = []
    monkeypatch.setattr(made, "_gradients", noting(seen, lambda number, _, warm: (number, warm), lambda *_: (0.0, ())))
    made._step(1)
    made._step(2)
    assert sorted(seen) == [(3, True), (4, True), (5, True), (6, False), (7, False), (8, False)]


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = training(tmp_path)
    monkeypatch.setattr(made, "_gradients", lambda *_: (float("nan"), ()))
    with pytest.raises(ValueError, match=r"diverged: its loss is not finite; lower end_to_end\.lr"):
        made._step(0)


def test_features_are_centered_before_the_first_step(tmp_path: Path) -> None:
    made = training(tmp_path, TWO, boxes=[[96, 32, 160, 96]], steps=1)
    made.run()
    # of objects alone: their norm around the mean is that of .4 and .4, and becomes the root of three
    assert made.network.get_buffer("mean").tolist() == pytest.approx([0.4, 0.4, 0], abs=1e-3)
    assert made.network.get_buffer("scale").item() == pytest.approx(3**0.5 / (0.4 * 2**0.5), rel=1e-3)
    # the state of a finished training is loaded, and nothing is trained
    weights = made.network.fc6.weight.detach().clone()
    again = training(tmp_path, TWO, boxes=[[96, 32, 160, 96]], steps=1)
    again._step = None  # type: ignore[assignment, method-assign]
    again.run()
    assert torch.equal(again.network.fc6.weight, weights)
    assert again.network.get_buffer("mean").tolist() == made.network.get_buffer("mean").tolist()


def test_a_training_resumes_from_its_state_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detector.training.end_to_end.training.STEPS_PER_ROUND", 2)
    objects = TWO | {"c": [(RED, 2)]}
    whole = training(tmp_path, objects, steps=5, flips=True, dropout=0.3, color_jitter=0.1, weight_decay=0.1)
    whole.run()
    content = whole.checkpoint.read_bytes()
    assert read_arrays(whole.checkpoint)[1]["step"] == 5
    whole.checkpoint.unlink()
    killed = training(tmp_path, objects, steps=5, flips=True, dropout=0.3, color_jitter=0.1, weight_decay=0.1)

    def progress(rounds: Any, title: str) -> Any:
        assert "steps x 2" in title
        for number, each in enumerate(rounds):
            if number == 1:
                raise KeyboardInterrupt
            yield each

    with pytest.raises(KeyboardInterrupt):
        killed.run(progress)
    assert read_arrays(whole.checkpoint)[1]["step"] == 2
    resumed = training(tmp_path, objects, steps=5, flips=True, dropout=0.3, color_jitter=0.1, weight_decay=0.1)
    seen: list[Any] = []
    resumed.run(noting(seen, lambda rounds, title: list(rounds), lambda rounds, title: rounds))
    assert seen == [[1, 2]]
    for name, tensor in resumed.network.state_dict().items():
        assert torch.equal(tensor, whole.network.state_dict()[name]), name
    assert whole.checkpoint.read_bytes() == content


def test_the_result_is_the_moving_average_of_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = training(tmp_path, TWO, steps=2, ema_decay=0.5)
    begun = {name: each.detach().clone() for name, each in made.network.named_parameters()}
    after = []
    plain = made._step

    def step(number: int) -> float:
        loss = plain(number)
        after.append({name: each.detach().clone() for name, each in made.network.named_parameters()})
        return loss

    monkeypatch.setattr(made, "_step", step)
    made.run()
    # shares of max(.5, 9 / 10) and max(.5, 9 / 11)
    for name, each in made.network.named_parameters():
        mean = begun[name] + 0.9 * (after[0][name] - begun[name])
        mean = mean + 9 / 11 * (after[1][name] - mean)
        torch.testing.assert_close(each.detach(), mean)


def test_colors_are_steeper_and_brighter_by_at_most_their_share() -> None:
    """All values of a channel go through one line, cut to a byte."""
    image = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (1, 1, 3))
    slopes, shifts = [], []
    for seed in range(200):
        found = jitter_colors(image, 0.2, np.random.default_rng(seed)).astype(float)[0]
        assert (np.diff(found, axis=0) >= 0).all()
        inner = slice(40, 160)
        slope = (found[inner][-1] - found[inner][0]) / 119
        slopes += slope.tolist()
        shifts += (found[100] - 100 * slope).tolist()
    assert 0.79 < min(slopes) < 0.83 and 1.17 < max(slopes) < 1.21
    assert -27 < min(shifts) < -20 and 20 < max(shifts) < 27
    assert len({round(each, 2) for each in slopes[:3]}) > 1, "each channel by itself"


def test_layers_for_uncentered_features_are_what_a_network_starts_from() -> None:
    network = RegionNetwork(nn.Identity(), (1,), 3, 4, 2, seed=0)
    network.center(torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) * 5)
    random = np.random.default_rng(0)
    given = [(random.normal(size=(4, n)).astype(np.float32), random.normal(size=4).astype(np.float32)) for n in (3, 4)]
    network.start_from(given)
    found = network.layers()
    for name, (weights, biases) in zip(("fc6", "fc7"), given, strict=True):
        np.testing.assert_allclose(found[f"{name}.weight"], weights, rtol=1e-5)
        np.testing.assert_allclose(found[f"{name}.bias"], biases, rtol=1e-4, atol=1e-5)


def test_the_result_is_layers_for_uncentered_features() -> None:
    network = RegionNetwork(nn.Identity(), (1,), 3, 4, 2, seed=0, second=True)
    assert network.second_regressor is not None
    with torch.no_grad():
        network.regressor.bias.copy_(torch.arange(8.0))
        network.second_regressor.bias.copy_(-torch.arange(8.0))
    network.center(torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) * 5)
    layers, (first, second) = heads_of(network.layers())
    features = np.random.default_rng(0).uniform(0, 5, (6, 3)).astype(np.float32)
    scores, deltas = network.predict(torch.from_numpy(features))
    _, again = network.predict(torch.from_numpy(features), refined=True)
    fc7 = layers.up_to("fc7")(features)
    # log odds of the softmax are those of the scores; in half precision
    shares = torch.softmax(scores.detach(), 1).numpy()
    expected = np.log(shares / (1 - shares))[:, :2]
    np.testing.assert_allclose(layers.fc8.decision_function(fc7), expected, atol=0.02)
    for label in range(2):
        found = first.predict(fc7, np.full(6, label))
        np.testing.assert_allclose(found, deltas[:, label].detach().numpy() * DELTA_SPREAD, atol=0.02)
        assert found[0, 3] == pytest.approx((4 * label + 3) * 0.2, abs=0.05)
        found = second.predict(fc7, np.full(6, label))
        np.testing.assert_allclose(found, again[:, label].detach().numpy() * DELTA_SPREAD, atol=0.02)
        assert found[0, 3] == pytest.approx(-(4 * label + 3) * 0.2, abs=0.05)


def test_images_of_other_sizes_are_resized_with_their_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At twice the side the object covers twice as many cells, and is as red."""
    made = training(tmp_path)
    cells: list[Any] = []
    largest = made.network.largest
    monkeypatch.setattr(made.network, "largest", noting(cells, lambda maps, at: at, largest))
    made._gradients(0, 320, warming_up=True)
    made._gradients(0, 160, warming_up=True)
    assert np.array_equal(cells[0][:, 2] - cells[0][:, 0], 2 * (cells[1][:, 2] - cells[1][:, 0]))
