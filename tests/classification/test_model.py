"""A trained classifier: images of mixed sizes, views, model file and recipes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detector.backbones.torch_backbone import load_torch_backbone
from detector.classification.model import Classifier
from detector.classification.training import train_classifier
from detector.classification.views import Views, multi_sides, nine_crops, resize_squeezed
from detector.config.classifier import ClassifierConfig, load_classifier_config, parse_classifier_config
from detector.features.mapping import boxes_to_cells
from detector.features.pooling import spatial_pyramid_pool
from detector.runtime.array_files import read_arrays, write_arrays
from tests.fakes import tiny, write_stripes

ROOT = Path(__file__).parents[2]
TRAINING = {"epochs": 1}
PLAIN = tiny(training=TRAINING)
FLAT = tiny(network={"pyramid": None}, training=TRAINING)
FROZEN = tiny(
    network={"backbone": "efficientnet_lite0", "stage": "blocks.1", "weights": None, "frozen": True, "hidden": []},
    training=TRAINING,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Classifier]:
    samples = write_stripes(tmp_path_factory.mktemp("stripes"), 8)
    return {name: train_classifier(config, samples) for name, config in (("plain", PLAIN), ("flat", FLAT))}


@pytest.fixture
def images() -> list[NDArray[np.uint8]]:
    """Five images of four sizes."""
    rng = np.random.default_rng(1)
    sizes = [(60, 80), (90, 50), (60, 80), (33, 200), (48, 48)]
    return [rng.integers(0, 256, (height, width, 3)).astype(np.uint8) for height, width in sizes]


@pytest.mark.parametrize("views", ["one", "ten", "whole", "multi", None])
def test_mixed_sizes_in_one_call_equal_one_by_one(
    views: Views | None, trained: dict[str, Classifier], images: list[NDArray[np.uint8]]
) -> None:
    classifier = trained["plain"]
    together = classifier.scores(images, views)
    alone = np.concatenate([classifier.scores([image], views) for image in images])
    assert together.shape == (5, 2)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-7)
    assert len({row.tobytes() for row in together}) == 5
    assert classifier.scores([], views).shape == (0, 2)


def test_the_whole_image_is_seen_at_the_size_asked_for(
    trained: dict[str, Classifier], images: list[NDArray[np.uint8]]
) -> None:
    classifier = trained["plain"]
    maps = classifier.backbone(resize_squeezed(images[0], 70))[None]
    expected = classifier.head(maps).softmax(1).detach().numpy()
    np.testing.assert_allclose(classifier.scores(images[:1], "whole", 70), expected, rtol=1e-5)
    assert not np.allclose(classifier.scores(images[:1]), expected, rtol=1e-5)


def test_many_views_are_crops_of_maps(trained: dict[str, Classifier], images: list[NDArray[np.uint8]]) -> None:
    """Against numpy's pooling of windows, as detection does it."""
    classifier, whole = trained["plain"], images[1]
    geometry = classifier.backbone.geometry
    rows = []
    for side in multi_sides(48):
        for image in (resize_squeezed(whole, side), resize_squeezed(whole, side)[:, ::-1]):
            feature_map = classifier.backbone(image).permute(1, 2, 0).numpy()
            crops = nine_crops(image.shape[0], image.shape[1], 48)
            cells = boxes_to_cells(crops, 1, geometry.stride, geometry.offset, feature_map.shape[:2])
            rows.append(spatial_pyramid_pool(feature_map, cells, (2, 1)).reshape(len(cells), -1))
    features = np.concatenate(rows)
    assert len(features) == 96
    with torch.inference_mode():
        expected = classifier.head.layers(torch.from_numpy(features)).softmax(1).mean(0).numpy()
    np.testing.assert_allclose(classifier.scores([whole], "multi")[0], expected, rtol=1e-5)


def test_without_a_pyramid_one_size_is_taken(trained: dict[str, Classifier], images: list[NDArray[np.uint8]]) -> None:
    flat = trained["flat"]
    np.testing.assert_array_equal(flat.scores(images), flat.scores(images, "one"))
    assert flat.scores(images, "ten").shape == (5, 2)
    for views in ("whole", "multi"):
        with pytest.raises(
            ValueError, match=f"without a pyramid takes 48 x 48 pixels: use views one or ten, not {views}"
        ):
            flat.scores(images, views)


