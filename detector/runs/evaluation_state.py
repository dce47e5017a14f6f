"""What an evaluation has done so far, on disk: one that was killed goes on where it was."""

from __future__ import annotations

import logging
import shutil
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from detector.cli.options import model_digests
from detector.datasets.dataset import Annotation, Dataset
from detector.detections import Detections
from detector.runs.coverage import Cover
from detector.runtime.array_cache import stored_arrays
from detector.runtime.files import Arrays, cache_root, digest, file_state, fingerprint, program_digest, write_arrays

SIZE = 32
"""Images a file: no more are done again."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """What came of an image.

    cover: what its proposals cover, where that is watched. times: seconds by stage. failure: why nothing came of it.
    """

    detections: Detections
    cover: Cover | None = None
    times: Mapping[str, float] = field(default_factory=dict)
    failure: str | None = None


@dataclass
class State:
    """Files of a ``folder`` for what was seen in the images of annotations, in their order; so many images each."""

    folder: Path
    annotations: Sequence[Annotation]
    _new: list[Seen] = field(default_factory=list)
    _n_files: int = 0

    def read(self) -> list[Seen]:
        """What an earlier run has seen; what follows is added after it."""
        seen: list[Seen] = []
        while (stored := stored_arrays(self._file(), "detecting again")) is not None:
            seen += _from_arrays(*stored, self.annotations[len(seen) :])
            self._n_files += 1
        if seen:
            _log.info("going on after %d of %d images (%s)", len(seen), len(self.annotations), self.folder)
        return seen

    def add(self, seen: Seen) -> None:
        """What was seen in the next image; every so many are written."""
        self._new.append(seen)
        if len(self._new) == SIZE:
            write_arrays(self._file(), *_to_arrays(self._new))
            self._new = []
            self._n_files += 1

    def remove(self) -> None:
        """Delete all files: the evaluation is over."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self) -> Path:
        return self.folder / f"{self._n_files:06d}.safetensors"


def state_of(options: Namespace, dataset: Dataset, settings: Mapping[str, Any]) -> State:
    """The state of an evaluation by the options of the command, and by ``settings`` that say more of it, as JSON.

    Its name tells everything that what is seen depends on: the contents of models, images and objects, options, and the
    program itself.
    """
    proposals = [digest([path.read_bytes()]) for path in filter(None, [options.proposals])]
    images = [(*_state_of_file(each.path), digest([each.to_bytes()])) for each in dataset]
    name = fingerprint(
        {
            "files": model_digests(options) + proposals,
            "program": program_digest(),
            "images": digest([repr(images).encode()]),
            "classes": dataset.class_names,
            "options": [options.mirror, options.device, options.runtime, find_spec("openvino") is not None],
            **settings,
        }
    )
    return State(cache_root().parent / "evaluations" / name, dataset.annotations)


def _state_of_file(path: Path) -> tuple[Any, ...]:
    try:
        return file_state(path)
    except OSError:
        return (str(path),)


def _to_arrays(seen: Sequence[Seen]) -> tuple[Arrays, dict[str, Any]]:
    found = [each.detections for each in seen]
    arrays: Arrays = {"counts": np.array([len(each) for each in found], np.int64)}
    names = ("boxes", "labels", "scores") + (("probabilities",) if _calibrated(found) else ())
    for name in names:
        columns = [getattr(each, name) for each in found]
        arrays[name] = np.concatenate([each for each in columns if each is not None])
    if (covers := [each.cover for each in seen if each.cover is not None]) and len(covers) == len(seen):
        arrays["best"] = np.concatenate([each.best for each in covers])
        arrays["n_proposals"] = np.array([each.n_proposals for each in covers], np.int64)
    return arrays, {"class_names": found[0].class_names, "failures": [each.failure for each in seen]}


def _calibrated(found: Sequence[Detections]) -> bool:
    # those of an image that could not be read are none, without probabilities
    return any(each.probabilities is not None for each in found)


def _from_arrays(arrays: Arrays, metadata: Mapping[str, Any], annotations: Sequence[Annotation]) -> list[Seen]:
    ends = np.cumsum(arrays["counts"])[:-1]
    columns = {
        name: np.split(arrays[name], ends) for name in ("boxes", "labels", "scores", "probabilities") if name in arrays
    }
    objects = np.cumsum([len(each.boxes) for each in annotations[: len(ends) + 1]])[:-1]
    best = np.split(arrays["best"], objects) if "best" in arrays else None
    seen = []
    for row, failure in enumerate(metadata["failures"]):
        values: dict[str, Any] = {name: column[row] for name, column in columns.items()}
        cover = None if best is None else Cover(best[row].astype(np.float32), int(arrays["n_proposals"][row]))
        seen.append(Seen(Detections(**values, class_names=metadata["class_names"]), cover, {}, failure))
    return seen
