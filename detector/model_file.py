"""A trained model as one safetensors file, with its recipe and what it was trained on; never a pickle.

Detectors and classifiers are kept alike. What a file holds are plain values; `detector.pipeline` and
`detector.classification` compose models of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from detector.runtime.files import Arrays, read_arrays, read_metadata, write_arrays

Model = TypeVar("Model")

MODEL_NAME = "model.safetensors"
"""Of the model in the folder of a training."""

_KEYS = ("class_names", "config", "backbone_digest", "record")

DEFAULT_MODEL = files("detector") / "models" / "default.safetensors"


class Kind(NamedTuple):
    """A kind of models: the format that its files are marked with, and what error messages call it."""

    format: str
    name: str


DETECTOR = Kind("spp-detector 1", "model")
CLASSIFIER = Kind("spp-classifier 1", "classifier")


@dataclass(frozen=True)
class ModelContents:
    """What a model file holds; all but the arrays are JSON-able values.

    arrays: by name, what was learned. Frozen weights are not among them.
    class_names: of the K classes.
    config: the recipe that the model was made by.
    backbone_digest: of the backbone's weights, the frozen ones included.
    record: on what the model was trained, when, and how well it did.
    more: what one kind of models has beyond that.
    """

    arrays: Arrays
    class_names: tuple[str, ...]
    config: Any
    backbone_digest: str
    record: Mapping[str, Any]
    more: Mapping[str, Any] = field(default_factory=dict)

    def under(self, prefix: str) -> Arrays:
        """The arrays whose names begin with a prefix and a dot, by the rest of their names."""
        start = f"{prefix}."
        return {name.removeprefix(start): array for name, array in self.arrays.items() if name.startswith(start)}

    def check_backbone(self, name: str, digest: str) -> None:
        """Raise ValueError when the weights that were loaded are not those that the model was trained on."""
        if digest != self.backbone_digest:
            raise ValueError(
                f"was trained on other weights of {name} ({self.backbone_digest[:12]}) "
                f"than those loaded ({digest[:12]})"
            )


def write_model(path: str | Path, kind: Kind, contents: ModelContents) -> None:
    """Write a model file, whole or not at all; into a folder, by its name there.

    Raises OSError, naming the file, when it cannot be written.
    """
    values = contents.class_names, contents.config, contents.backbone_digest, dict(contents.record)
    description = {**contents.more, **dict(zip(_KEYS, values, strict=True))}
    write_arrays(model_path(path), contents.arrays, {"format": kind.format, **description})


def read_model(path: str | Path, kind: Kind, compose: Callable[[ModelContents], Model]) -> Model:
    """What ``compose`` makes of a file of `write_model`, or of that in a folder.

    Raises OSError when it cannot be read and ValueError, naming it, when it is no such model, lacks something, or
    ``compose`` raises ValueError or RuntimeError.
    """
    path = model_path(path)
    arrays, metadata = read_arrays(path)
    _check_format(path, kind, metadata)
    try:
        names, config, digest, record = (metadata.pop(key) for key in _KEYS)
        _check_values(arrays, names, digest, record)
        return compose(ModelContents(arrays, tuple(names), config, digest, record, metadata))
    except KeyError as error:
        raise ValueError(f"{path}: lacks {error}") from None
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: {error}") from None


def _check_values(arrays: Arrays, names: Any, digest: Any, record: Any) -> None:
    """Raise ValueError for what no model holds, before anything is made of it."""
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ValueError("class_names must be a list of names")
    if len(set(names)) < len(names):
        raise ValueError("class_names must differ")
    if not isinstance(digest, str) or not isinstance(record, dict):
        raise ValueError("backbone_digest must be a text, and record an object")
    for name, array in arrays.items():
        # infinite are thresholds of a calibration that nothing reached
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise ValueError(f"{name} must not be NaN")


def check_model_file(path: str | Path, kind: Kind) -> None:
    """Raise the errors of `read_model` that the head of a file shows, in no time."""
    _check_format(model_path(path), kind, read_metadata(model_path(path)))


def _check_format(path: Path, kind: Kind, metadata: dict[str, Any]) -> None:
    """Raise ValueError, naming the file, for the metadata of another kind of models; take the format out of them."""
    if (found := metadata.pop("format", None)) != kind.format:
        raise ValueError(f"{path}: is no {kind.name} of this program (format {found!r})")


def model_path(path: str | Path) -> Path:
    """The model file that is meant: where ``path`` is a folder, the model in it."""
    return Path(path) / MODEL_NAME if Path(path).is_dir() else Path(path)
