"""R-CNN's warped boxes, against pixels counted by hand and against the network on one crop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from benchmarks.crops import MEAN, SIDE, CropCache, CropEncoder, warp
from benchmarks.rcnn import compare
from benchmarks.rcnn_methods import METHODS, RCNN, Comparison, Method, recipe
from detector.backbones.backbone import load_backbone
from detector.backbones.torch_backbone import load_torch_backbone
from detector.boxes import Boxes, as_boxes
from detector.config.detector import Config, FeatureConfig, SVMConfig
from detector.datasets.dataset import Annotation, Dataset
from detector.detections import Detections
from detector.images.files import write_image

FILL = (1, 2, 3)


@pytest.fixture(scope="module")
def encoder() -> CropEncoder:
    return CropEncoder(load_torch_backbone("alexnet", weights="random"))


def encode(encoder: CropEncoder, image: NDArray[np.uint8], boxes: Boxes) -> NDArray[np.float32]:
    maps = encoder.maps(image, boxes)
    return encoder.pool(maps, encoder.regions(maps, boxes))


@pytest.fixture
def noise() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(9, 256, (300, 400, 3)).astype(np.uint8)


def test_a_box_of_195_pixels_is_cut_out_with_16_around_it(noise: NDArray[np.uint8]) -> None:
    box = as_boxes([[50, 40, 245, 235]])[0]
    np.testing.assert_array_equal(warp(noise, box, FILL), noise[24:251, 34:261])


def test_outside_of_the_image_is_the_fill(noise: NDArray[np.uint8]) -> None:
    warped = warp(noise, as_boxes([[0, 105, 195, 300]])[0], FILL)
    assert (warped[:, :16] == FILL).all()
    assert (warped[-16:] == FILL).all()
    np.testing.assert_array_equal(warped[:-16, 16:], noise[89:300, 0:211])


def test_each_side_is_stretched_by_itself() -> None:
    image = np.zeros((300, 400, 3), np.uint8)
    image[100:139, 50:245] = 200  # 39 px high: 3.2, rounded to 3, of context above and below become 16
    warped = warp(image, as_boxes([[50, 100, 245, 139]])[0], FILL)
    assert warped.shape == (SIDE, SIDE, 3)
    inside = warped[:, SIDE // 2, 0] > 100
    assert np.flatnonzero(inside)[[0, -1]] == pytest.approx([16, SIDE - 17], abs=1)
    inside = warped[SIDE // 2, :, 0] > 100
    assert np.flatnonzero(inside)[[0, -1]].tolist() == [16, SIDE - 17]


def test_without_context_the_box_fills_the_crop(noise: NDArray[np.uint8]) -> None:
    box = as_boxes([[50, 40, 50 + SIDE, 40 + SIDE]])[0]
    np.testing.assert_array_equal(warp(noise, box, FILL, context=0), noise[40 : 40 + SIDE, 50 : 50 + SIDE])


def test_squares_are_not_stretched(noise: NDArray[np.uint8]) -> None:
    box = as_boxes([[50, 100, 245, 139]])[0]  # the square around it is 195 px high, from 22 to 217
    np.testing.assert_array_equal(warp(noise, box, FILL, square=True), noise[6:233, 34:261])


def test_crops_of_another_kind_are_other_features(encoder: CropEncoder, tmp_path: Path) -> None:
    folders = {
        CropCache(tmp_path, replace(encoder, **changes), lambda image: as_boxes([]), {}).maps_directory
        for changes in ({}, {"context": 0}, {"square": True})
    }
    assert len(folders) == 3


def test_c_is_chosen_on_training_images_that_were_not_learned_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    empty = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    annotations = tuple(Annotation(str(number), tmp_path / "none", *empty) for number in range(10))
    sets = Dataset(annotations, ("cat",), "ten"), Dataset(annotations[:1], ("cat",), "test")
    asked = []

    def precision(self: Comparison, method: Method, config: Config) -> float:
        asked.append([[each.image_id for each in dataset] for dataset in (self.train_set, self.test_set)])
        return -abs(config.svm.C - 3.0)

    monkeypatch.setattr(Comparison, "precision", precision)
    configs = {c: recipe(METHODS[RCNN], FeatureConfig(), Config(svm=SVMConfig(C=1.0)), 500, c) for c in (1.0, 3.0, 9.0)}
    assert Comparison(*sets, tmp_path).best_c(METHODS[RCNN], configs) == 3.0
    assert asked == [[list("12346789"), list("05")]] * 3


def test_precisions_are_grouped_by_size_and_shape() -> None:
    """One method finds both cats, the other the large one alone, which is tall."""
    boxes = np.array([[0, 0, 100, 200], [300, 0, 320, 20]], np.float32)
    truth = Annotation("1", Path("none"), boxes, np.zeros(2, np.int64), np.zeros(2, np.bool_))
    dataset = Dataset((truth,), ("cat",), "one")
    scores = np.array([2.0, 1.0], np.float32)
    found = {
        RCNN: [Detections(boxes, np.zeros(2, np.int64), scores, ("cat",))],
        "SPP, 1 scale": [Detections(boxes[:1], np.zeros(1, np.int64), scores[:1], ("cat",))],
    }
    table = compare(found, dataset)
    assert table[RCNN]["mAP"] == 1
    assert table["SPP, 1 scale"]["mAP"] == pytest.approx(6 / 11)
    assert table["SPP, 1 scale"]["minus_rcnn"][0] == pytest.approx(-5 / 11)
    groups = table["SPP, 1 scale"]["groups"]
    assert (groups["small"], groups["large"], groups["tall"], groups["square"]) == (0, 1, 1, 0)


def test_features_are_those_of_the_network_on_the_crop(encoder: CropEncoder, noise: NDArray[np.uint8]) -> None:
    boxes = as_boxes([[50, 40, 245, 235], [0, 0, 80, 300]])
    features = encode(encoder, noise, boxes)
    crops = [noise[24:251, 34:261], warp(noise, boxes[1], MEAN["alexnet"])]
    # 13 x 13 cells: the release's windows of 3 x 3 cells at stride 2
    maps = [torch.from_numpy(encoder.backbone.feature_map(crop)).permute(2, 0, 1) for crop in crops]
    expected = [F.max_pool2d(each, 3, 2).flatten().numpy() for each in maps]
    assert features.shape == (2, encoder.n_features) == (2, 9216)
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4)


def test_stored_rows_are_found_by_their_boxes(encoder: CropEncoder, noise: NDArray[np.uint8], tmp_path: Path) -> None:
    write_image(tmp_path / "noise.png", noise)
    truths, proposals = as_boxes([[5, 5, 60, 60]]), as_boxes([[0, 0, 100, 100], [5, 5, 60, 60]])
    cache = CropCache(tmp_path, encoder, lambda image: proposals, {}, ground_truth={"noise": truths})
    for _ in range(2):
        rows = cache.maps("noise", tmp_path / "noise.png")
        regions = encoder.regions(rows, proposals)
        assert regions[:, 0].tolist() == [1, 0]  # a proposal that is a true box is the same sample
        np.testing.assert_allclose(encoder.pool(rows, regions), encode(encoder, noise, proposals), rtol=2e-3, atol=1e-4)
    assert cache.is_complete("noise")
    with pytest.raises(ValueError, match=r"no features of box \[1.0"):
        encoder.regions(rows, as_boxes([[1, 1, 2, 2]]))


def test_crops_are_convolved_by_any_runtime(noise: NDArray[np.uint8]) -> None:
    boxes = as_boxes([[50, 40, 245, 235], [0, 0, 80, 300]])
    openvino = CropEncoder(load_backbone("efficientnet_lite0", "blocks.2", precision="float32"))
    torch_one = CropEncoder(load_torch_backbone("efficientnet_lite0", "blocks.2", precision="float32"))
    assert openvino.backbone.runtime == "openvino"
    expected = encode(torch_one, noise, boxes)
    np.testing.assert_allclose(encode(openvino, noise, boxes), expected, atol=1e-3 * np.abs(expected).max())
