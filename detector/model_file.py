"""A trained detector as one safetensors file, with its recipe and what it was trained on; never a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from detector.config.detector import parse_config
from detector.heads.box_regressors import BoxRegressors
from detector.heads.fully_connected import LAYERS, FullyConnected, Softmax
from detector.heads.linear_svm import LinearSVMs
from detector.pipeline import Detector, build_encoder, build_proposer
from detector.runtime.files import Arrays, read_arrays, write_arrays

_FORMAT = "spp-detector 1"
_TUNED = "backbone."


def write_model(detector: Detector, path: Path) -> None:
    """Write a detector, whole or not at all; of the backbone, its digest and fine-tuned layers alone."""
    head = "softmax" if isinstance(detector.scorer, Softmax) else "svm"
    arrays: Arrays = {f"{head}.weights": detector.scorer.weights, f"{head}.biases": detector.scorer.biases}
    if detector.layers is not None:
        for name, weights, biases in zip(LAYERS, detector.layers.weights, detector.layers.biases, strict=False):
            arrays |= {f"{name}.weights": weights, f"{name}.biases": biases}
    if detector.regressors is not None:
        arrays |= {
            "regression.weights": detector.regressors.weights,
            "regression.biases": detector.regressors.biases,
        }
    backbone = detector.encoder.backbone
    arrays |= {f"{_TUNED}{name}": tensor.numpy() for name, tensor in backbone.tuned.items()}
    description = {
        "class_names": detector.class_names,
        "config": detector.config.model_dump(mode="json"),
        "backbone_digest": backbone.digest,
        "record": dict(detector.record),
    }
    write_arrays(path, arrays, {"format": _FORMAT, **description})


def read_model(path: str | Path | None, device: str = "cpu", weights: str | Path | None = None) -> Detector:
    """The detector of a file of `write_model`; see `Detector.load`."""
    path = Path(str(files("detector").joinpath("models/default.safetensors"))) if path is None else Path(path)
    arrays, metadata = read_arrays(path)
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"{path}: is no model of this program (format {metadata.get('format')!r})")
    try:
        return _compose(arrays, metadata, device, weights)
    except KeyError as error:
        raise ValueError(f"{path}: lacks {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _compose(
    arrays: Mapping[str, Any], description: Mapping[str, Any], device: str, weights: str | Path | None
) -> Detector:
    config = parse_config(description["config"], "its configuration")
    features = config.features if weights is None else config.features.model_copy(update={"weights": str(weights)})
    learned = [name for name in arrays if name.startswith(_TUNED)]
    tuned = {name.removeprefix(_TUNED): torch.from_numpy(arrays[name]) for name in learned}
    encoder = build_encoder(features, device, tuned)
    if encoder.backbone.digest != description["backbone_digest"]:
        raise ValueError(
            f"was trained on other weights of {config.features.backbone} "
            f"({description['backbone_digest'][:12]}) than those loaded ({encoder.backbone.digest[:12]})"
        )
    regressors = layers = None
    if "regression.weights" in arrays:
        regressors = BoxRegressors(arrays["regression.weights"], arrays["regression.biases"])
    if names := [name for name in LAYERS if f"{name}.weights" in arrays]:
        layer_weights, layer_biases = ([arrays[f"{name}.{kind}"] for name in names] for kind in ("weights", "biases"))
        beside = config.fine_tuning.beside_pooled
        layers = FullyConnected(layer_weights, layer_biases, encoder.backbone.precision, device, beside)
    head = "softmax" if "softmax.weights" in arrays else "svm"
    scorer = Softmax if head == "softmax" else LinearSVMs
    return Detector(
        build_proposer(config.proposals),
        encoder,
        scorer(arrays[f"{head}.weights"], arrays[f"{head}.biases"]),
        regressors,
        tuple(description["class_names"]),
        config,
        description["record"],
        layers,
    )
