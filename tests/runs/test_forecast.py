"""The cost of a training, from steps whose time and size are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.boxes import as_boxes
from detector.config.detector import parse_config
from detector.datasets.dataset import Dataset
from detector.features.encoder import RegionEncoder
from detector.runs import forecast as module
from detector.runs.forecast import Forecast, forecast
from detector.training.train import with_record
from tests.fakes import MeanOfCells, fake_detector
from tests.training.small import annotation, image_of

RECIPE = parse_config({}, "test")


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three images; of the second and third, features take 3 and 5 s and pooling 1 s, of clock or processors."""
    backbone: Any = MeanOfCells()
    encoders = {(RECIPE.features.backbone, "cpu"): RegionEncoder(backbone, short_sides=(160,), levels=(2, 1))}
    proposers = {2000: lambda image: as_boxes([[0, 0, 64, 64]] * 10)}
    monkeypatch.setattr(module, "build_encoder", lambda config, device: encoders[config.backbone, device])
    monkeypatch.setattr(module, "build_proposer", lambda config: proposers[config.max_boxes])
    moments = [(0, 0), (50, 50), (90, 90)]  # the first one warms up
    moments += [(100, 100), (103, 109), (105, 110), (200, 200), (206, 205), (211, 206)]
    clock = iter([np.array(each, np.float64) for each in moments])
    monkeypatch.setattr(module, "_clocks", lambda: next(clock))
    return [image_of(tmp_path, name, [([0, 0, 64, 64], 0)]) for name in "abc"]


def test_costs_are_those_of_the_measured_images_times_their_number(paths: list[Path]) -> None:
    found = forecast(RECIPE, paths, 1000, 20)
    # the lesser of clock and processors: 3 and 1 of the second image, 5 and 1 of the third
    assert found.cache_seconds == pytest.approx(1000 * 4)
    n_features, n_samples = 15, 1000 * 40
    # positives, mining and regressors of all images, and detection in a fifth of them
    planned = 1000 * (0.02 + 0.13 + 0.03) + 200 * 0.3
    assert found.training_seconds == pytest.approx(1 / 0.04 * planned)
    assert found.memory_bytes == pytest.approx(1.2e9 + n_samples * n_features * 2)
    # a map of 10 x 10 cells of 3 halves, and 10 boxes of 4 singles, with a header between
    assert found.disk_bytes / 1000 == pytest.approx(600 + 160, abs=120)


def test_mirror_images_are_images_to_learn_from(paths: list[Path]) -> None:
    found = forecast(parse_config({"svm": {"flips": True}}, "test"), paths, 1000, 20)
    n_samples = 2000 * 40
    assert found.cache_seconds == pytest.approx(2000 * 4)
    # only the SVMs learn from mirrored images
    planned = 2000 * (0.02 + 0.13) + 1000 * 0.03 + 200 * 0.3
    assert found.training_seconds == pytest.approx(1 / 0.04 * planned)
    assert found.memory_bytes == pytest.approx(1.2e9 + n_samples * 15 * 2)
    assert found.disk_bytes / 2000 == pytest.approx(600 + 160, abs=120)


def test_samples_are_no_more_than_the_recipe_or_memory_allows(paths: list[Path]) -> None:
    few = parse_config({"svm": {"max_samples": 100}}, "test")
    assert forecast(few, paths, 1000, 20).memory_bytes == pytest.approx(1.2e9 + 100 * 15 * 2)


def test_memory_is_bounded(paths: list[Path]) -> None:
    assert forecast(RECIPE, paths, 10**9, 20).memory_bytes == pytest.approx(1.2e9 + 2.5e9)


def test_without_an_image_nothing_is_measured(paths: list[Path]) -> None:
    with pytest.raises(ValueError, match="no image to measure the training with"):
        forecast(RECIPE, [], 10, 2)


def test_one_image_alone_counts(paths: list[Path]) -> None:
    assert forecast(RECIPE, paths[:1], 10, 2).cache_seconds == pytest.approx(10 * 50)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (89.4, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (36_000, "10.0 h")],
)
def test_durations_are_rounded(seconds: float, words: str) -> None:
    text = str(Forecast(seconds, 60 * 20, 3.14e9, 2.5e8))
    assert text == (
        f"an estimate, with this machine as busy as now: {words} for features, 20 min for learning, "
        "3.1 GB of memory, 0.25 GB of disk"
    )


def test_a_model_records_its_training() -> None:
    images = [annotation("a", Path("a.png"), [((0, 0, 10, 40), 0), ((0, 0, 90, 90), 0)])] * 3
    earlier = replace(fake_detector(), record={"images": 9, "mAP": 0.5})
    record = with_record(earlier, Dataset(images, ("red",), "mine train"), 10.6).record
    assert (record["trained_on"], record["images"], record["seconds"], record["mAP"]) == ("mine train", 3, 11, 0.5)
    assert len(record["date"].split("-")) == 3
    # the smallest tenth of the objects
    assert record["object_side"] == 20
