"""From the file of a joint training to a model: which images are looked at again, and which were never learned from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from detector.training.end_to_end.network_tuning import tune_network
from safetensors.torch import save_file

from detector.build import build_cache
from detector.config.detector import Config
from detector.datasets.dataset import Dataset
from detector.pipeline import Detector
from detector.training.end_to_end.training import JointTraining
from detector.training.proposal_filter import proposal_filter_images
from detector.training.sampling import validation_split
from detector.training.train import train
from detector.training.training_set import TrainingSet
from tests.training.joint_recipe import recipe

STEPS = {"steps": 1, "images_per_step": 1}


def trained(
    config: Config, train_set: Dataset, folder: Path, between: Callable[[], object] = tuple
) -> tuple[Detector, set[str]]:
    """A detector of the layers of a short joint training, and the ids of the images whose maps it asked for.

    ``between`` is called when the layers are there.
    """
    layers = tune_network(config, train_set, 3, "conv5", folder / "cache")
    save_file(layers, folder / "layers")
    between()
    features = config.features.model_copy(update={"tuned": str(folder / "layers")})
    config = config.model_copy(update={"features": features})
    cache = build_cache(config, folder / "cache")
    detector = train(config, train_set, train_set.class_names, cache)
    return detector, {each.image_id for each in train_set if cache.is_complete(each.image_id)}


def test_nothing_is_computed_where_all_was_learned_before(train_set: Dataset, tmp_path: Path) -> None:
    detector, asked = trained(recipe(end_to_end=STEPS, calibration={"enabled": False}), train_set, tmp_path)
    assert asked == set()
    assert detector.heads.proposal_filter is None


def test_a_proposal_filter_asks_for_its_images_alone(train_set: Dataset, tmp_path: Path) -> None:
    proposal_filter = {"enabled": True, "images": 5, "levels": [1], "boxes": 20}
    config = recipe(end_to_end=STEPS, calibration={"enabled": False}, proposal_filter=proposal_filter)
    detector, asked = trained(config, train_set, tmp_path)
    rows = proposal_filter_images(len(train_set), config.proposal_filter)
    assert len(rows) == 5
    assert asked == {train_set[row].image_id for row in rows}
    assert detector.heads.proposal_filter is not None


def test_images_that_tell_probabilities_were_not_learned_from(
    train_set: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[str] = []
    run = JointTraining.run

    def watched(self: JointTraining, *arguments: Any) -> None:
        learned.extend(each.image_id for each in self.images.annotations)
        run(self, *arguments)

    monkeypatch.setattr(JointTraining, "run", watched)
    config = recipe(end_to_end=STEPS, fine_tuning={"held_out": 0.25}, calibration={"enabled": True})
    detector, asked = trained(config, train_set, tmp_path)
    images = TrainingSet(train_set.annotations, 3, build_cache(config, tmp_path / "cache"), difficult=True)
    held_out = validation_split(images, config.fine_tuning)[1].indices
    assert len(held_out) == 6
    names = {train_set[int(row)].image_id for row in held_out}
    assert set(learned) == {each.image_id for each in train_set} - names
    assert asked == names
    assert detector.heads.calibration is not None
    learned.clear()
    tune_network(replace_calibration(config), train_set, 3, "conv5", tmp_path / "cache")
    assert len(learned) == len(train_set)


def test_a_held_out_image_that_cannot_be_read_any_more_tells_nothing(train_set: Dataset, tmp_path: Path) -> None:
    config = recipe(end_to_end=STEPS, fine_tuning={"held_out": 0.25}, calibration={"enabled": True})
    images = TrainingSet(train_set.annotations, 3, build_cache(config, tmp_path / "cache"), difficult=True)
    row = int(validation_split(images, config.fine_tuning)[1].indices[0])
    path = tmp_path / "held out.png"
    path.write_bytes(train_set[row].path.read_bytes())
    annotations = [*train_set]
    annotations[row] = replace(annotations[row], path=path)
    theirs = replace(train_set, annotations=tuple(annotations))
    detector, asked = trained(config, theirs, tmp_path, between=lambda: path.write_bytes(b"gone"))
    assert len(asked) == 5
    assert train_set[row].image_id not in asked
    assert detector.heads.calibration is not None


def replace_calibration(config: Config) -> Config:
    return config.model_copy(update={"calibration": config.calibration.model_copy(update={"enabled": False})})
