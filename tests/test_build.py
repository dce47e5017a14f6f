"""Every key of a recipe about boxes and features reaches the stage that it is about, seen in what that makes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from skimage.data import chelsea

from detector.backbones.loading import load_network
from detector.boxes import Boxes, as_boxes
from detector.build import build_encoder, build_heads, build_proposer, proposer_key
from detector.config.detector import Config, FeatureConfig, ProposalConfig
from detector.features.encoder import FeatureMaps, RegionEncoder
from detector.features.mapping import boxes_to_cells
from detector.heads.fully_connected import FullyConnected
from detector.heads.heads import Heads
from detector.heads.linear import LinearSVMs
from detector.proposals.selective_search import propose_reduced, selective_search
from detector.proposals.sources import selectivesearch_package

PHOTOGRAPH: NDArray[np.uint8] = cv2.resize(chelsea(), (112, 75), interpolation=cv2.INTER_AREA)

# another value of every key, and the boxes that it should give, by a call that names it
OF_PROPOSALS: dict[str, tuple[Any, Any]] = {
    "source": ("selectivesearch", lambda image: selectivesearch_package(image, max_boxes=30, min_side=12)),
    "mode": ("single", lambda image: searched(image, mode="single")),
    "ranking": ("random", lambda image: searched(image, ranking="random")),
    "max_boxes": (11, lambda image: searched(image, max_boxes=11)),
    "min_side": (25, lambda image: searched(image, min_side=25)),
    "max_pixels": (3000, lambda image: propose_reduced(image, searched, 3000)),
    "zoom": (0.7, lambda image: propose_reduced(image, searched, zoom=0.7)),
    "seed": (5, lambda image: searched(image, seed=5)),
}


def searched(image: NDArray[np.uint8], **settings: Any) -> Boxes:
    return selective_search(image, **{"max_boxes": 30, "min_side": 12, **settings})


@cache
def proposed(**settings: Any) -> NDArray[np.float32]:
    return build_proposer(ProposalConfig(**{"max_boxes": 30, "min_side": 12, **settings}))(PHOTOGRAPH)


@pytest.mark.parametrize("key", ProposalConfig.model_fields)
def test_a_key_of_the_proposals_changes_the_boxes(key: str) -> None:
    value, expected = OF_PROPOSALS[key]
    found = proposed(**{key: value})
    np.testing.assert_array_equal(found, expected(PHOTOGRAPH))
    np.testing.assert_array_equal(proposed(), searched(PHOTOGRAPH))
    assert not np.array_equal(found, proposed())


def test_boxes_of_another_source_obey_the_limits_that_it_has() -> None:
    found = proposed(source="selectivesearch", max_boxes=3, min_side=30)
    assert 0 < len(found) <= 3
    assert (found[:, 2:] - found[:, :2]).min() >= 30


def test_opencvs_own_search_gets_what_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("detector.proposals.sources.opencv_contrib", lambda image, **rest: seen.append(rest))
    settings: dict[str, Any] = {"mode": "quality", "max_boxes": 7, "min_side": 9, "seed": 11}
    build_proposer(ProposalConfig(source="opencv", ranking="random", max_pixels=None, **settings))(PHOTOGRAPH)
    assert seen == [settings]


def test_sources_that_give_equal_boxes_have_equal_keys() -> None:
    config = ProposalConfig()
    assert proposer_key(build_proposer(config)) == proposer_key(build_proposer(config.model_copy()))
    for key, (value, _) in OF_PROPOSALS.items():
        other = build_proposer(config.model_copy(update={key: value}))
        assert proposer_key(other) != proposer_key(build_proposer(config)), key
    assert proposer_key(searched) is searched


# 300 x 400, and twice that: an object of 165 pixels is nearer to 224 in area as it is, and in zoom when enlarged
SHORT_SIDES = (180, 300)
IMAGE: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (180, 240, 3), np.uint8)
BOXES = as_boxes([[10, 10, 175, 175], [3, 5, 100, 90], [0, 0, 240, 180], [100, 60, 180, 140]])
PLAIN: dict[str, Any] = {"backbone": "zf5/0.05", "weights": "random", "short_sides": SHORT_SIDES, "levels": (2, 1)}
OF_FEATURES: dict[str, Any] = {
    "backbone": "zf5/0.1",
    "stage": "relu3",
    "weights": "FILE",
    "precision": "bfloat16",
    "short_sides": (150, 300),
    "levels": (3, 2),
    "margin": 9.0,
    "target": 100.0,
    "scale_rule": "side",
    "power": 0.5,
}


@cache
def encoded(folder: Path, **settings: Any) -> tuple[RegionEncoder, FeatureMaps, NDArray[np.int64], NDArray[np.float32]]:
    files = {"FILE": "weights"}
    given = {key: str(folder / files[value]) if value in files else value for key, value in settings.items()}
    encoder = build_encoder(FeatureConfig(**{**PLAIN, "precision": "float32", **given}))
    maps = encoder.maps(IMAGE)
    regions = encoder.regions(maps, BOXES)
    return encoder, maps, regions, encoder.pool(maps, regions)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with weights of all layers."""
    folder = tmp_path_factory.mktemp("weights")
    random = torch.Generator().manual_seed(0)
    state = load_network("zf5/0.05", None, "random").module.network.state_dict()
    others = {name: torch.randn(each.shape, generator=random) / 10 for name, each in state.items()}
    save_file(others, folder / "weights")
    return folder


