"""Results of an evaluation on disk, so that one that was killed resumes with the next image."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from detector.datasets.dataset import Annotation, Dataset
from detector.detections import Detections
from detector.evaluation.coverage import Coverage
from detector.runtime.array_files import Arrays, stored_arrays, write_arrays
from detector.runtime.files import cache_root, digest, file_state, fingerprint, program_digest

SIZE = 32
"""Images per file; a killed run repeats at most as many."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageResult:
    """Detections of an image.

    coverage: of its proposals, where it is measured. times: seconds by step. failure: one line, for an image that
    could not be read.
    """

    detections: Detections
    coverage: Coverage | None = None
    times: Mapping[str, float] = field(default_factory=dict)
    failure: str | None = None


@dataclass
class State:
    """Files in ``folder`` with the results of images, in the order of their annotations."""

    folder: Path
    annotations: Sequence[Annotation]
    _new: list[ImageResult] = field(default_factory=list)
    _n_files: int = 0

    def read(self) -> list[ImageResult]:
        """Return the results of an earlier run; new ones are added after them."""
        results: list[ImageResult] = []
        while (stored := stored_arrays(self._file(), "detecting again")) is not None:
            results += _from_arrays(*stored, self.annotations[len(results) :])
            self._n_files += 1
        if results:
            _log.info("resuming after %d of %d images (%s)", len(results), len(self.annotations), self.folder)
        return results

    def add(self, result: ImageResult) -> None:
        """Add the result of the next image; `SIZE` results are written at a time."""
        self._new.append(result)
        if len(self._new) == SIZE:
            write_arrays(self._file(), *_to_arrays(self._new))
            self._new = []
            self._n_files += 1

    def remove(self) -> None:
        """Delete all files, when the evaluation is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self) -> Path:
        return self.folder / f"{self._n_files:06d}.safetensors"


def open_state(dataset: Dataset, settings: Mapping[str, Any]) -> State:
    """Open the state of an evaluation, in a folder whose name is the digest of all that the results depend on.

    These are the images and their objects, the program, and ``settings``, as JSON-able values: the models, and the
    options that change what they find.
    """
    images = [(*_state_of_file(each.path), digest([each.to_bytes()])) for each in dataset]
    name = fingerprint(
        {
            "program": [program_digest(), find_spec("openvino") is not None],
            "images": digest([repr(images).encode()]),
            "classes": dataset.class_names,
            **settings,
        }
    )
    return State(cache_root().parent / "evaluations" / name, dataset.annotations)


def _state_of_file(path: Path) -> tuple[Any, ...]:
    try:
        return file_state(path)
    except OSError:
        return (str(path),)


def _to_arrays(results: Sequence[ImageResult]) -> tuple[Arrays, dict[str, Any]]:
    found = [each.detections for each in results]
    arrays: Arrays = {"counts": np.array([len(each) for each in found], np.int64)}
    # an image that could not be read has no probabilities
    calibrated = any(each.probabilities is not None for each in found)
    for name in ("boxes", "labels", "scores", *(["probabilities"] if calibrated else [])):
        columns = [getattr(each, name) for each in found]
        arrays[name] = np.concatenate([each for each in columns if each is not None])
    coverage = [each.coverage for each in results if each.coverage is not None]
    if len(coverage) == len(results):
        arrays["best"] = np.concatenate([each.best for each in coverage])
        arrays["n_proposals"] = np.concatenate([each.n_proposals for each in coverage])
    return arrays, {"class_names": found[0].class_names, "failures": [each.failure for each in results]}


def _from_arrays(arrays: Arrays, metadata: Mapping[str, Any], annotations: Sequence[Annotation]) -> list[ImageResult]:
    ends = np.cumsum(arrays["counts"])[:-1]
    columns = {
        name: np.split(arrays[name], ends) for name in ("boxes", "labels", "scores", "probabilities") if name in arrays
    }
    objects = np.cumsum([len(each.boxes) for each in annotations[: len(ends) + 1]])[:-1]
    best = np.split(arrays["best"].astype(np.float32), objects) if "best" in arrays else None
    n_proposals = arrays.get("n_proposals", np.zeros(0)).astype(np.int64)
    results = []
    for row, failure in enumerate(metadata["failures"]):
        values: dict[str, Any] = {name: column[row] for name, column in columns.items()}
        coverage = None if best is None else Coverage(best[row], n_proposals[row : row + 1])
        results.append(ImageResult(Detections(**values, class_names=metadata["class_names"]), coverage, {}, failure))
    return results
