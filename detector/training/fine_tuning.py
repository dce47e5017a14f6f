"""Train plain SVMs and SVMs on an end-to-end trained backbone, and keep the model that is better on held-out images.

The models are compared on the same images. The SVMs that score these were trained without them, and so was the
backbone. The fine-tuned model that is kept never saw them in its end-to-end training; its SVMs did, like the plain
ones.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detector.config.detector import Config, load_config, parse_config
from detector.datasets.dataset import Dataset
from detector.evaluation.bootstrap import standard_error_of_difference
from detector.evaluation.held_out import measure_held_out
from detector.evaluation.voc import finite
from detector.features.cache import CacheWorkers, FeatureCache
from detector.pipeline import Detector
from detector.runtime.optional import optional
from detector.runtime.progress import Progress, no_progress
from detector.training.calibration import HeldOut, held_out_ids
from detector.training.train import check_training, train
from detector.training.training_set import TrainingSet

FINE_TUNING = "fine_tuning"
"""Key of a record for the numbers of the comparison."""

Layer = Literal["pooled", "fc7"]
Stored = Callable[[str, Callable[[], Detector]], Detector]
"""Returns the model of a name: of an earlier start, or trained by the function."""

PLAIN = "svms"
_LAYERS: tuple[Layer, ...] = ("pooled", "fc7")
_TITLES = {
    PLAIN: "SVMs on the features of the recipe",
    "pooled": "SVMs on pooled features of the fine-tuned backbone",
    "fc7": "SVMs on fc7 of the fine-tuned backbone",
}
_MAX_SIDE = 560
"""Largest shorter side of images in end-to-end training; larger ones take the square of the time."""
_log = logging.getLogger(__name__)


def fine_tuning_recipe(config: Config, layer: Layer) -> Config:
    """Return a recipe with the end-to-end training of the recipe `fine_tune`, and SVMs on "pooled" features or "fc7".

    Images are resized for the training to the scales of the recipe, up to 560 pixels. Raises ValueError for a recipe
    that fine-tunes already or cannot be compared, and MissingPackageError without torch.
    """
    optional("torch", "torch")
    if config.fine_tuning.enabled:
        raise ValueError("the recipe fine-tunes already: leave out --fine-tune, or train by another recipe")
    if not config.calibration.enabled:
        raise ValueError("fine-tuning is compared on held-out images: set calibration: {enabled: true} in the recipe")
    added = load_config("fine_tune")
    sides = [min(each, _MAX_SIDE) for each in (config.features.short_sides[0], config.features.short_sides[-1])]
    content = config.model_dump(mode="json") | {
        "fine_tuning": added.fine_tuning.model_dump(mode="json") | {"layer": layer},
        "end_to_end": added.end_to_end.model_dump(mode="json") | {"min_sizes_start": sides, "min_sizes_end": sides},
    }
    return parse_config(content, "--fine-tune")


def train_and_compare(
    config: Config,
    dataset: Dataset,
    cache: FeatureCache,
    progress: Progress = no_progress,
    workers: CacheWorkers | None = None,
    report: Callable[[Detector, HeldOut], None] = lambda detector, held_out: None,
    stored: Stored = lambda name, trained: trained(),
) -> Detector:
    """Train by a recipe, then with its backbone fine-tuned; return the model of the highest mAP on held-out images.

    A line of the log says which and by how much, and the record holds the numbers of all models. The plain model wins
    ties. report: receives each model that is the best until then, and its held-out detections.
    Killed and called again, it resumes. Raises ValueError, before any work, as `train` and `fine_tuning_recipe` do, and
    if no image can be held out.
    """
    recipes: dict[str, Config] = {PLAIN: config}
    recipes |= {layer: fine_tuning_recipe(config, layer) for layer in _LAYERS}
    names = dataset.class_names
    images = TrainingSet(dataset.annotations, len(names), cache, difficult=config.svm.difficult)
    for recipe in recipes.values():
        check_training(recipe, images, names)
    if not (part := held_out_ids(images, recipes[_LAYERS[0]])):
        raise ValueError(
            "fine-tuning is compared on held-out images, but each image has the only objects of a class: label more"
        )
    trials: dict[str, _Trial] = {}
    models: dict[str, Detector] = {}
    for name, recipe in recipes.items():

        def trained(recipe: Config = recipe) -> Detector:
            found: list[HeldOut] = []

            def note(_: Detector, held_out: HeldOut) -> None:
                found.append(held_out)

            detector = train(recipe, dataset, names, cache, progress, workers=workers, report=note)
            trial = _measure(found[0], part, names)
            if trial.better_than(trials.values()):
                report(detector, found[0])
            return replace(detector, record={**detector.record, FINE_TUNING: trial.to_json()})

        models[name] = stored(name, trained)
        trials[name] = _Trial.from_json(models[name].record[FINE_TUNING])
    best = max(trials, key=lambda name: trials[name].value)
    numbers = _numbers(best, trials)
    _log.info("%s", describe_choice(numbers))
    return replace(models[best], record={**models[best].record, FINE_TUNING: numbers})


@dataclass(frozen=True, eq=False)
class _Trial:
    """Average precision of a model on held-out images, and that of resamples ``(B,)``, equal for all models."""

    images: int
    mAP: float  # noqa: N815 - the name that everybody knows
    resampled: NDArray[np.float64]

    @property
    def value(self) -> float:
        """Return the mAP, or minus infinity where no object could be found."""
        return self.mAP if np.isfinite(self.mAP) else -np.inf

    def better_than(self, others: Iterable[_Trial]) -> bool:
        """Return whether no other model is as good."""
        return all(self.value > each.value for each in others)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, None instead of NaN."""
        resampled = [finite(round(each, 6)) for each in self.resampled.tolist()]
        return {"images": self.images, "mAP": finite(self.mAP), "resampled": resampled}

    @classmethod
    def from_json(cls, content: Any) -> _Trial:
        """Read the result of `to_json`."""
        value, *resampled = (np.nan if each is None else each for each in (content["mAP"], *content["resampled"]))
        return cls(content["images"], value, np.array(resampled, np.float64))


