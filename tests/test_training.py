"""From a data set to a detector, with the real network on synthetic pictures; the scripts around it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.annotation import Dataset
from data.synthetic import write_synthetic_voc
from detector.boxes import Boxes, flip, iou
from detector.caching import build_cache, fill_cache
from detector.config import Config, FineTuningConfig, RegressionConfig, parse_config
from detector.evaluation.voc import by_class, evaluate_voc
from detector.features.encoder import FeatureMaps
from detector.heads.checkpoint import load_state, save_state
from detector.heads.fully_connected import FullyConnected
from detector.heads.mining import Bank, MiningState
from detector.image import read_image
from detector.pipeline import Detector
from detector.training import fine_tune, train, train_regressors
from detector.training_set import RandomBoxes, TrainingSet, scaled

TOOLS = Path(__file__).parents[1] / "tools"
CONFIG: dict[str, dict[str, Any]] = {
    "features": {"short_sides": [320], "levels": [3, 1]},
    "proposals": {"max_boxes": 300, "min_side": 16},
    "svm": {"loss": "squared_hinge", "C": 0.01, "centre": True},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VOC folder with synthetic lists train (24 pictures) and test (10)."""
    root = tmp_path_factory.mktemp("synthetic")
    write_synthetic_voc(root, 24, seed=1, split="train")
    write_synthetic_voc(root, 10, seed=2, split="test")
    return root


@pytest.fixture(scope="module")
def train_set(root: Path) -> Dataset:
    return write_synthetic_voc(root, 24, seed=1, split="train")


@pytest.fixture(scope="module")
def test_set(root: Path) -> Dataset:
    return write_synthetic_voc(root, 10, seed=2, split="test")


@pytest.fixture(scope="module")
def config() -> Config:
    return parse_config(CONFIG, "test")


