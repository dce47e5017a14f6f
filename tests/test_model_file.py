"""What a model file must not hold: told with its name before anything is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.heads.heads import Heads
from detector.model_file import CLASSIFIER, DETECTOR, Kind, read_model
from detector.runtime.array_files import Arrays, write_arrays

SOUND: dict[str, Any] = {"class_names": ["dog", "cat"], "config": {}, "backbone_digest": "0", "record": {}}


@pytest.mark.parametrize("kind", [DETECTOR, CLASSIFIER])
@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"class_names": 5}, "class_names must be a list of names"),
        ({"class_names": "dog"}, "class_names must be a list of names"),
        ({"class_names": ["dog", 1]}, "class_names must be a list of names"),
        ({"class_names": ["dog", ""]}, "class_names must be a list of names"),
        ({"class_names": ["dog", "dog"]}, "class_names must differ"),
        ({"backbone_digest": 1}, "backbone_digest must be a string"),
        ({"record": []}, "record an object"),
    ],
)
def test_values_of_other_types(tmp_path: Path, kind: Kind, change: dict[str, Any], fault: str) -> None:
    path = tmp_path / "m.safetensors"
    write_arrays(path, {}, {"format": kind.format, **SOUND, **change})
    with pytest.raises(ValueError, match=rf"m\.safetensors: .*{fault}"):
        read_model(path, kind, lambda contents: pytest.fail("was made"))


def test_nan_is_no_weight(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_arrays(path, {"head.weights": np.array([1, np.nan], np.float32)}, {"format": CLASSIFIER.format, **SOUND})
    with pytest.raises(ValueError, match=r"m\.safetensors: head\.weights must not be NaN"):
        read_model(path, CLASSIFIER, lambda contents: pytest.fail("was made"))


def test_metadata_that_nest_deeply_are_damage(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "m.safetensors"
    save_file({"a": np.zeros(1)}, path, {"spp-detector": "[" * 50_000})
    with pytest.raises(ValueError, match=r"m\.safetensors: is damaged"):
        read_model(path, DETECTOR, lambda contents: contents)


@pytest.mark.parametrize(
    ("name", "array", "fault"),
    [
        ("svm.weights", np.full((3, 2), np.inf, np.float32), "svm.weights must be finite"),
        ("svm.weights", np.zeros(6, np.float32), "svm.weights must be float32 or float16 with 2 axes"),
        ("svm.biases", np.zeros((1, 2), np.float32), "svm.biases must be float32 or float16 with 1 axes"),
        ("svm.weights", np.zeros((3, 2), np.int64), "but is int64"),
        ("fc6.weights", np.zeros(5, np.float16), "fc6.weights must be"),
        ("regression.weights", np.zeros((2, 3), np.float32), "regression.weights must be float32 or float16 with 3"),
    ],
)
def test_heads_of_other_shapes_types_and_values(name: str, array: Any, fault: str) -> None:
    arrays: Arrays = {"svm.weights": np.zeros((3, 2), np.float32), "svm.biases": np.zeros(2, np.float32)}
    Heads.from_arrays(arrays).check(3, 2)
    with pytest.raises(ValueError, match=fault):
        Heads.from_arrays({**arrays, name: array})


def test_as_many_biases_as_classes() -> None:
    arrays: Arrays = {"svm.weights": np.zeros((3, 2), np.float32), "svm.biases": np.zeros(1, np.float32)}
    with pytest.raises(ValueError, match=r"biases of the scores must have shape \(2,\), but got \(1,\)"):
        Heads.from_arrays(arrays).check(3, 2)
