"""Fine-tuning on request: the better model on held-out images is kept, and a killed training resumes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.build import build_cache
from detector.config.detector import Config, EndToEndConfig, load_config, parse_config
from detector.datasets.dataset import Annotation, Dataset
from detector.detections import Detections
from detector.pipeline import Detector
from detector.runtime.optional import MissingPackageError
from detector.training import fine_tuning as module
from detector.training.calibration import HeldOut, held_out_ids
from detector.training.fine_tuning import FINE_TUNING, fine_tuning_recipe, train_and_compare
from detector.training.train_on import train_on
from detector.training.training_set import TrainingSet
from tests.fakes import CONFIG, fake_detector
from tests.training.end_to_end.recipe import RECIPE

NAMES = ("svms", "pooled", "fc7")
COMPARED = parse_config({**CONFIG, "calibration": {"enabled": True, "held_out": 0.25}}, "test")


def found(annotation: Annotation, fraction: float, class_names: tuple[str, ...]) -> Detections:
    """Return detections of the first objects of an image, this fraction of them."""
    rows = slice(round(fraction * len(annotation.labels)))
    scores = np.ones(len(annotation.labels[rows]), np.float32)
    return Detections(annotation.boxes[rows], annotation.labels[rows], scores, class_names)


class Trainings:
    """Stands in for `train`: models that find these fractions of the objects, by the name of the model."""

    def __init__(self, fractions: dict[str, float], fails_at: str | None = None) -> None:
        self.fractions, self.fails_at = fractions, fails_at
        self.trained: list[str] = []

    def __call__(self, config: Config, dataset: Dataset, names: Any, *_: Any, report: Any, **__: Any) -> Detector:
        name = config.fine_tuning.layer if config.end_to_end.enabled else "svms"
        if name == self.fails_at:
            raise KeyboardInterrupt
        self.trained.append(name)
        detector = fake_detector()
        detections = [found(each, self.fractions[name], tuple(names)) for each in dataset]
        report(detector, HeldOut(dataset.annotations, detections))
        return detector


@pytest.fixture
def compare(train_set: Dataset, images: TrainingSet, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Detector]:
    """Compare models that find these fractions of the objects."""

    def compare(trainings: Trainings, **keywords: Any) -> Detector:
        monkeypatch.setattr(module, "train", trainings)
        return train_and_compare(COMPARED, train_set, images.cache, **keywords)

    return compare


@pytest.mark.parametrize(
    ("fractions", "kept", "reported", "certain"),
    [
        ((0.5, 1.0, 0.0), "pooled", 2, False),
        ((0.5, 0.0, 1.0), "fc7", 2, False),
        ((1.0, 0.5, 0.0), "svms", 1, False),
        ((1.0, 1.0, 1.0), "svms", 1, True),  # no gain: the plain model
        ((0.0, 0.5, 1.0), "fc7", 3, True),
    ],
)
def test_the_better_model_is_kept_and_a_line_says_by_how_much(
    compare: Callable[..., Detector],
    caplog: pytest.LogCaptureFixture,
    fractions: tuple[float, ...],
    kept: str,
    reported: int,
    certain: bool,
) -> None:
    caplog.set_level(logging.INFO, "detector")
    reports: list[Any] = []
    by_name = dict(zip(NAMES, fractions, strict=True))
    detector = compare(Trainings(by_name), report=lambda *arguments: reports.append(arguments))
    numbers = detector.record[FINE_TUNING]
    assert (numbers["kept"], numbers["images"], len(reports)) == (kept, 6, reported)
    values = numbers["mAP"]
    assert max(values, key=lambda name: values[name]) == kept
    assert [values[name] for name, fraction in by_name.items() if fraction in (0, 1)] == [
        fraction for fraction in fractions if fraction in (0, 1)
    ]
    tuned = max(values["pooled"], values["fc7"])
    assert numbers["difference"] == pytest.approx(tuned - values["svms"])
    assert (numbers["standard_error"] == 0) is certain
    (line,) = [each.message for each in caplog.records if "fine-tuning changes" in each.message]
    assert line.startswith(f"kept: {module._TITLES[kept]};")
    assert f"{100 * numbers['difference']:+.1f} ±" in line and "on 6 held-out images" in line


def test_models_are_compared_on_the_images_that_end_to_end_training_does_not_see(
    compare: Callable[..., Detector], train_set: Dataset, images: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that finds all objects in other images and none in these is worth nothing."""
    part = held_out_ids(images, fine_tuning_recipe(COMPARED, "fc7"))
    assert len(part) == 6
    trainings = Trainings(dict.fromkeys(NAMES, 1.0))
    whole = found
    monkeypatch.setattr(
        sys.modules[__name__],
        "found",
        lambda each, fraction, names: whole(each, float(each.image_id not in part), names),
    )
    assert set(compare(trainings).record[FINE_TUNING]["mAP"].values()) == {0.0}


def test_models_are_compared_image_by_image_in_whatever_order_they_were_measured(
    compare: Callable[..., Detector],
) -> None:
    class Reversed(Trainings):
        def __call__(self, config: Config, dataset: Dataset, *rest: Any, **keywords: Any) -> Detector:
            if config.end_to_end.enabled:
                dataset = replace(dataset, annotations=dataset.annotations[::-1])
            return super().__call__(config, dataset, *rest, **keywords)

    numbers = compare(Reversed(dict.fromkeys(NAMES, 0.5))).record[FINE_TUNING]
    assert (numbers["difference"], numbers["standard_error"]) == (0, 0)


