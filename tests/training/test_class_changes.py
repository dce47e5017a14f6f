"""Classes added to a trained model and removed from it, by the script, on synthetic images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.build import build_cache
from detector.config.detector import Config, load_config, parse_config
from detector.heads.fully_connected import FullyConnected, Softmax
from detector.heads.linear import LinearSVMs
from detector.pipeline import Detector
from detector.training import class_changes
from detector.training.class_changes import add_classes, remove_class, train_class
from detector.training.train import train
from tests.composites import by_class
from tests.fakes import CONFIG, fake_detector, with_heads
from tests.scripts import spp
from tests.synthetic import write_synthetic_voc

DATA = ("--voc", "voc", "--split", "train")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a VOC folder "voc", its cache, and models of two ("two") and of all three classes ("three")."""
    root = tmp_path_factory.mktemp("classes")
    dataset = write_synthetic_voc(root / "voc", 24, seed=1)
    config = parse_config(CONFIG, "test")
    cache = build_cache(config, root / "cache")
    three = train(config, dataset, dataset.class_names, cache)
    three.save(root / "three")
    remove_class(three, "triangle").save(root / "two")
    return root


def layers_of(weights: NDArray[np.float64], detector: Detector) -> FullyConnected:
    """A layer without biases, computed like the network of a detector."""
    backbone = detector.encoder.backbone
    biases = np.zeros(len(weights), np.float32)
    return FullyConnected([weights.astype(np.float16)], [biases], backbone.precision, runtime=backbone.runtime)


def results(model: Detector, root: Path) -> dict[str, list[Any]]:
    """The detections of each class in two new images, to the bit."""
    images = write_synthetic_voc(root / "new", 8, seed=5, split="test").annotations[:2]
    found = [by_class(model, each.path, min_score=-1.5) for each in images]
    return {name: [each[name] for each in found] for name in model.class_names}


def test_removing_a_class_leaves_the_others_bits(root: Path) -> None:
    done = spp("train", "--model", "three", "--remove-class", "square", "--output", "changed", cwd=root)
    assert done.returncode == 0, done.stderr
    three, changed = Detector.load(root / "three"), Detector.load(root / "changed")
    assert changed.class_names == ("circle", "triangle")
    before, after = results(three, root), results(changed, root)
    assert after == {name: before[name] for name in changed.class_names}


@pytest.mark.all
def test_an_added_class_is_found_and_leaves_the_others_bits(root: Path) -> None:
    command = ("--model", "two", "--add-class", "triangle", "--cache", "cache", *DATA, "--output", "added")
    done = spp("train", *command, cwd=root)
    assert done.returncode == 0, done.stderr
    assert ", on 24 images of the training data, by cross-validation\n" in done.stderr
    two, added = Detector.load(root / "two"), Detector.load(root / "added")
    assert added.class_names == ("circle", "square", "triangle")
    record = added.record["added"]["triangle"]
    assert (record["images"], record["trained_on"]) == (24, "voc train")
    assert record["cross_validation"]["mAP"] > 0.5
    before, after = results(two, root), results(added, root)
    # probabilities are new: all classes must be calibrated to have any
    assert {name: after[name] for name in two.class_names} == before
    # it has box regression, probabilities and a threshold of its own
    (part,) = added.added
    assert part.heads.regressors and part.heads.calibration is not None
    assert not part.too_weak
    test_set = write_synthetic_voc(root / "new", 8, seed=5, split="test")
    images = [each for each in test_set if (each.labels == 2).any()]
    found = [added.detect(each.path, min_score=-0.5) for each in images]
    assert np.mean([(each.labels == 2).any() for each in found]) > 0.6
    # and goes without a trace
    assert remove_class(added, "triangle").contents.arrays.keys() == two.contents.arrays.keys()
    assert remove_class(added, "triangle").record == two.record


def test_added_classes_are_suppressed_and_cut_as_the_others_are() -> None:
    detector = fake_detector().with_detection(nms_iou=0.45, tiles=4, min_score=0.7)
    config = class_changes.recipe_of_added(detector)
    assert (config.detection.nms_iou, config.detection.tiles) == (0.45, 4)
    assert config.detection.min_score == load_config("default").detection.min_score
    assert (config.features, config.proposals) == (detector.config.features, detector.config.proposals)


@pytest.fixture(scope="module")
def triangle(root: Path) -> Detector:
    """A detector of triangles alone, on the feature maps of the others."""
    dataset = write_synthetic_voc(root / "voc", 24, seed=1).only("triangle")
    config = parse_config(CONFIG, "test")
    return train(config, dataset, dataset.class_names, build_cache(config, root / "cache"))


