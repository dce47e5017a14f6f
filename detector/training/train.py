"""From a data set to a detector: cache features, mine and fit the SVMs, fit the box regressors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, encode_deltas
from detector.config.detector import Config, FineTuningConfig, RegressionConfig, SVMConfig
from detector.datasets.annotation import Annotation
from detector.features.encoder import Encoder, Features
from detector.features.feature_cache import FeatureCache, fill_cache
from detector.heads.box_regressors import BoxRegressors
from detector.heads.fully_connected import FullyConnected
from detector.heads.heads import Heads
from detector.heads.linear_svm import LinearSVMs
from detector.pipeline import Detector
from detector.runtime.hashing import digest, fingerprint
from detector.runtime.progress import Progress, without_progress
from detector.training.box_regression import assign_boxes, fit_regressor
from detector.training.dual_solver import solve_dual
from detector.training.fine_tuning import FineTuned, FineTuning, FineTuningSettings
from detector.training.imagenet_layers import imagenet_layers
from detector.training.mining import Bank, MiningSettings, MiningState, mine
from detector.training.mining_state import load_state, save_state
from detector.training.sampling import RandomBoxes
from detector.training.svm_problem import SVMProblem, solve_liblinear
from detector.training.training_set import TrainingSet, scaled

_SAMPLES_BYTES = 2.5e9


def train_svms(
    images: TrainingSet, config: SVMConfig, checkpoint: Path, progress: Progress = without_progress
) -> LinearSVMs:
    """Mine hard negatives over ``images`` and fit one linear SVM a class, for plain features.

    The state after every fit is kept in the file ``checkpoint``, from which a second call goes on.
    """
    problem = SVMProblem(config.loss, config.C, config.positive_weight, config.bias_multiplier)
    solver = {"dual": solve_dual, "liblinear": solve_liblinear}[config.solver]
    settings = MiningSettings(
        add_above=config.add_above,
        evict_below=config.evict_below,
        max_per_picture=config.max_per_picture,
        seed=config.seed,
    )
    bank = Bank(_capacity(config, images.n_features), images.n_features, images.n_classes)
    state = load_state(checkpoint, images, bank) or MiningState(bank)
    svms = mine(images, problem, solver, settings, state, progress, partial(save_state, checkpoint))
    return LinearSVMs(*images.unscaled(svms.weights, svms.biases))


def _capacity(config: SVMConfig, n_features: int) -> int:
    return config.max_samples or int(_SAMPLES_BYTES / np.dtype(np.float16).itemsize / n_features)


def fine_tune(
    images: TrainingSet, config: FineTuningConfig, checkpoint: Path, progress: Progress = without_progress
) -> FineTuned:
    """Train fully connected layers on plain pooled features of ``images``, but for those that are held out.

    The state is kept in the file ``checkpoint``, from which a second call goes on. Raises ValueError for less than two
    images with objects.
    """
    encoder = images.cache.encoder
    others, held_out = random_boxes(images, config)
    start = _start(config, encoder)
    # values of about 1, centred: what random layers begin with best
    images = scaled(images, encoder.n_features**0.5, True, config.seed)
    others, held_out = replace(others, images=images), replace(held_out, images=images)
    if start:
        (fc6, biases), fc7 = start
        start = [(fc6 / images.scale, biases + fc6 @ images.mean), fc7]
    settings = fine_tuning_settings(config)
    device = str(encoder.backbone.device)
    tuned = FineTuning(others, held_out, settings, checkpoint, encoder.backbone.precision, device, start).run(progress)
    weights, biases = images.unscaled(tuned.fc6[0].T.astype(np.float32), tuned.fc6[1])
    return replace(tuned, fc6=(np.ascontiguousarray(weights.T).astype(np.float16), biases))


def _start(config: FineTuningConfig, encoder: Encoder) -> list[tuple[Features, Features]]:
    """The layers that fine-tuning begins with, on plain features, if the recipe names some."""
    if config.initial is None:
        return []
    layers = imagenet_layers(Path(config.initial), encoder.levels, encoder.backbone.channels)
    if (width := len(layers[0][1])) != config.width:
        raise ValueError(f"width must be {width}, that of the layers to begin with, but is {config.width}")
    return layers


def fine_tuning_settings(config: FineTuningConfig) -> FineTuningSettings:
    """The constants that a recipe gives a training of fully connected layers."""
    shared = set(FineTuningSettings.__dataclass_fields__) & set(FineTuningConfig.model_fields)
    return FineTuningSettings(**config.model_dump(include=shared))


def random_boxes(images: TrainingSet, config: FineTuningConfig) -> tuple[RandomBoxes, RandomBoxes]:
    """The images with objects to learn from, and those to hold out, as fine-tuning sees them.

    Raises ValueError for less than two images with objects.
    """
    usable = np.array([index for index in range(len(images)) if images.has_objects(index)])
    if len(usable) < 2:
        raise ValueError(f"fine-tuning needs two images with objects, one to hold out, but there is {len(usable)}")
    order = np.random.default_rng(config.seed).permutation(usable)
    n_held_out = max(1, round(config.held_out * len(usable)))
    held_out, others = (
        RandomBoxes(images, rows, config.foreground, config.min_iou, config.background_iou, config.flips)
        for rows in (np.sort(order[:n_held_out]), np.sort(order[n_held_out:]))
    )
    return others, held_out


def train_regressors(
    images: TrainingSet, config: RegressionConfig, seed: int, progress: Progress = without_progress
) -> BoxRegressors:
    """Fit one box regressor a class on boxes that overlap an object of it by more than ``config.min_iou``.

    At most ``config.max_samples`` boxes a class, drawn at random, so that memory is bounded by that number of
    features. Features are pooled class by class; a class without a box moves nothing.
    """
    examples = _regression_examples(images, config.min_iou)
    rng = np.random.default_rng(seed)
    n_features = images.n_features
    weights = np.zeros((images.n_classes, n_features, 4), np.float32)
    biases = np.zeros((images.n_classes, 4), np.float32)
    for label in progress(range(images.n_classes), "box regressors"):
        rows = np.flatnonzero(examples.labels == label)
        rows = np.sort(rng.permutation(rows)[: config.max_samples])
        if not len(rows):
            continue
        features = np.empty((len(rows), n_features), np.float32)
        for image in np.unique(examples.images[rows]):
            here = examples.images[rows] == image
            features[here] = images.features(int(image), examples.boxes[rows[here]])
        deltas = encode_deltas(examples.boxes[rows], examples.truths[rows])
        fitted = fit_regressor(features, deltas, config.regularisation)
        weights[label], biases[label] = images.unscaled(*fitted)
    return BoxRegressors(weights, biases)


@dataclass(frozen=True)
class _Examples:
    """Boxes to move ``(n, 4)`` and where to ``(n, 4)``, with the image and the label of each ``(n,)``."""

    boxes: Boxes
    truths: Boxes
    images: NDArray[np.int64]
    labels: NDArray[np.int64]


def _regression_examples(images: TrainingSet, min_iou: float) -> _Examples:
    parts: list[tuple[Boxes, Boxes, NDArray[np.int64], NDArray[np.int64]]] = []
    for index, annotation in enumerate(images.annotations):
        boxes, overlaps = images.judged_boxes(index)
        rows, objects = assign_boxes(overlaps, annotation.labels, min_iou)
        parts.append((boxes[rows], annotation.boxes[objects], np.full(len(rows), index), annotation.labels[objects]))
    return _Examples(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def train(
    config: Config,
    annotations: Sequence[Annotation],
    class_names: Sequence[str],
    cache: FeatureCache,
    progress: Progress = without_progress,
    layers: FullyConnected | None = None,
) -> Detector:
    """Train a detector on annotated images, from features in ``cache``; what is missing there is computed.

    ``layers`` that were fine-tuned before take the place of those of the recipe, with SVMs on them. Killed and called
    again, training goes on from its last fit to the same result. Raises ValueError, before any work, for a class
    without an object to learn from, for more objects than the samples that may be kept, and for layers to begin with
    that do not fit.
    """
    tuning = config.fine_tuning
    tunes = tuning.enabled and layers is None
    pooled = TrainingSet(annotations, len(class_names), cache, config.svm.max_negative_iou, config.svm.difficult)
    _check(config, pooled, class_names, layers)
    pooled = replace(pooled, annotations=fill_cache(cache, annotations, progress))
    if tunes and tuning.flips:
        pooled = replace(pooled, annotations=fill_cache(cache, pooled.annotations, progress, mirrored=True))
    if len(pooled) < len(annotations):
        _check(config, pooled, class_names, layers)
    data = data_digest(pooled.annotations, cache)
    settings = config.model_dump(mode="json") | {"files": config.files()}
    if layers is not None:
        settings["layers"] = layers.digest
    checkpoint = state_file("training", settings, data, cache)
    softmax = None
    if tunes:
        tuned = fine_tune(pooled, tuning, _fine_tuning_file(config, data, cache), progress)
        backbone = cache.encoder.backbone
        layers = tuned.up_to(tuning.layer, backbone.precision, str(backbone.device), tuning.beside_pooled)
        softmax = tuned.fc8 if tuning.head == "softmax" else None
    moved_by_pooled = layers is not None and config.regression.features == "pooled"
    images = replace(pooled, layers=layers)
    if softmax is None or not moved_by_pooled:
        images = _scaled(images, config)
    scorer = softmax or train_svms(images, config.svm, checkpoint, progress)
    regressors = None
    if config.regression.enabled:
        if moved_by_pooled:
            images = _scaled(pooled, config)
        regressors = train_regressors(images, config.regression, config.svm.seed, progress)
    checkpoint.unlink(missing_ok=True)
    heads = Heads(scorer, regressors, layers, config.regression.features)
    return Detector.by_recipe(config, cache.propose, cache.encoder, heads, class_names)


def _check(config: Config, images: TrainingSet, class_names: Sequence[str], layers: FullyConnected | None) -> None:
    """Raise ValueError for what would end a training later; see `train`."""
    tuning, encoder = config.fine_tuning, images.cache.encoder
    counts = np.zeros(len(class_names), np.int64)
    for each in images.annotations:
        labels = each.labels if config.svm.difficult else each.labels[~each.difficult]
        counts += np.bincount(labels, minlength=len(class_names))
    if not counts.all():
        empty = ", ".join(name for name, count in zip(class_names, counts, strict=True) if not count)
        raise ValueError(f"no object to learn from in {len(images)} images: {empty}")
    n_features = encoder.n_features if layers is None else layers.n_features
    if tuning.enabled and layers is None:
        random_boxes(images, tuning)
        _start(tuning, encoder)
        if tuning.head == "softmax":
            return
        n_features = tuning.width + n_features * tuning.beside_pooled
    n_first = int(counts.sum()) + min(len(images), MiningSettings.start_images) * MiningSettings.start_samples
    if n_first > (capacity := _capacity(config.svm, n_features)):
        named = "svm.max_samples is" if config.svm.max_samples else "samples that take 2.5 GB are"
        raise ValueError(f"{named} {capacity}, but these objects need at least {n_first}")


def _scaled(images: TrainingSet, config: Config) -> TrainingSet:
    return scaled(images, config.svm.mean_norm, config.svm.centre, config.svm.seed)


def _fine_tuning_file(config: Config, data: str, cache: FeatureCache) -> Path:
    """Where fine-tuned layers are kept: one file for all heads that use them."""
    shared = {
        "features": config.features.model_dump(mode="json"),
        "fine_tuning": config.fine_tuning.model_dump(mode="json", exclude={"layer", "beside_pooled", "head"}),
        "difficult": config.svm.difficult,
        "files": config.files(),
    }
    return state_file("fine-tuning", shared, data, cache)


def state_file(kind: str, settings: Mapping[str, Any], data: str, cache: FeatureCache) -> Path:
    """Where the state of a training is kept: another file for anything that would change its result."""
    changes = {"config": settings, "data": data, "maps": cache.maps_directory.name}
    return cache.directory / f"{kind}-{fingerprint(changes)}.safetensors"


def data_digest(annotations: Sequence[Annotation], cache: FeatureCache) -> str:
    """SHA-256, in hexadecimal, of all objects and proposals."""

    def parts() -> Iterator[bytes]:
        for each in annotations:
            yield each.to_bytes()
            yield bytes(cache.proposals(each.image_id, each.path))

    return digest(parts())
