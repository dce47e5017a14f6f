"""Save and load trained models: one safetensors file with arrays, recipe and record; never a pickle.

The format holds plain values, for detectors and classifiers alike; `detector.pipeline` and `detector.classification`
build models from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from detector.runtime.array_files import Arrays, read_arrays, read_metadata, write_arrays
from detector.runtime.environment import SetupError

Model = TypeVar("Model")

MODEL_NAME = "model.safetensors"
"""Name of the model in a run folder."""

_KEYS = ("class_names", "config", "backbone_digest", "record")

DEFAULT_MODEL = files("detector") / "models" / "default.safetensors"
GENERAL_WEIGHTS = files("detector") / "models" / "general.safetensors"
BACKBONE = "backbone"
"""Prefix of the names of the backbone's tensors in a model file."""

SHIPPED = "shipped"
"""Name of the weights of the model of the package, which were trained for detection."""
GENERAL = "general"
"""Name of weights halfway between ImageNet's and those of a detector of VOC, for classes that neither has seen.

Averaged weights keep what both know (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022).
`dev.general_weights` writes them.
"""
IMAGENET = "imagenet"
"""Name, in options, of the published weights of a network; in recipes: null."""


class Kind(NamedTuple):
    """Kind of model: the format in its files, and its name in error messages."""

    format: str
    name: str


DETECTOR = Kind("spp-detector 1", "model")
CLASSIFIER = Kind("spp-classifier 1", "classifier")


@dataclass(frozen=True)
class ModelContents:
    """Contents of a model file; all but the arrays are JSON-able values.

    arrays: all weights by name, those of the backbone included.
    class_names: names of the K classes.
    config: the recipe of the training.
    backbone_digest: SHA-256 of the backbone's weights.
    record: on what the model was trained, when, and how well it did.
    more: values of one kind of model only.
    """

    arrays: Arrays
    class_names: tuple[str, ...]
    config: Any
    backbone_digest: str
    record: Mapping[str, Any]
    more: Mapping[str, Any] = field(default_factory=dict)

    def under(self, prefix: str) -> Arrays:
        """Return the arrays whose names begin with a prefix and a dot, by the rest of their names."""
        start = f"{prefix}."
        return {name.removeprefix(start): array for name, array in self.arrays.items() if name.startswith(start)}

    def check_backbone(self, name: str, digest: str) -> None:
        """Raise ValueError unless the digest of the loaded backbone ``name`` is that of the training."""
        if digest != self.backbone_digest:
            raise ValueError(
                f"weights of {name} ({digest[:12]}) are not those of the training ({self.backbone_digest[:12]})"
            )


def write_model(path: str | Path, kind: Kind, contents: ModelContents) -> None:
    """Write a model file, whole or not at all; in a folder, as `MODEL_NAME`.

    Raises OSError, with the name of the file, when it cannot be written.
    """
    values = contents.class_names, contents.config, contents.backbone_digest, dict(contents.record)
    description = {**contents.more, **dict(zip(_KEYS, values, strict=True))}
    write_arrays(model_path(path), contents.arrays, {"format": kind.format, **description})


def read_model(path: str | Path, kind: Kind, compose: Callable[[ModelContents], Model]) -> Model:
    """Read a model file, or that of a folder, and return ``compose(contents)``.

    Raises OSError for an unreadable file and ValueError, with its name, for another kind of file, a missing part, and
    a ValueError or RuntimeError of ``compose``.
    """
    path = model_path(path)
    arrays, metadata = read_arrays(path)
    _check_format(path, kind, metadata)
    try:
        names, config, digest, record = (metadata.pop(key) for key in _KEYS)
        _check_values(arrays, names, digest, record)
        return compose(ModelContents(arrays, tuple(names), config, digest, record, metadata))
    except SetupError:
        raise
    except KeyError as error:
        raise ValueError(f"{path}: lacks {error}") from None
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: {error}") from None


def _check_values(arrays: Arrays, names: Any, digest: Any, record: Any) -> None:
    """Raise ValueError for values that no model holds."""
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ValueError("class_names must be a list of names")
    if len(set(names)) < len(names):
        raise ValueError("class_names must differ")
    if not isinstance(digest, str) or not isinstance(record, dict):
        raise ValueError("backbone_digest must be a string, and record an object")
    for name, array in arrays.items():
        # thresholds of a calibration that nothing reached are infinite
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise ValueError(f"{name} must not be NaN")


def check_model_file(path: str | Path, kind: Kind) -> None:
    """Raise the errors of `read_model` that the header of a file shows, without reading the rest."""
    _check_format(model_path(path), kind, read_metadata(model_path(path)))


def _check_format(path: Path, kind: Kind, metadata: dict[str, Any]) -> None:
    """Remove the format from the metadata; raise ValueError, with the name of the file, for another format."""
    if (found := metadata.pop("format", None)) != kind.format:
        raise ValueError(f"{path}: not a {kind.name} of this program (format {found!r})")


def model_path(path: str | Path) -> Path:
    """Return the path of a model file; for a folder, of the model in it."""
    return Path(path) / MODEL_NAME if Path(path).is_dir() else Path(path)


def weights_file(weights: str | Path) -> Path:
    """Return the file of weights; that of the package for `SHIPPED` and `GENERAL`."""
    of_package = {SHIPPED: DEFAULT_MODEL, GENERAL: GENERAL_WEIGHTS}
    return Path(str(of_package.get(str(weights), weights)))


def trained_stage(weights: str | Path) -> str | None:
    """Return the stage up to which a detector's file, or `GENERAL`, has backbone weights; None for other files."""
    try:
        metadata = read_metadata(weights_file(weights))
        features = metadata["config"]["features"] if metadata["format"] == DETECTOR.format else metadata
        return str(features["stage"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
