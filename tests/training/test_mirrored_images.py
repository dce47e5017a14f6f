"""SVMs on mirrored images: cells and features by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.config.detector import SVMConfig, parse_config
from detector.datasets.dataset import Annotation
from detector.features.cache import FeatureCache
from detector.features.encoder import RegionEncoder
from detector.images.files import write_image
from detector.training.svm.training import train_svms
from detector.training.train import train
from detector.training.training_set import TrainingSet
from tests.fakes import MeanOfCells, colored
from tests.training.small import annotation, image_of, small_cache, small_set


def test_mirror_images_come_after_the_images(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_image(path, colored())
    backbone: Any = MeanOfCells()
    boxes = np.array([[0, 0, 48, 64], [80, 0, 128, 64]], np.float32)
    encoder = RegionEncoder(backbone, short_sides=(160,), levels=(1,), margin=0)
    cache = FeatureCache(tmp_path / "cache", encoder, lambda image: boxes, {})
    red = Annotation("a", path, np.array([[0, 0, 64, 64]], np.float32), np.zeros(1, np.int64), np.zeros(1, np.bool_))
    assert len(TrainingSet([red], 1, cache)) == 1
    images = TrainingSet([red], 1, cache, flips=True)
    assert len(images) == 2
    plain, mirror = images[0], images[1]
    # of ten cells the first four are the object; in the mirror image, the last four
    assert plain.regions.tolist() == [[0, 0, 0, 4, 4], [0, 0, 0, 3, 4], [0, 5, 0, 8, 4]]
    assert mirror.regions.tolist() == [[0, 6, 0, 10, 4], [0, 7, 0, 10, 4], [0, 2, 0, 5, 4]]
    assert mirror.targets.tolist() == plain.targets.tolist() == [[1], [0], [-1]]
    assert mirror.features(slice(None)).tolist() == plain.features(slice(None)).tolist()
    assert plain.features(slice(0, 1)).tolist() == [[250, 0, 0]]
    # what is asked for by the image has no mirror images in it
    assert images.object_counts().tolist() == [1]


def test_without_an_image_its_mirror_image_is_left_out_too(tmp_path: Path) -> None:
    squares = {"a": [([0, 0, 64, 64], 0)], "b": [([48, 0, 112, 64], 0)], "c": [([96, 96, 160, 160], 0)]}
    boxes = {name: [[80, 80, 144, 144], [0, 96, 64, 160]] for name in squares}
    images = replace(small_set(tmp_path, squares, boxes), n_classes=1)
    svm = SVMConfig(loss="squared_hinge", C=0.1, flips=True)
    trained = train_svms(images, svm, tmp_path / "state")
    part = np.array([1])
    before = trained.without(part)
    assert sorted(set(trained.buffer.keys[:, 0].tolist())) == [*range(6)]
    own = np.isin(trained.buffer.keys[:, 0], (1, 4))  # the image and its mirror image
    trained.buffer.features[own] = 9
    np.testing.assert_array_equal(trained.without(part).weights, before.weights)
    trained.buffer.features[~own] *= 2
    assert (trained.without(part).weights != before.weights).any()


@pytest.mark.parametrize(("flips", "learns"), [(None, True), (False, False)])
def test_training_says_in_the_model_whether_few_images_were_mirrored(
    flips: bool | None, learns: bool, tmp_path: Path
) -> None:
    red = annotation("a", image_of(tmp_path, "a", [([0, 0, 64, 64], 0)]), [([0, 0, 64, 64], 0)])
    cache = small_cache(tmp_path, {"a": [[80, 80, 144, 144]]})
    content = {"svm": {"flips": flips}, "regression": {"enabled": False}, "calibration": {"enabled": False}}
    detector = train(parse_config(content, "recipe"), [red], ["red"], cache)
    assert detector.config is not None
    assert detector.config.svm.flips is learns
    assert cache.is_complete("a", mirrored=True) is learns
