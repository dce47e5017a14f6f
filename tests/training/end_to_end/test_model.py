"""From an end-to-end training to a model: images whose features are computed, and images held out for calibration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.build import build_cache
from detector.config.detector import Config
from detector.datasets.dataset import Dataset
from detector.pipeline import Detector
from detector.training.calibration import held_out_ids
from detector.training.end_to_end.training import EndToEndTraining, train_end_to_end
from detector.training.proposal_filter import proposal_filter_images
from detector.training.train import train
from detector.training.training_set import TrainingSet
from tests.training.end_to_end.recipe import recipe

STEPS = {"first_layer": "conv5", "steps": 1, "images_per_step": 1}


def trained(
    config: Config, train_set: Dataset, folder: Path, after: Callable[[], object] = tuple
) -> tuple[Detector, set[str]]:
    """Return a detector of a short end-to-end training, and the ids of the images whose features it computed.

    ``after`` is called when the end-to-end training is over.
    """

    def progress(items: Any, title: str) -> Any:
        yield from items
        if "end-to-end" in title:
            after()

    cache = build_cache(config, folder / "cache")
    detector = train(config, train_set, train_set.class_names, cache, progress)
    own = detector.cache(folder / "cache")
    assert own.maps_directory != cache.maps_directory and not cache.maps_directory.exists()
    return detector, {each.image_id for each in train_set if own.is_complete(each.image_id)}


def test_no_features_are_computed_if_all_was_trained_end_to_end(train_set: Dataset, tmp_path: Path) -> None:
    detector, asked = trained(recipe(end_to_end=STEPS, calibration={"enabled": False}), train_set, tmp_path)
    assert asked == set()
    assert detector.heads.proposal_filter is None
    first, second = detector.heads.regressors
    assert not np.array_equal(first.weights, second.weights)


@pytest.mark.all
def test_only_images_of_the_proposal_filter_are_computed(train_set: Dataset, tmp_path: Path) -> None:
    proposal_filter = {"enabled": True, "images": 5, "levels": [1], "boxes": 20}
    config = recipe(end_to_end=STEPS, calibration={"enabled": False}, proposal_filter=proposal_filter)
    detector, asked = trained(config, train_set, tmp_path)
    rows = proposal_filter_images(len(train_set), config.proposal_filter)
    assert len(rows) == 5
    assert asked == {train_set[row].image_id for row in rows}
    assert detector.heads.proposal_filter is not None


def test_images_of_the_calibration_are_held_out(
    train_set: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[str] = []
    run = EndToEndTraining.run

    def watched(self: EndToEndTraining, *arguments: Any) -> None:
        learned.extend(each.image_id for each in self.images.annotations)
        run(self, *arguments)

    monkeypatch.setattr(EndToEndTraining, "run", watched)
    config = recipe(end_to_end=STEPS, calibration={"enabled": True, "held_out": 0.25})
    detector, asked = trained(config, train_set, tmp_path)
    images = TrainingSet(train_set.annotations, 3, build_cache(config, tmp_path / "cache"), difficult=True)
    names = held_out_ids(images, config)
    assert len(names) == 6
    assert set(learned) == {each.image_id for each in train_set} - names
    assert asked == names
    assert detector.heads.calibration is not None
    learned.clear()
    config = config.model_copy(update={"calibration": config.calibration.model_copy(update={"enabled": False})})
    train_end_to_end(config, images)
    assert len(learned) == len(train_set)


@pytest.mark.all
def test_a_held_out_image_that_cannot_be_read_any_more_is_left_out(train_set: Dataset, tmp_path: Path) -> None:
    config = recipe(end_to_end=STEPS, calibration={"enabled": True, "held_out": 0.25})
    images = TrainingSet(train_set.annotations, 3, build_cache(config, tmp_path / "cache"), difficult=True)
    row = int(images.rows_of(held_out_ids(images, config))[0])
    path = tmp_path / "held out.png"
    path.write_bytes(train_set[row].path.read_bytes())
    annotations = [*train_set]
    annotations[row] = replace(annotations[row], path=path)
    theirs = replace(train_set, annotations=tuple(annotations))
    detector, asked = trained(config, theirs, tmp_path, after=lambda: path.write_bytes(b"gone"))
    assert len(asked) == 5
    assert train_set[row].image_id not in asked
    assert detector.heads.calibration is not None