def _measure(held_out: HeldOut, part: set[str], class_names: Sequence[str]) -> _Trial:
    """Measure a model on the images of ``part``, in the order of their ids, so that models can be compared in pairs."""
    found = sorted(zip(held_out.annotations, held_out.detections, strict=True), key=lambda pair: pair[0].image_id)
    kept = [(annotation, detections) for annotation, detections in found if annotation.image_id in part]
    images = Dataset(tuple(each for each, _ in kept), tuple(class_names), "held-out images")
    result = measure_held_out([detections for _, detections in kept], images, "area")
    return _Trial(len(kept), result.mAP, result.resampled)


def _numbers(best: str, trials: dict[str, _Trial]) -> dict[str, Any]:
    """Return the mAP of all models, and how much the best fine-tuned one has more than the plain one."""
    plain = trials[PLAIN]
    tuned = max((each for name, each in trials.items() if name != PLAIN), key=lambda each: each.value)
    error = standard_error_of_difference(plain.resampled[:, None], tuned.resampled[:, None])
    return {
        "kept": best,
        "images": plain.images,
        "mAP": {name: finite(each.mAP) for name, each in trials.items()},
        "difference": finite(tuned.mAP - plain.mAP),
        "standard_error": finite(error),
    }


def describe_choice(numbers: dict[str, Any]) -> str:
    """Describe which model is kept in a line, from the numbers in its record."""
    if numbers["difference"] is None:
        return "fine-tuning: no object was held out, nothing to compare; kept: " + _TITLES[PLAIN]
    values = ", ".join(f"{_TITLES[name]} {100 * value:.1f}" for name, value in numbers["mAP"].items())
    error = "?" if numbers["standard_error"] is None else f"{100 * numbers['standard_error']:.1f}"
    difference = f"{100 * numbers['difference']:+.1f} ± {error} on {numbers['images']} held-out images"
    return f"kept: {_TITLES[numbers['kept']]}; fine-tuning changes mAP50 by {difference}: {values}"