@pytest.mark.parametrize("scorer", ["svm", pytest.param("softmax", marks=pytest.mark.all)])
@pytest.mark.parametrize("layers", [pytest.param(False, marks=pytest.mark.all), True])
def test_any_model_keeps_its_bits_when_classes_come_and_go(
    root: Path, triangle: Detector, scorer: str, layers: bool, tmp_path: Path
) -> None:
    two = Detector.load(root / "two")
    random, n_features = np.random.default_rng(0), two.encoder.n_features
    fc6 = None
    if layers:
        fc6, n_features = layers_of(random.normal(0, 0.1, (32, n_features)), two), 32
    weights = random.normal(0, 0.01, (n_features, 2 + (scorer == "softmax"))).astype(np.float32)
    kind = Softmax if scorer == "softmax" else LinearSVMs
    two = with_heads(two, scorer=kind(weights, np.zeros(weights.shape[1], np.float32)), layers=fc6)
    expected = results(two, root)
    assert all(any(boxes for boxes, _, _ in each) for each in expected.values())
    added = add_classes(two, triangle)
    added.save(tmp_path / "added")
    for model in (added, Detector.load(tmp_path / "added")):
        found = results(model, root)
        assert found.pop("triangle") == results(triangle, root)["triangle"]
        assert found == expected
        less = remove_class(model, "circle")
        less.save(tmp_path / "less")
        for each in (less, Detector.load(tmp_path / "less")):
            assert results(each, root)["square"] == expected["square"]
        assert results(remove_class(model, "triangle"), root) == expected


def test_svms_read_what_cross_validation_prefers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = Detector.load(root / "two")
    on_layers = with_heads(
        two,
        layers=layers_of(np.zeros((4, two.encoder.n_features)), two),
        scorer=LinearSVMs(np.zeros((4, 2), np.float32), np.zeros(2, np.float32)),
    )
    measured: dict[bool, float | None] = {}

    def trained(config: Config, *_: Any, layers: FullyConnected | None = None) -> Detector:
        assert (config.features, config.proposals) == (two.config.features, two.config.proposals)
        assert not config.adaptation.enabled
        record = {"cross_validation": {"mAP": measured[layers is not None]}, "reads": "layers" if layers else "pooled"}
        return replace(two, record=record)

    monkeypatch.setattr(class_changes, "train", lambda *args: trained(*args[:4], layers=(*args[5:], None)[0]))
    dataset = write_synthetic_voc(root / "voc", 24, seed=1)
    cache = two.cache(root / "cache")
    for pooled, layered, expected in ((0.5, 0.6, "layers"), (0.6, 0.5, "pooled"), (None, 0.1, "layers")):
        measured.update({False: pooled, True: layered})
        assert train_class(on_layers, dataset, cache).record["reads"] == expected
    # without layers, there is nothing to choose
    measured.pop(True)
    assert train_class(two, dataset, cache).record["reads"] == "pooled"


def test_the_record_drops_the_map_of_other_classes(root: Path) -> None:
    three = replace(Detector.load(root / "three"), record={"mAP": 0.5, "trained_on": "x"})
    assert remove_class(three, "circle").record == {"trained_on": "x"}


def test_models_that_do_not_fit_are_refused(root: Path) -> None:
    two, three = Detector.load(root / "two"), Detector.load(root / "three")
    with pytest.raises(ValueError, match="has the class 'circle' already; remove it first"):
        add_classes(two, three)
    with pytest.raises(ValueError, match="on the feature maps of another network"):
        add_classes(two, fake_detector())
    with pytest.raises(ValueError, match="no class 'dog'; it has circle, square"):
        remove_class(two, "dog")
    one = remove_class(two, "circle")
    with pytest.raises(ValueError, match="'square' is the model's only class"):
        remove_class(one, "square")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--output", "x"), "give a CONFIG to train by, or data, or the class"),
        (("recipe.yaml", "--remove-class", "dog", "--output", "x"), "give a CONFIG to train by, or"),
        (("--model", "two", "--remove-class", "dog", "--output", "x"), "no class 'dog'; it has circle, square"),
        (("--model", "two", "--add-class", "dog", "--output", "x"), "a dataset is needed: --data PATH, --voc ROOT"),
        (
            ("--model", "two", "--add-class", "dog", "--cache", "c", "--output", "x"),
            "a dataset is needed: --data PATH, --voc ROOT",
        ),
        (
            ("--model", "two", "--add-class", "dog", "--cache", "c", *DATA, "--output", "x"),
            "voc train: no class 'dog'; there are circle, square, triangle",
        ),
    ],
)
def test_mistakes_cost_one_line(root: Path, arguments: tuple[str, ...], message: str) -> None:
    done = spp("train", *arguments, cwd=root)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr
    assert not (root / "x").exists()


def test_the_cache_lists_its_content(root: Path) -> None:
    done = spp("cache", "--cache", "cache", "--cache-info", cwd=root)
    assert done.returncode == 0, done.stderr
    # also those of mirrored images, if a class has been added before
    maps, *_, proposals, total = done.stdout.splitlines()
    assert maps.startswith("maps-") and ": 24 images, " in maps and "short_sides [320]" in maps
    assert proposals.startswith("proposals-") and "max_boxes 300" in proposals
    assert total.startswith("cache: ")


@pytest.mark.all
def test_a_class_is_added_to_the_model_of_the_package(root: Path) -> None:
    """Its other 20 classes keep their bits, whatever scores them."""
    command = ("--add-class", "triangle", "--cache", "shipped", *DATA, "--output", "more")
    done = spp("train", *command, cwd=root)
    assert done.returncode == 0, done.stderr
    shipped, more = Detector.load(), Detector.load(root / "more")
    assert more.class_names == (*shipped.class_names, "triangle")
    before, after = results(shipped, root), results(more, root)
    assert after.pop("triangle")
    assert after == before
    done = spp("train", "--remove-class", "cat", "--model", "more", "--output", "less", cwd=root)
    assert done.returncode == 0, done.stderr
    del before["cat"]
    after = results(Detector.load(root / "less"), root)
    assert after.pop("triangle")
    assert after == before
