"""State of an evaluation: a name for all that the results depend on, and each image's own results after a kill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.boxes import as_boxes
from detector.datasets.dataset import Dataset
from detector.detections import Detections
from detector.evaluation.coverage import image_coverage
from detector.runs import evaluation_state
from detector.runs.evaluation_state import ImageResult, State, open_state
from tests.fakes import NAMES
from tests.training.small import annotation, image_of


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Four images of one, three, two and three objects."""
    images = []
    for number, count in enumerate((1, 3, 2, 3)):
        squares = [([20 * row, 10, 20 * row + 10, 20 + number], row % 2) for row in range(count)]
        images.append(annotation(str(number), image_of(tmp_path, str(number), squares), squares))
    return Dataset(tuple(images), NAMES, "test")


def test_resumed_results_are_those_of_their_images(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation_state, "SIZE", 2)
    results = []
    for number, each in enumerate(dataset):
        scores, labels = np.full(number, 0.25, np.float32), np.ones(number, np.int64)
        found = Detections(as_boxes([[0, 0, 9, 9]] * number), labels, scores, NAMES)
        results.append(ImageResult(found, image_coverage(each.boxes[:1], each.boxes), {}, None))
    state = State(tmp_path / "state", dataset.annotations)
    for result in results[:3]:  # files hold two
        state.add(result)
    again = State(tmp_path / "state", dataset.annotations)
    assert len(again.read()) == 2
    for result in results[2:]:
        again.add(result)
    read = State(tmp_path / "state", dataset.annotations).read()
    assert len(read) == 4
    for given, got in zip(results, read, strict=True):
        assert got.detections.scores.tolist() == given.detections.scores.tolist()
        assert got.detections.labels.tolist() == given.detections.labels.tolist()
        assert got.coverage is not None and given.coverage is not None
        np.testing.assert_array_equal(got.coverage.best, given.coverage.best)
        np.testing.assert_array_equal(got.coverage.n_proposals, given.coverage.n_proposals)
    again.remove()
    assert again.read() == []


def test_all_that_results_depend_on_is_in_the_name(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def name(data: Dataset = dataset, settings: Mapping[str, Any] | None = None) -> str:
        return open_state(data, {"models": ["a"], "min_score": None} if settings is None else settings).folder.name

    first, *others = dataset.annotations
    names = [
        name(),
        name(settings={"models": ["b"], "min_score": None}),
        name(settings={"models": ["a"], "min_score": 0.5}),
        name(replace(dataset, class_names=NAMES[::-1])),
        name(dataset[:2]),
        name(replace(dataset, annotations=(*others, first))),
        name(replace(dataset, annotations=(replace(first, labels=1 - first.labels), *others))),
        name(replace(dataset, annotations=(replace(first, boxes=first.boxes + 1), *others))),
    ]
    assert name() == names[0]
    first.path.write_bytes(others[0].path.read_bytes())
    names.append(name())
    monkeypatch.setattr(evaluation_state, "program_digest", lambda: "another program")
    names.append(name())
    assert len(set(names)) == len(names)
