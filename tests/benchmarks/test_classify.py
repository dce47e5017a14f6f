"""VOC classification from frozen features: precisions by hand, features cached on disk, the choice of C."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import classify
from detector.backbones.torch_backbone import load_torch_backbone
from detector.datasets.image_classes import LabeledImages
from detector.heads.linear import LinearSVMs
from detector.images.files import write_image


def test_ignored_images_are_left_out() -> None:
    svms = LinearSVMs(np.ones((1, 2), np.float32), np.zeros(2, np.float32))
    features = np.array([[4], [3], [2], [1]], np.float32)
    targets = np.array([[0, 1], [1, -1], [-1, 1], [1, -1]], np.int8)
    # of the first class: true, false, true; precision 1 up to recall 1/2, then 2/3; of the second: true, false, true
    expected = (6 * 1 + 5 * 2 / 3) / 11
    np.testing.assert_allclose(classify.precisions(svms, features, targets), [expected, expected])


def test_features_are_unit_rows_and_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    paths = tuple(tmp_path / f"{number}.png" for number in range(2))
    for path in paths:
        write_image(path, rng.integers(0, 256, (60, 90, 3)).astype(np.uint8))
    images = LabeledImages(paths, np.ones((2, 1), np.int8), ("cat",), False, "pets")
    backbone = load_torch_backbone("zf5/0.05", weights="random")
    store = classify.FeatureStore(backbone, tmp_path / "cache")
    features = store.features(images, "full 224", (6, 3, 2, 1))
    assert features.shape == (2, 50 * backbone.channels)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    finest = store.features(images, "full 224", (6,))
    start = features[:, : 36 * backbone.channels]
    np.testing.assert_allclose(finest, start / np.linalg.norm(start, axis=1, keepdims=True), rtol=1e-5)

    (damaged, _) = sorted((tmp_path / "cache").rglob("*.safetensors"))
    damaged.write_bytes(b"")
    np.testing.assert_array_equal(store.features(images, "full 224", (6, 3, 2, 1)), features)
    monkeypatch.setattr(classify, "read_image", None)  # not needed any more
    np.testing.assert_array_equal(store.features(images, "full 224", (6, 3, 2, 1)), features)


def test_c_is_one_of_those_tried() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 8)).astype(np.float32)
    targets = np.where(features[:, :2] > 0, 1, -1).astype(np.int8)
    found = classify.learn(features[:40], targets[:40], features[40:], targets[40:])
    assert found["C"] in classify.COSTS
    assert found["mAP"] == pytest.approx(np.mean(found["AP"]))
    assert found["mAP"] > 0.9