@pytest.fixture(scope="module")
def pictures(train_set: Dataset, config: Config, tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    cache = build_cache(config, tmp_path_factory.mktemp("cache"))
    fill_cache(cache, train_set)
    return TrainingSet(train_set.annotations, 3, cache)


@pytest.fixture(scope="module")
def detector(train_set: Dataset, config: Config, pictures: TrainingSet) -> Detector:
    return train(config, train_set, train_set.class_names, pictures.cache)


def test_candidates_are_truth_first_and_distinct_windows_after(pictures: TrainingSet, train_set: Dataset) -> None:
    for index in (0, 7):
        candidates = pictures[index]
        labels = train_set[index].labels
        n_truths = len(labels)
        assert (candidates.targets[np.arange(n_truths), labels] == 1).all()
        assert (candidates.targets == 1).sum() == n_truths
        others = candidates.windows[n_truths:]
        assert len(np.unique(others, axis=0)) == len(others)
        features = candidates.pool(candidates.windows[:2])
        expected = pictures.features(index, train_set[index].boxes[:2])
        np.testing.assert_array_equal(features, expected)


def test_negatives_overlap_no_object_of_the_class(pictures: TrainingSet, train_set: Dataset) -> None:
    boxes, _ = pictures.boxes(3)
    overlaps = iou(boxes, train_set[3].boxes)
    # windows are distinct, so that boxes and candidates can be matched through their windows
    maps = pictures.cache.maps(train_set[3].image_id, train_set[3].path)
    window_of = {tuple(w): i for i, w in reversed(list(enumerate(pictures.cache.encoder.windows(maps, boxes))))}
    candidates = pictures[3]
    for window, targets in zip(candidates.windows[len(train_set[3].labels) :], candidates.targets, strict=False):
        assert tuple(window) in window_of
        assert set(targets) <= {-1, 0, 1}
    for label in set(train_set[3].labels):
        near = overlaps[:, train_set[3].labels == label].max(1) >= 0.3
        rows = [window_of[tuple(w)] for w in candidates.windows]
        ignored_or_positive = candidates.targets[:, label] >= 0
        assert (ignored_or_positive[near[rows]]).all()


def test_difficult_objects_are_neither_objects_nor_background(pictures: TrainingSet, train_set: Dataset) -> None:
    index = next(i for i, each in enumerate(train_set) if len(each.labels))
    first = train_set[index]
    hidden = replace(first, difficult=np.ones(len(first.labels), bool))
    without = TrainingSet(Dataset((hidden,), train_set.class_names, "one"), 3, pictures.cache, difficult=False)
    random = np.random.default_rng(0)
    assert len(RandomBoxes(pictures, np.array([index])).sample(0, 64, random)[1]) > 0
    assert len(RandomBoxes(without, np.array([0])).sample(0, 64, random)[1]) == 0
    assert not without.has_objects(0)
    regressors = train_regressors(without, RegressionConfig(), seed=3)
    assert not regressors.weights.any() and not regressors.biases.any()


def test_pictures_without_boxes_do_not_spoil_the_scale(pictures: TrainingSet, train_set: Dataset) -> None:
    cache = replace(pictures.cache, precomputed={each.image_id: each.boxes for each in train_set})
    nothing = replace(
        train_set[1], boxes=np.zeros((0, 4), np.float32), labels=np.zeros(0, int), difficult=np.zeros(0, bool)
    )
    cache = replace(cache, precomputed={**(cache.precomputed or {}), nothing.image_id: nothing.boxes})
    annotations = Dataset((train_set[0], nothing), train_set.class_names, "two")
    found = scaled(TrainingSet(annotations, 3, cache), 20, True, seed=3)
    assert np.isfinite(found.mean).all() and np.isfinite(found.scale).all()


def test_too_few_samples_for_the_objects_are_named_before_any_work(train_set: Dataset, tmp_path: Path) -> None:
    config = parse_config({**CONFIG, "svm": {**CONFIG["svm"], "max_samples": 500}}, "test")
    with pytest.raises(ValueError, match=r"svm\.max_samples is 500, but these objects need at least 24\d\d"):
        train(config, train_set, train_set.class_names, build_cache(config, tmp_path))
    assert not list(tmp_path.iterdir())


def test_difficult_objects_can_be_left_out(pictures: TrainingSet, train_set: Dataset, config: Config) -> None:
    n_objects = sum(len(each.labels) for each in train_set)
    n_difficult = sum(int(each.difficult.sum()) for each in train_set)
    assert n_difficult > 0
    without = TrainingSet(train_set.annotations, 3, pictures.cache, difficult=False)
    assert sum(len(pictures.boxes(i)[1]) for i in range(len(pictures))) == n_objects
    assert sum(len(without.boxes(i)[1]) for i in range(len(without))) == n_objects - n_difficult


@pytest.mark.parametrize("centre", [False, True])
def test_features_get_the_norm_asked_for(pictures: TrainingSet, centre: bool) -> None:
    ready = scaled(pictures, 20.0, centre, seed=0, max_boxes=10_000)
    everything = [ready[i].pool(ready[i].windows) for i in range(len(ready))]
    norms = np.concatenate([np.linalg.norm(each, axis=1) for each in everything])
    assert norms.mean() == pytest.approx(20, rel=1e-4)
    means = np.mean([each.mean(0) for each in everything], axis=0)
    assert (np.abs(means).max() < 1e-4) == centre


def test_unscaled_weights_say_the_same_of_plain_features(pictures: TrainingSet, train_set: Dataset) -> None:
    ready = scaled(pictures, 20.0, True, seed=0)
    rng = np.random.default_rng(0)
    weights, biases = rng.standard_normal((3200, 2)).astype(np.float32), np.array([1, -2], np.float32)
    plain_weights, plain_biases = ready.unscaled(weights, biases)
    boxes = train_set[0].boxes
    expected = ready.features(0, boxes) @ weights + biases
    np.testing.assert_allclose(pictures.features(0, boxes) @ plain_weights + plain_biases, expected, atol=1e-2)


def test_a_trained_detector_finds_objects_of_new_pictures(detector: Detector, test_set: Dataset) -> None:
    found = [detector.detect(read_image(each.path)) for each in test_set]
    ids = [each.image_id for each in test_set]
    result = evaluate_voc(by_class(ids, found), test_set, test_set.class_names)
    assert result.mAP > 0.8


def test_classes_without_objects_are_named_before_any_work(train_set: Dataset, config: Config, tmp_path: Path) -> None:
    cache = build_cache(config, tmp_path / "cache")
    with pytest.raises(ValueError, match="no object to learn from in 24 pictures: star, cross"):
        train(config, train_set, (*train_set.class_names, "star", "cross"), cache)
    assert not (tmp_path / "cache").exists()


def test_training_twice_gives_the_same_model(
    detector: Detector, train_set: Dataset, config: Config, pictures: TrainingSet, tmp_path: Path
) -> None:
    detector.save(tmp_path / "a")
    train(config, train_set, train_set.class_names, pictures.cache).save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("fit", [1, 2])
def test_a_killed_training_goes_on_to_the_same_model(
    detector: Detector,
    train_set: Dataset,
    config: Config,
    pictures: TrainingSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fit: int,
) -> None:
    saved: list[Path] = []

    def save_and_die(path: Path, state: MiningState) -> None:
        save_state(path, state)
        saved.append(path)
        if len(saved) == fit:
            raise KeyboardInterrupt

    monkeypatch.setattr("detector.training.save_state", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        train(config, train_set, train_set.class_names, pictures.cache)
    monkeypatch.undo()
    assert saved[0].exists()
    train(config, train_set, train_set.class_names, pictures.cache).save(tmp_path / "resumed")
    detector.save(tmp_path / "undisturbed")
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "undisturbed").read_bytes()
    assert not saved[0].exists()


def test_a_damaged_checkpoint_is_not_used(
    pictures: TrainingSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "checkpoint"
    assert load_state(path, pictures, Bank(10, 3200, 3)) is None
    path.write_bytes(b"damage")
    assert load_state(path, pictures, Bank(10, 3200, 3)) is None
    assert f"{path}: is damaged" in caplog.text


def script(name: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOLS / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**os.environ}, check=False)


def test_detect_script(detector: Detector, test_set: Dataset, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    detector.save(model)
    good, bad = tmp_path / "good one.png", tmp_path / "bad.jpg"
    shutil.copy(test_set[0].path, good)
    bad.write_bytes(b"no picture")
    done = script("detect.py", bad, good, "--model", model, "--json", "out/found.json", "--profile", cwd=tmp_path)
    assert done.returncode == 2
    profiled = [line for line in done.stderr.splitlines() if line.startswith(f"{good}: proposals ")]
    assert re.findall(r"(\w[\w ]*?) [\d.]+ s", profiled[0].removeprefix(f"{good}: "))[1:] == [
        "convolution at 320",
        "pooling and scores",
        "suppression",
        "box regression",
        "drawing",
    ]
    assert any(line.startswith(f"error: {bad}: ") for line in done.stderr.splitlines())
    (record,) = json.loads((tmp_path / "out" / "found.json").read_text())
    assert set(record) == {"image", "width", "height", "detections"}
    assert record["image"] == str(good)
    assert len(record["detections"]) == len(done.stdout.splitlines()) > 0
    first = record["detections"][0]
    fields = done.stdout.splitlines()[0].split("\t")
    assert fields[:2] == [str(good), first["label"]]
    assert float(fields[2]) == pytest.approx(first["score"], abs=1e-3)
    assert [float(value) for value in fields[3:]] == pytest.approx(first["box"], abs=0.06)
    assert read_image(tmp_path / "detections" / "good one.png").shape == read_image(good).shape


def test_scripts_train_and_evaluate_own_classes(root: Path, test_set: Dataset, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(CONFIG))
    data = ("--voc", root, "--cache", "cache")
    classes = ("--classes", *test_set.class_names)
    done = script("cache_features.py", recipe, *data, "--split", "train", *classes, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = script("train_svm.py", recipe, *data, "--split", "train", *classes, "--output", "m", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Detector.load(tmp_path / "m").record["images"] == 24
    files = ("--json", "a.json", "--save-detections", "found")
    done = script("evaluate_voc.py", *data, "--split", "test", "--model", "m", *files, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / "cache")
    files = ("--json", "b.json", "--detections", "found")
    done = script("evaluate_voc.py", *data[:2], "--split", "test", *classes, *files, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "a.json").read_text())
    assert set(result) == {"metric", "mAP", "AP", "images"}
    assert (result["metric"], result["images"]) == ("voc07", 10)
    assert set(result["AP"]) == set(test_set.class_names)
    assert json.loads((tmp_path / "b.json").read_text()) == result


def test_settings_are_compared_on_held_out_pictures(root: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(CONFIG))
    variants = ("--try", "detection.nms_iou=0.9", "--try", "detection.nms_iou=0.9,svm.C=1e-6")
    arguments = (recipe, "--voc", root, "--split", "train", "--cache", "cache", "--results", "kept.json", *variants)
    first = script("compare_settings.py", *arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "trained on 20, scored on 4 other pictures" in first.stdout
    rows = [re.fullmatch(r"(.*?) +mAP +([\d.]+) +(\d+) s", line) for line in first.stdout.splitlines()[1:]]
    names, results, _ = zip(*(row.groups() for row in rows if row), strict=True)
    assert names == ("as it is", *variants[1::2])
    assert len(set(results)) == 3  # repeated boxes are false, and a C so small learns nothing
    assert json.loads((tmp_path / "kept.json").read_text()).values()
    shutil.rmtree(tmp_path / "cache")
    assert script("compare_settings.py", *arguments, cwd=tmp_path).stdout == first.stdout


def test_a_picture_cut_short_is_named_and_left_out(root: Path, test_set: Dataset, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "voc")
    for split in ("train", "test"):
        image_id = (tmp_path / f"voc/ImageSets/Main/{split}.txt").read_text().split()[0]
        (picture,) = (tmp_path / "voc/JPEGImages").glob(f"{image_id}.*")
        picture.write_bytes(picture.read_bytes()[: picture.stat().st_size // 2])
    (tmp_path / "recipe.yaml").write_text(json.dumps(CONFIG))
    data = ("--voc", "voc", "--cache", "cache")
    done = script("train_svm.py", "recipe.yaml", *data, "--split", "train", "--output", "m", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "going on without it" in done.stderr
    done = script("evaluate_voc.py", *data, "--split", "test", "--model", "m", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("error: ") == 1


def test_scripts_name_what_is_wrong_with_data(root: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("featurs: {}")
    data = ("--voc", root, "--split", "train", "--cache", tmp_path / "cache", "--output", tmp_path / "model")
    done = script("train_svm.py", recipe, *data, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "recipe.yaml: unknown key 'featurs'" in done.stderr
    recipe.write_text("")
    done = script("train_svm.py", recipe, *data, "--classes", "circle", "square", "--strict", cwd=tmp_path)
    assert done.returncode == 2
    assert "unknown class 'triangle'" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    done = script("evaluate_voc.py", "--voc", root, "--split", "nope", "--detections", root, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.jpg",), "nowhere.jpg"),
        (("x.jpg", "--max-detections", "0"), "--max-detections must be at least 1, but is 0"),
        (("x.jpg", "--min-score", "high"), "invalid float value: 'high'"),
        ((), "the following arguments are required: IMAGE"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = script("detect.py", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


FINE_TUNING = {"enabled": True, "width": 64, "iterations": 256, "batch_size": 64, "lr": 0.02, "held_out": 0.2}


@pytest.mark.parametrize(("head", "beside"), [("svm", False), ("svm", True), ("softmax", False)])
def test_fine_tuned_layers_detect_and_come_back_from_a_file(
    head: str, beside: bool, train_set: Dataset, test_set: Dataset, pictures: TrainingSet, tmp_path: Path
) -> None:
    """Both heads on the same fine-tuned layers, which are trained once; regressors on either kind of features."""
    kind = {"svm": "layer", "softmax": "pooled"}[head]
    tuning = {**FINE_TUNING, "head": head, "beside_pooled": beside}
    recipe = {**CONFIG, "fine_tuning": tuning, "regression": {"features": kind}}
    config = parse_config(recipe, "test")
    detector = train(config, train_set, train_set.class_names, pictures.cache)
    found = [detector.detect(read_image(each.path)) for each in test_set]
    result = evaluate_voc(by_class([each.image_id for each in test_set], found), test_set, test_set.class_names)
    assert result.mAP > 0.5
    detector.save(tmp_path / "model.safetensors")
    again = Detector.load(tmp_path / "model.safetensors").detect(read_image(test_set[0].path))
    np.testing.assert_array_equal(again.scores, found[0].scores)
    np.testing.assert_array_equal(again.boxes, found[0].boxes)
    assert len(list(pictures.cache.directory.glob("fine-tuning-*"))) == 1


def test_one_picture_cannot_be_held_out_from_itself(pictures: TrainingSet, train_set: Dataset, tmp_path: Path) -> None:
    one = replace(pictures, annotations=train_set.annotations[:1])
    with pytest.raises(ValueError, match="needs two pictures with objects, one to hold out, but there is 1"):
        fine_tune(one, FineTuningConfig(), tmp_path / "state.safetensors")


def test_features_side_by_side_get_equal_shares_of_the_norm(pictures: TrainingSet) -> None:
    n_pooled = pictures.n_features
    weights = np.random.default_rng(0).normal(0, 1 / n_pooled, (5, n_pooled)).astype(np.float16)
    layers = FullyConnected([weights], [np.zeros(5, np.float32)], beside_inputs=True)
    beside = scaled(replace(pictures, layers=layers), 20, True, seed=3)
    assert beside.n_features == n_pooled + 5
    candidates = [beside[index] for index in range(len(beside))]
    features = np.concatenate([each.pool(each.windows) for each in candidates])
    for part in (features[:, :n_pooled], features[:, n_pooled:]):
        assert np.linalg.norm(part, axis=1).mean() == pytest.approx(20 / 2**0.5, rel=0.1)


def test_mirror_images_are_cached_and_learned_from(train_set: Dataset, config: Config, tmp_path: Path) -> None:
    cache = build_cache(config, tmp_path)
    first = train_set[0]
    few = Dataset((first,), train_set.class_names, "one picture")
    fill_cache(cache, few)
    pictures = TrainingSet(few, len(few.class_names), cache)

    def foreground(flips: bool) -> set[float]:
        """Sums of the features of one object's own box, which is the only one above an IoU of 0.999."""
        sampled = RandomBoxes(pictures, np.arange(1), 1 / len(first.boxes), 0.999, (0.998, 0.999), flips)
        draws = [sampled.sample(0, len(first.boxes), np.random.default_rng(seed))[0] for seed in range(12)]
        return {round(float(features.sum()), 1) for features in draws}

    assert foreground(flips=False) <= sums_of_objects(pictures, first.boxes, cache.maps(first.image_id, first.path))
    assert len(list(tmp_path.glob("maps-*"))) == 1
    seen = foreground(flips=True)
    encoder = cache.encoder
    mirror = encoder.maps(np.ascontiguousarray(read_image(first.path)[:, ::-1]))
    mirrored = cache.mirrored_maps(first.image_id, first.path)
    np.testing.assert_array_equal(mirrored.maps[0], mirror.maps[0].astype(np.float16))
    of_mirror = sums_of_objects(pictures, flip(first.boxes, mirrored.image_size[1]), mirrored)
    assert seen & of_mirror
    assert seen - of_mirror
    assert len(list(tmp_path.glob("maps-*"))) == 2


def sums_of_objects(pictures: TrainingSet, boxes: Boxes, maps: FeatureMaps) -> set[float]:
    pooled = pictures.cache.encoder.pool(maps, pictures.cache.encoder.windows(maps, boxes))
    return {round(float(each.sum()), 1) for each in pooled}