@pytest.mark.parametrize("fails_at", [NAMES[0], *(pytest.param(each, marks=pytest.mark.all) for each in NAMES[1:])])
def test_models_of_an_earlier_start_are_not_trained_again(compare: Callable[..., Detector], fails_at: str) -> None:
    fractions = {"svms": 0.5, "pooled": 1.0, "fc7": 0.0}
    kept: dict[str, Detector] = {}

    def stored(name: str, trained: Callable[[], Detector]) -> Detector:
        if name not in kept:
            kept[name] = trained()
        return kept[name]

    first, second = Trainings(fractions, fails_at), Trainings(fractions)
    with pytest.raises(KeyboardInterrupt):
        compare(first, stored=stored)
    resumed = compare(second, stored=stored)
    assert first.trained + second.trained == [*NAMES]
    assert resumed.record == compare(Trainings(fractions)).record


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"calibration": {"enabled": False}}, "calibration: {enabled: true}"),
        ({"fine_tuning": {"enabled": True}}, "fine-tunes already: leave out --fine-tune"),
        ({"features": {"power": 0.5}}, "--fine-tune: end_to_end needs features.power 1"),
        ({"features": {"backbone": "zf5/0.1", "weights": "random"}}, "blocks.2"),
    ],
)
def test_recipes_that_cannot_be_fine_tuned_cost_no_work(
    recipe: dict[str, Any], message: str, train_set: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = Trainings(dict.fromkeys(NAMES, 1.0))
    monkeypatch.setattr(module, "train", trainings)
    config = parse_config(recipe, "test")
    with pytest.raises(ValueError, match=message):
        train_and_compare(config, train_set, build_cache(config, tmp_path))
    assert trainings.trained == []


def test_without_images_to_hold_out_nothing_is_trained(
    train_set: Dataset, images: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = Trainings(dict.fromkeys(NAMES, 1.0))
    monkeypatch.setattr(module, "train", trainings)
    monkeypatch.setattr(module, "held_out_ids", lambda *_: set())
    with pytest.raises(ValueError, match="each image has the only objects of a class: label more"):
        train_and_compare(COMPARED, train_set, images.cache)
    assert trainings.trained == []


def test_without_torch_a_line_says_what_to_install(train_set: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingPackageError, match=r"torch is not installed: pip install 'spp-detector\[torch\]'"):
        train_on(train_set, fine_tune=True)


@pytest.mark.parametrize(
    ("short_sides", "sides"), [([320], (320, 320)), ([400, 600, 900], (400, 560)), ([800, 1400], (560, 560))]
)
def test_images_are_trained_on_at_the_scales_of_the_recipe(short_sides: list[int], sides: tuple[int, int]) -> None:
    config = fine_tuning_recipe(parse_config({"features": {"short_sides": short_sides}}, "test"), "pooled")
    assert config.end_to_end.min_sizes_start == config.end_to_end.min_sizes_end == sides
    assert (config.fine_tuning.layer, config.end_to_end.enabled) == ("pooled", True)


@pytest.mark.parametrize(
    ("n_images", "steps"), [(1, 120), (96, 120), (97, 121), (200, 250), (2000, 2500), (10**6, 3000)]
)
def test_steps_follow_from_the_number_of_images(n_images: int, steps: int) -> None:
    assert EndToEndConfig(steps=None, images_per_step=4).n_steps(n_images) == steps
    assert EndToEndConfig(steps=7).n_steps(n_images) == 7


def test_the_recipe_is_the_default_one_with_two_more_sections() -> None:
    ours, default = load_config("fine_tune"), load_config("default")
    assert (ours.fine_tuning.enabled, ours.end_to_end.enabled, ours.end_to_end.steps) == (True, True, None)
    assert default.model_copy(update={"fine_tuning": ours.fine_tuning, "end_to_end": ours.end_to_end}) == ours


@pytest.mark.all
def test_a_fine_tuned_model_is_trained_and_saved(
    train_set: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = {"enabled": True, "width": 16, "flips": True}
    end_to_end = {**RECIPE["end_to_end"], "steps": 4, "warmup_steps": 0, "frozen_steps": 1, "second_min_iou": None}
    added = parse_config({"fine_tuning": tuning, "end_to_end": end_to_end}, "test")
    monkeypatch.setattr(module, "load_config", lambda _: added)
    features, proposals = RECIPE["features"], RECIPE["proposals"]
    config = parse_config({"features": features, "proposals": proposals, "svm": CONFIG["svm"]}, "test")
    cache, models = build_cache(config, tmp_path), []

    def stored(name: str, trained: Callable[[], Detector]) -> Detector:
        trained().save(tmp_path / name)
        models.append(Detector.load(tmp_path / name))
        return models[-1]

    kept = train_and_compare(config, train_set, cache, stored=stored)
    plain, pooled, fc7 = models
    assert pooled.encoder.backbone.digest == fc7.encoder.backbone.digest != plain.encoder.backbone.digest
    assert pooled.heads.layers is None and fc7.heads.layers is not None
    assert len([*tmp_path.glob("end-to-end-*.safetensors")]) == 1  # trained once
    for each in models:
        assert each.record["cross_validation"]["images"] in (5, 24)
        assert each.heads.calibration is not None
    assert kept.record[FINE_TUNING]["kept"] in NAMES
    assert len(pooled.detect(train_set[0].path, min_score=-99)) > 0