@pytest.mark.parametrize(
    ("views", "short_side", "message"),
    [
        ("one", 47, "48 to 4096 for views one, but is 47"),
        ("whole", 0, "1 to 4096 for views whole, but is 0"),
        ("whole", 5000, "1 to 4096 for views whole, but is 5000"),
        ("whole", 1, "the network cannot take an image of .* pixels"),
        ("multi", 300, "views multi have fixed sizes"),
    ],
)
def test_sizes_that_do_not_go(
    views: Views, short_side: int, message: str, trained: dict[str, Classifier], images: list[NDArray[np.uint8]]
) -> None:
    with pytest.raises(ValueError, match=message):
        trained["plain"].scores(images, views, short_side)


def test_images_are_checked(trained: dict[str, Classifier]) -> None:
    with pytest.raises(ValueError, match=r"image must be \(H, W, 3\) uint8 RGB"):
        trained["plain"].scores([np.zeros((50, 50), np.uint8)])


@pytest.mark.parametrize("name", ["plain", "flat"])
def test_a_file_holds_the_whole_classifier(
    name: str, trained: dict[str, Classifier], images: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    classifier = replace(trained[name], record={"trained_on": "stripes"})
    classifier.save(tmp_path / "model")
    loaded = Classifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.scores(images), classifier.scores(images))
    assert (loaded.class_names, loaded.exclusive, loaded.config) == (("across", "down"), True, classifier.config)
    assert loaded.record == {"trained_on": "stripes"}
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()


def test_frozen_weights_are_stored(
    images: list[NDArray[np.uint8]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = write_stripes(tmp_path / "pictures", 8, exclusive=False)
    classifier = train_classifier(FROZEN, samples)
    original = load_torch_backbone("efficientnet_lite0", "blocks.1")
    assert classifier.backbone.digest == original.digest
    assert all(name.startswith("head.") for name in classifier.trained)
    classifier.save(tmp_path / "model")

    def missing() -> None:
        raise AssertionError("the model has its weights")

    monkeypatch.setattr("detector.backbones.efficientnet_lite.published_weights", missing)
    loaded = Classifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.scores(images), classifier.scores(images))
    arrays, metadata = read_arrays(tmp_path / "model")
    arrays["backbone.bn1.bias"] = np.ones_like(arrays["backbone.bn1.bias"])
    write_arrays(tmp_path / "other", arrays, metadata)
    with pytest.raises(ValueError, match="weights of efficientnet_lite0"):
        Classifier.load(tmp_path / "other")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"netwrk": {}}, "unknown key 'netwrk'; allowed are network, images, training"),
        ({"network": {"levels": [1]}}, "unknown key 'network.levels'; allowed are backbone, stage, weights,"),
        ({"network": {"weights": "random"}}, "network: weights: random needs frozen: false"),
        ({"network": {"dropout": 1.0}}, "network.dropout: input should be less than 1, but is 1.0"),
        ({"network": {"pyramid": []}}, "network.pyramid"),
        ({"images": {"crop": 300}}, "images: crop must be at most short_side 256"),
        ({"images": {"sizes": [224], "size_rule": "random"}}, "images: size_rule: random needs two ascending sizes"),
        (
            {"network": {"pyramid": None}, "images": {"sizes": [224, 180]}},
            "without a pyramid, images.sizes must be [224], the crop's",
        ),
        ({"training": {"epochs": 0}}, "training.epochs: input should be greater than or equal to 1, but is 0"),
        ([], "must hold sections such as 'network:', but holds list"),
    ],
)
def test_faults_of_recipes_are_named(content: object, message: str) -> None:
    with pytest.raises(ValueError) as fault:
        parse_classifier_config(content, "recipe.yaml")
    assert str(fault.value).startswith(f"recipe.yaml: {message}")
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("name", ["classifier", "classifier_paper"])
def test_recipes_are_valid_and_open_with_their_command(name: str, tmp_path: Path) -> None:
    path = ROOT / "configs" / f"{name}.yaml"
    config = load_classifier_config(path)
    assert parse_classifier_config(config.model_dump(mode="json"), "json") == config
    assert path.read_text(encoding="utf-8").startswith(f"# spp train-classifier {name} ")
    assert load_classifier_config(path, tmp_path).network.weights == str(tmp_path)


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("network: [")
    with pytest.raises(ValueError, match=r"bad\.yaml: is not YAML"):
        load_classifier_config(path)
    path.write_text("")
    assert load_classifier_config(path) == ClassifierConfig()
