"""End-to-end training: the backbone is trained with its layers, resumes after kills, and makes a detector."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.backbones.loading import load_network
from detector.build import build_cache
from detector.config.detector import Config
from detector.datasets.dataset import Dataset
from detector.evaluation.voc import evaluate_voc
from detector.features.cache import CacheWorkers
from detector.images.files import read_image
from detector.parallel.map_images import Threads
from detector.pipeline import Detector
from detector.runtime.array_files import read_arrays
from detector.training.end_to_end.region_network import hardest
from detector.training.end_to_end.training import EndToEndResult, jitter_colors, train_end_to_end
from detector.training.train import train
from detector.training.training_set import TrainingSet
from tests.fakes import stops_after
from tests.scripts import script
from tests.training.end_to_end.recipe import recipe


def trained(config: Config, train_set: Dataset, folder: Path) -> EndToEndResult:
    return train_end_to_end(config, TrainingSet(train_set.annotations, 3, build_cache(config, folder)))


def short(**end_to_end: Any) -> Config:
    """Return a recipe of a few steps on the last layer."""
    return recipe(end_to_end={"first_layer": "conv5", "warmup_steps": 0, "images_per_step": 1, **end_to_end})


def test_a_training_starts_from_the_layers_of_a_model(train_set: Dataset, tmp_path: Path) -> None:
    config = short(steps=1)
    detector = train(config, train_set, train_set.class_names, build_cache(config, tmp_path / "cache"))
    detector.save(tmp_path / "model")
    assert detector.heads.layers is not None
    still = {"steps": 1, "lr": 1e-12, "network_lr": 1e-12}
    for initial, same in ((None, False), (tmp_path / "model", True)):
        again = recipe(
            end_to_end={"first_layer": "conv5", "warmup_steps": 0, **still},
            fine_tuning={"seed": 5, "initial": initial and str(initial)},
        )
        layers = trained(again, train_set, tmp_path / "cache").layers
        for found, weights in zip((layers.fc6[0], layers.fc7[0]), detector.heads.layers.weights, strict=True):
            assert np.allclose(found, weights, atol=1e-3) is same
    damaged = recipe(fine_tuning={"initial": str(tmp_path / "model")}, features={"levels": [3, 1]})
    with pytest.raises(ValueError, match=r"model: fc6 reads 130 values, but a box has 260"):
        train(damaged, train_set, train_set.class_names, build_cache(damaged, tmp_path / "cache"))


def test_colors_vary_by_channel_within_their_bounds() -> None:
    image = np.full((2, 3, 3), 100, np.uint8)
    found = jitter_colors(image, 0.15, np.random.default_rng(0))
    assert found.shape == image.shape
    assert len(np.unique(found)) > 1
    # 100 * (1 -+ .15) -+ .15 * 128
    assert (found >= 65).all()
    assert (found <= 135).all()
    every = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    assert np.array_equal(jitter_colors(every, 0.0, np.random.default_rng(0)), every)


@pytest.mark.all
def test_a_killed_training_resumes_to_the_same_bits(
    train_set: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = recipe()

    def model(progress: Any) -> bytes:
        cache = build_cache(config, tmp_path / "cache")
        train(config, train_set, train_set.class_names, cache, progress).save(tmp_path / "model")
        return (tmp_path / "model").read_bytes()

    def stopping(n_rounds: int) -> Any:
        def progress(items: Any, title: str) -> Any:
            return stops_after(n_rounds)(items, title) if "end-to-end" in title else items

        return progress

    monkeypatch.setenv("DETECTOR_THREADS", "2")
    before = load_network("zf5/0.1", None, "random").module.network.state_dict()
    expected = model(lambda items, title: items)
    after = Detector.load(tmp_path / "model").encoder.backbone.tensors
    changed = {name for name, tensor in before.items() if not np.array_equal(tensor.numpy(), after[name])}
    assert changed == {f"conv{i}.{kind}" for i in (2, 3, 4, 5) for kind in ("weight", "bias")}
    (state,) = (tmp_path / "cache").glob("end-to-end-*.safetensors")
    content = state.read_bytes()
    assert read_arrays(state)[1]["step"] == 250
    assert model(stopping(0)) == expected  # not trained a second time
    state.unlink()
    with pytest.raises(KeyboardInterrupt):
        model(stopping(2))
    assert 0 < read_arrays(state)[1]["step"] < 250
    monkeypatch.setenv("DETECTOR_THREADS", "1")
    assert model(lambda items, title: items) == expected
    assert state.read_bytes() == content


@pytest.mark.all
def test_a_trained_detector_finds_objects(train_set: Dataset, test_set: Dataset, tmp_path: Path) -> None:
    config = recipe()
    detector = train(config, train_set, train_set.class_names, build_cache(config, tmp_path / "cache"))
    assert len(detector.heads.regressors) == 2
    found = [detector.detect(read_image(each.path), min_score=-3) for each in test_set]
    result = evaluate_voc(found, test_set, test_set.class_names)
    assert result.mAP > 0.5
    detector.save(tmp_path / "model")
    loaded = Detector.load(tmp_path / "model")
    assert len(loaded.heads.regressors) == 2
    again = loaded.detect(read_image(test_set[0].path), min_score=-3)
    assert np.array_equal(again.boxes, found[0].boxes)


@pytest.mark.all
def test_svms_are_trained_on_the_trained_layers(train_set: Dataset, tmp_path: Path) -> None:
    config = recipe(
        end_to_end={"first_layer": "conv5", "steps": 2, "second_min_iou": None},
        fine_tuning={"head": "svm", "layer": "fc6"},
        regression={"fit": "ridge"},
    )
    result = trained(config, train_set, tmp_path / "cache")
    detector = train(config, train_set, train_set.class_names, build_cache(config, tmp_path / "cache"))
    assert detector.heads.layers is not None
    (fc6,) = detector.heads.layers.weights
    assert np.array_equal(fc6, result.layers.fc6[0])
    for name, array in result.backbone.items():
        assert np.array_equal(detector.encoder.backbone.tensors[name], array)
    assert detector.heads.to_arrays()["svm.weights"].shape == (16, 3)
    assert [each.weights.shape for each in detector.heads.regressors] == [(3, 16, 4)]


@pytest.mark.all
def test_workers_compute_features_of_the_trained_backbone(train_set: Dataset, tmp_path: Path) -> None:
    config = recipe(
        end_to_end={"first_layer": "conv5", "steps": 1, "second_min_iou": None},
        fine_tuning={"head": "svm"},
        regression={"fit": "ridge"},
    )
    for name in ("here", "workers"):
        build = partial(build_cache, config, tmp_path / name / "cache")
        cache, workers = build(), CacheWorkers(Threads(2), build) if name == "workers" else None
        detector = train(config, train_set, train_set.class_names, cache, workers=workers)
        detector.save(tmp_path / name / "model")
        assert not cache.maps_directory.exists()  # of the untrained backbone
    assert (tmp_path / "here/model").read_bytes() == (tmp_path / "workers/model").read_bytes()


def test_the_result_is_the_moving_average(train_set: Dataset, tmp_path: Path) -> None:
    result = trained(short(steps=1, ema_decay=0.5), train_set, tmp_path)
    assert list(result.backbone) == ["conv5.weight", "conv5.bias"]
    before = load_network("zf5/0.1", None, "random").module.network.state_dict()["conv5.weight"].numpy()
    # after one step the average is nine tenths of the new weights, which change by the learning rate at most
    change = np.abs(result.backbone["conv5.weight"] - before)
    assert change.max() == pytest.approx(0.9 * 0.001, rel=0.05)


def test_new_layers_have_a_learning_rate_of_their_own(train_set: Dataset, tmp_path: Path) -> None:
    result = trained(short(steps=1), train_set, tmp_path)
    # nine tenths of a first step of Adam, from zero, without decay
    assert np.abs(result.layers.fc8.biases).max() == pytest.approx(0.9 * 0.003, rel=0.01)


def test_hard_examples_are_trained_on_after_the_warmup(
    train_set: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int, int]] = []

    def watched(boxes: Any, losses: Any, count: int) -> Any:
        rows = hardest(boxes, losses, count)
        seen.append((len(boxes), len(rows), count))
        assert losses.max() in losses[rows]
        return rows

    monkeypatch.setattr("detector.training.end_to_end.training.hardest", watched)
    trained(short(steps=3, warmup_steps=1, images_per_step=2), train_set, tmp_path)
    assert len(seen) == 2 * 2
    assert all(n <= 64 and kept <= count == 16 for n, kept, count in seen)


def test_mistakes_end_training_before_any_work(train_set: Dataset, tmp_path: Path) -> None:
    config = recipe(end_to_end={"first_layer": "conv99"})
    cache = build_cache(config, tmp_path / "cache")
    with pytest.raises(ValueError, match="no layer 'conv99'"):
        train(config, train_set, train_set.class_names, cache)

    class OnGPU:
        device = "cuda"

    backbone: Any = OnGPU()
    images = TrainingSet(train_set.annotations, 3, replace(cache, encoder=replace(cache.encoder, backbone=backbone)))  # type: ignore[type-var]
    with pytest.raises(ValueError, match="end-to-end training runs on the CPU, but the device is 'cuda'"):
        train_end_to_end(recipe(), images)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"fine_tuning": {"enabled": False}}, "end_to_end: {enabled: true} needs fine_tuning"),
        ({"regression": {"fit": "end_to_end", "features": "pooled"}}, "fit: end_to_end needs features: layer"),
        ({"end_to_end": {"enabled": False}}, "regression.fit: end_to_end needs end_to_end"),
        ({"fine_tuning": {"layer": "fc6", "head": "svm"}}, "needs end_to_end: .* and fine_tuning.layer: fc7"),
        ({"features": {"power": 0.5}}, "end_to_end needs features.power 1, but it is 0.5"),
        ({"end_to_end": {"hard_examples": 65}}, "hard_examples must be at most rois_per_image 64, but is 65"),
        ({"end_to_end": {"min_sizes_end": [20, 10]}}, "must ascend, but are 20, 10"),
    ],
)
def test_recipes_that_do_not_go_together(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe(**sections)


@pytest.mark.all
def test_the_script_trains_end_to_end(root: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(recipe(end_to_end={"steps": 4}).model_dump_json())
    data = ("--voc", root, "--split", "train", "--cache", "cache")
    cached = script("cache_features.py", "recipe.yaml", *data, cwd=tmp_path)
    assert cached.returncode == 0 and "proposals-" in cached.stdout, cached.stderr
    assert not list((tmp_path / "cache").glob("maps-*"))  # they depend on the training
    done = script("train_svm.py", "recipe.yaml", *data, "--output", "model.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "cache").glob("end-to-end-*.safetensors"))) == 1
    assert Detector.load(tmp_path / "model.safetensors").config.regression.fit == "end_to_end"