# by another runtime features are the same, but for rounding
@pytest.mark.parametrize("key", [key for key in FeatureConfig.model_fields if key != "runtime"])
def test_a_key_of_the_features_changes_the_features(key: str, folder: Path) -> None:
    encoder, maps, regions, features = encoded(folder, **{key: OF_FEATURES[key]})
    plain, plain_maps, plain_regions, plain_features = encoded(folder)
    assert plain.backbone.precision == "float32"
    assert features.shape != plain_features.shape or not np.allclose(features, plain_features, rtol=1e-4)
    same_maps = all(np.array_equal(a, b) for a, b in zip(maps.maps, plain_maps.maps, strict=True))
    # what is about the pooling leaves the maps as they are, and what is about the network the cells
    assert same_maps == (key in ("levels", "margin", "target", "scale_rule", "power"))
    assert np.array_equal(regions, plain_regions) == (key not in ("margin", "target", "scale_rule", "short_sides"))
    if key in ("short_sides", "levels", "margin", "target", "scale_rule"):
        assert getattr(encoder, key) == OF_FEATURES[key]
    elif key in ("stage", "precision"):
        assert getattr(encoder.backbone, key) == OF_FEATURES[key]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_layers_are_as_precise_as_the_network(precision: Any) -> None:
    encoder = build_encoder(FeatureConfig(**PLAIN, precision=precision, runtime="torch"))
    one = np.ones((encoder.n_features, 1), np.float16)
    svms = LinearSVMs(np.ones((1, 1), np.float32), np.zeros(1, np.float32))
    made = Heads(svms, layers=FullyConnected([one.T], [np.zeros(1, np.float32)]))
    layers = build_heads(made.to_arrays(), Config(), encoder).layers
    assert layers is not None and (layers.precision, layers.runtime) == (precision, "torch")


def test_the_runtime_computes_the_network() -> None:
    for runtime in ("torch", "openvino"):
        config = FeatureConfig(stage="bn1", short_sides=(64,), runtime=runtime)
        assert build_encoder(config).backbone.runtime == runtime


def test_keys_of_the_mapping_do_what_they_say(folder: Path) -> None:
    encoder, maps, regions, _ = encoded(folder)
    geometry = encoder.backbone.geometry
    # sqrt(area) 165, 91, 208 and 80, or 5/3 of these, nearest to 224
    assert regions[:, 0].tolist() == [0, 1, 0, 1]
    assert encoded(folder, scale_rule="side")[2][:, 0].tolist() == [1, 1, 0, 1]
    assert encoded(folder, target=100.0)[2][:, 0].tolist() == [0, 0, 0, 0]
    grown = encoded(folder, margin=9.0)[2]
    assert grown[:, 0].tolist() == [0, 1, 0, 1]
    for box, region in zip(BOXES, grown, strict=True):
        scale = region[0]
        cells = boxes_to_cells(
            box[None], maps.zooms[scale], geometry.stride, geometry.offset, maps.maps[scale].shape[:2], 9.0
        )
        assert region[1:].tolist() == cells[0].tolist()
    # a cell more on the sides that are not those of the image
    assert (grown[3, 1:] - regions[3, 1:]).tolist() != [0, 0, 0, 0]


def test_powers_are_of_the_pooled_values(folder: Path) -> None:
    plain, rooted = encoded(folder)[3], encoded(folder, power=0.5)[3]
    np.testing.assert_allclose(rooted, np.sqrt(plain), rtol=1e-6)
    quarter = encoded(folder, power=0.25)[3]
    np.testing.assert_allclose(quarter, plain**0.25, rtol=1e-5)


def test_weights_given_take_the_place_of_those_that_the_recipe_names(folder: Path) -> None:
    plain = encoded(folder)[0].backbone.tensors
    weights = {**plain, "conv5.weight": np.zeros_like(plain["conv5.weight"])}
    encoder = build_encoder(FeatureConfig(**{**PLAIN, "weights": str(folder / "nowhere")}), weights=weights)
    assert not encoder.backbone.tensors["conv5.weight"].any()
    np.testing.assert_array_equal(encoder.backbone.tensors["conv4.weight"], plain["conv4.weight"])
