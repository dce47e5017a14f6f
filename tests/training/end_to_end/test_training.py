"""A network and the layers after the pooling learned together: it learns, goes on when killed, and makes a detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detector.training.end_to_end.network_tuning import tune_network
from safetensors.torch import load_file, save_file

from detector.backbones.loading import load_network
from detector.build import build_cache
from detector.datasets.dataset import Dataset
from detector.pipeline import Detector
from detector.runtime.files import read_arrays
from detector.training.end_to_end.layers import read_joint_layers
from detector.training.end_to_end.region_network import RegionNetwork, hardest
from detector.training.end_to_end.training import vary_colors
from detector.training.train import train
from tests.fakes import stops_after
from tests.scripts import script
from tests.training.joint_recipe import recipe


def features_and_judgements(network: RegionNetwork, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    state = network.layers()
    values = features
    for name in ("fc6", "fc7"):
        values = torch.relu(values @ state[f"{name}.weight"].T + state[f"{name}.bias"])
    return tuple(values @ state[f"{name}.weight"].T + state[f"{name}.bias"] for name in ("classes", "moves"))  # type: ignore[return-value]


def test_layers_for_plain_features_judge_as_those_of_centered_ones() -> None:
    network = RegionNetwork(torch.nn.Identity(), (2, 1), 4, 8, 3, seed=0)
    features = 3 + 2 * torch.randn(30, 20, generator=torch.Generator().manual_seed(0))
    network.center(features)
    centered = (features - network.get_buffer("mean")) * network.get_buffer("scale")
    assert float(centered.mean(0).abs().max()) < 1e-5
    assert float(centered.norm(dim=1).mean()) == pytest.approx(20**0.5, rel=1e-4)
    scores, deltas = network.judge(features)
    assert (scores.shape, deltas.shape) == ((30, 4), (30, 3, 4))
    plain_scores, plain_deltas = features_and_judgements(network, features)
    torch.testing.assert_close(plain_scores, scores)
    torch.testing.assert_close(plain_deltas, deltas.flatten(1))
    dropped, _ = network.judge(features, 0.5, torch.Generator().manual_seed(1))
    again, _ = network.judge(features, 0.5, torch.Generator().manual_seed(1))
    assert torch.equal(dropped, again)
    assert not torch.allclose(dropped, scores)


def test_colors_vary_by_channel_within_their_bounds() -> None:
    image = np.full((2, 3, 3), 100, np.uint8)
    found = vary_colors(image, 0.15, np.random.default_rng(0))
    assert found.shape == image.shape
    assert len(np.unique(found)) > 1
    # 100 * (1 -+ .15) -+ .15 * 128
    assert (found >= 65).all()
    assert (found <= 135).all()
    every = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    assert np.array_equal(vary_colors(every, 0.0, np.random.default_rng(0)), every)


@pytest.mark.all
def test_a_network_learns_with_its_layers_and_comes_back_to_the_same_bits(
    train_set: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tuned(progress: Any) -> dict[str, torch.Tensor]:
        return tune_network(recipe(), train_set, 3, "conv2", tmp_path / "cache", progress=progress)

    monkeypatch.setenv("DETECTOR_THREADS", "2")
    before = load_network("zf5/0.1", None, "random").module.network.state_dict()
    after = tuned(lambda items, title: items)
    network = [name for name in after if not name.startswith("head.")]
    assert network == [f"conv{i}.{kind}" for i in (2, 3, 4, 5) for kind in ("weight", "bias")]
    assert not any(torch.equal(before[name], after[name]) for name in network)
    assert {name for name in after if name.startswith("head.")} == {
        f"head.{name}.{kind}" for name in ("fc6", "fc7", "classes", "moves") for kind in ("weight", "bias")
    }
    (state,) = (tmp_path / "cache").glob("joint-*.safetensors")
    content = state.read_bytes()
    assert read_arrays(state)[1]["step"] == 250
    again = tuned(lambda items, title: stops_after(0)(items, title) if "learning" in title else items)
    assert all(torch.equal(again[name], tensor) for name, tensor in after.items())
    state.unlink()

    def progress(items: Any, title: str) -> Any:
        return stops_after(2)(items, title) if "learning" in title else items

    with pytest.raises(KeyboardInterrupt):
        tuned(progress)
    assert 0 < read_arrays(state)[1]["step"] < 250
    monkeypatch.setenv("DETECTOR_THREADS", "1")
    again = tuned(lambda items, title: items)
    for name, tensor in after.items():
        assert torch.equal(again[name], tensor), name
    assert state.read_bytes() == content


@pytest.mark.all
def test_what_was_learned_finds_objects(train_set: Dataset, test_set: Dataset, tmp_path: Path) -> None:
    from detector.evaluation.voc import evaluate_voc
    from detector.images.files import read_image

    layers = tune_network(recipe(), train_set, 3, "conv2", tmp_path / "cache")
    save_file(layers, tmp_path / "layers")
    config = recipe(features={"tuned": str(tmp_path / "layers")})
    detector = train(config, train_set, train_set.class_names, build_cache(config, tmp_path / "cache"))
    assert detector.heads.regressors is not None
    joint = read_joint_layers(tmp_path / "layers")
    moves = layers["head.moves.weight"]
    # the second class moves the third coordinate in units of .2
    np.testing.assert_allclose(joint.regressors.weights[1, :, 2], 0.2 * moves[6].numpy(), rtol=1e-6)
    np.testing.assert_allclose(joint.regressors.biases[1, 0], 0.1 * layers["head.moves.bias"][4].numpy(), rtol=1e-6)
    found = [detector.detect(read_image(each.path)) for each in test_set]
    result = evaluate_voc(found, test_set, test_set.class_names)
    assert result.mAP > 0.5
    detector.save(tmp_path / "model")
    (tmp_path / "layers").unlink()
    again = Detector.load(tmp_path / "model").detect(read_image(test_set[0].path))
    assert np.array_equal(again.boxes, found[0].boxes)


def test_svms_learn_from_what_was_learned(train_set: Dataset, tmp_path: Path) -> None:
    layers = tune_network(recipe(end_to_end={"steps": 2}), train_set, 3, "conv5", tmp_path / "cache")
    save_file(layers, tmp_path / "layers")
    config = recipe(
        features={"tuned": str(tmp_path / "layers")},
        fine_tuning={"head": "svm", "layer": "fc6"},
        regression={"fit": "ridge"},
    )
    detector = train(config, train_set, train_set.class_names, build_cache(config, tmp_path / "cache"))
    assert detector.heads.layers is not None
    (fc6,) = detector.heads.layers.weights
    assert np.array_equal(fc6, layers["head.fc6.weight"].numpy().astype(np.float16))
    assert detector.heads.scorer.weights.shape == (16, 3)
    assert detector.heads.regressors is not None
    assert detector.heads.regressors.weights.shape == (3, 16, 4)


def test_what_is_kept_is_the_mean_of_the_weights(train_set: Dataset, tmp_path: Path) -> None:
    joint = {"steps": 1, "ema_decay": 0.5, "warmup_steps": 0, "images_per_step": 1}
    layers = tune_network(recipe(end_to_end=joint), train_set, 3, "conv5", tmp_path)
    before = load_network("zf5/0.1", None, "random").module.network.state_dict()["conv5.weight"]
    # after one step the mean is nine tenths of the new weights, whose entries moved by the learning rate at most
    moved = (layers["conv5.weight"] - before).abs()
    assert float(moved.max()) == pytest.approx(0.9 * 0.001, rel=0.05)


def test_the_new_layers_learn_at_a_rate_of_their_own(train_set: Dataset, tmp_path: Path) -> None:
    joint = {"steps": 1, "warmup_steps": 0, "images_per_step": 1}
    layers = tune_network(recipe(end_to_end=joint), train_set, 3, "conv5", tmp_path)
    # nine tenths of a first step of Adam, from zero, without decay
    assert float(layers["head.classes.bias"].abs().max()) == pytest.approx(0.9 * 0.003, rel=0.01)


def test_the_hardest_boxes_are_learned_from_once_the_rate_has_risen(
    train_set: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int, int]] = []

    def watched(boxes: Any, losses: Any, count: int) -> Any:
        rows = hardest(boxes, losses, count)
        seen.append((len(boxes), len(rows), count))
        assert losses.max() in losses[rows]
        return rows

    monkeypatch.setattr("detector.training.end_to_end.training.hardest", watched)
    joint = {"steps": 3, "warmup_steps": 1, "images_per_step": 2}
    tune_network(recipe(end_to_end=joint), train_set, 3, "conv5", tmp_path)
    assert len(seen) == 2 * 2
    assert all(n <= 64 and kept <= count == 16 for n, kept, count in seen)


def test_files_that_do_not_fit(train_set: Dataset, tmp_path: Path) -> None:
    save_file({"conv5.weight": torch.zeros(1)}, tmp_path / "layers")
    with pytest.raises(ValueError, match="layers of the network alone"):
        read_joint_layers(tmp_path / "layers")
    config = recipe()
    with pytest.raises(ValueError, match="needs the file that spp-tune wrote"):
        train(config, train_set, train_set.class_names, build_cache(config, tmp_path))
    with pytest.raises(ValueError, match="joint training runs on the processor, but the device is 'cuda'"):
        tune_network(config, train_set, 3, "conv2", tmp_path, device="cuda")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"fine_tuning": {"enabled": False}}, "end_to_end: enabled: true needs fine_tuning"),
        ({"regression": {"fit": "joint", "features": "pooled"}}, "fit: joint needs features: layer"),
        ({"end_to_end": {"enabled": False}}, "regression.fit: joint needs end_to_end"),
        ({"end_to_end": {"hard_examples": 65}}, "hard_examples must be at most rois_per_image 64, but is 65"),
        ({"end_to_end": {"min_sizes_end": [20, 10]}}, "must ascend, but are 20, 10"),
    ],
)
def test_recipes_that_do_not_go_together(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe(**sections)


def test_the_script_trains_jointly(root: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(recipe(end_to_end={"steps": 4}).model_dump_json())
    data = ("--voc", root, "--split", "train", "--cache", "cache")
    done = script("tune_network.py", "recipe.yaml", "--from", "conv2", *data, "--output", "layers", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "head.fc6.weight" in load_file(tmp_path / "layers")
