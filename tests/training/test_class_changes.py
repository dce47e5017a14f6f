"""Classes added to a trained model and removed from it, by the script, on synthetic images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detector.build import build_cache
from detector.config.detector import parse_config
from detector.heads.fully_connected import FullyConnected, Softmax
from detector.images.files import read_image
from detector.pipeline import Detector
from detector.training.class_changes import add_classes, remove_class
from detector.training.train import train
from tests.fakes import CONFIG, with_heads
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


def test_removing_a_class_leaves_the_others_bits(root: Path) -> None:
    done = spp("train", "--model", "three", "--remove-class", "square", "--output", "changed", cwd=root)
    assert done.returncode == 0, done.stderr
    three, changed = Detector.load(root / "three"), Detector.load(root / "changed")
    assert changed.class_names == ("circle", "triangle")
    np.testing.assert_array_equal(changed.heads.scorer.weights, three.heads.scorer.weights[:, [0, 2]])
    np.testing.assert_array_equal(changed.heads.scorer.biases, three.heads.scorer.biases[[0, 2]])
    assert changed.heads.regressors is not None and three.heads.regressors is not None
    np.testing.assert_array_equal(changed.heads.regressors.weights, three.heads.regressors.weights[[0, 2]])
    np.testing.assert_array_equal(changed.heads.regressors.biases, three.heads.regressors.biases[[0, 2]])


def test_an_added_class_is_found_and_leaves_the_others_bits(root: Path) -> None:
    done = spp(
        "train",
        "--model",
        "two",
        "--add-class",
        "triangle",
        "--cache",
        "cache",
        *DATA,
        "--output",
        "added",
        cwd=root,
    )
    assert done.returncode == 0, done.stderr
    two, added = Detector.load(root / "two"), Detector.load(root / "added")
    assert added.class_names == ("circle", "square", "triangle")
    np.testing.assert_array_equal(added.heads.scorer.weights[:, :2], two.heads.scorer.weights)
    np.testing.assert_array_equal(added.heads.scorer.biases[:2], two.heads.scorer.biases)
    assert added.heads.regressors is not None and two.heads.regressors is not None
    np.testing.assert_array_equal(added.heads.regressors.weights[:2], two.heads.regressors.weights)
    assert added.record["added"]["triangle"]["images"] == 24
    test_set = write_synthetic_voc(root / "new", 8, seed=5, split="test")
    images = [each for each in test_set if (each.labels == 2).any()]
    found = [added.detect(read_image(each.path), min_score=-0.5) for each in images]
    assert np.mean([(each.labels == 2).any() for each in found]) > 0.6
    assert remove_class(added, "triangle").record == {"added": {}}


def test_the_record_drops_the_map_of_other_classes(root: Path) -> None:
    three = replace(Detector.load(root / "three"), record={"mAP": 0.5, "trained_on": "x"})
    assert remove_class(three, "circle").record == {"trained_on": "x"}


def test_models_that_do_not_fit_are_refused(root: Path) -> None:
    two, three = Detector.load(root / "two"), Detector.load(root / "three")
    with pytest.raises(ValueError, match="has the class 'circle' already; remove it first"):
        add_classes(two, three)
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
    maps, proposals, total = done.stdout.splitlines()
    assert maps.startswith("maps-") and ": 24 images, " in maps and "short_sides [320]" in maps
    assert proposals.startswith("proposals-") and "max_boxes 300" in proposals
    assert total.startswith("cache: ")


def test_the_classes_of_a_softmax_stay_together(root: Path) -> None:
    three = Detector.load(root / "three")
    weights = np.zeros((three.encoder.n_features, 4), np.float32)
    softmax = with_heads(three, scorer=Softmax(weights, np.zeros(4, np.float32)))
    for change in (lambda: remove_class(softmax, "square"), lambda: add_classes(softmax, three)):
        with pytest.raises(ValueError, match="scores with a softmax, whose classes are trained together"):
            change()


def test_a_class_is_added_on_the_layers_that_are_there(root: Path) -> None:
    dataset = write_synthetic_voc(root / "voc", 24, seed=1)
    config = parse_config(CONFIG, "test")
    cache = build_cache(config, root / "cache")
    random = np.random.default_rng(0)
    values = random.normal(0, 0.01, (32, cache.encoder.n_features)).astype(np.float16)
    layers = FullyConnected([values], [np.zeros(32, np.float32)])
    two, one = (
        train(config, part, part.class_names, cache, layers=layers) for part in (dataset, dataset.only("circle"))
    )
    assert two.heads.layers is layers is one.heads.layers
    with pytest.raises(ValueError, match="has the class 'circle' already"):
        add_classes(two, one)
    both = add_classes(remove_class(two, "circle"), one)
    assert both.heads.layers is layers
    assert both.heads.scorer.weights.shape == (layers.n_features, 3)
