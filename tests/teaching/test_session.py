"""Work in the order of its urgency, and what is reported of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import detector
from detector.config.detector import Config
from detector.datasets.dataset import Dataset
from detector.teaching import session as session_module
from detector.teaching.labels import Box, ImageLabels
from detector.teaching.project import ProjectImage
from detector.teaching.session import Event, Snapshot, TeachingSession
from detector.training.calibration import with_calibration
from tests.composites import calibration


def labels_of(dataset: Dataset, image: int) -> ImageLabels:
    each = dataset[image]
    pairs = zip(each.labels.tolist(), each.boxes.tolist(), strict=True)
    boxes = [Box(dataset.class_names[label], (x1, y1, x2, y2)) for label, (x1, y1, x2, y2) in pairs]
    return ImageLabels(tuple(boxes), done=True)


def test_the_image_in_view_goes_first(
    train_set: Dataset, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "teaching_recipe", lambda sizes: config)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    images = [ProjectImage(each.path.name, each.path) for each in train_set[:5]]
    images.append(ProjectImage("broken.jpg", tmp_path / "broken.jpg"))
    events: list[Event] = []
    session = TeachingSession(images, tmp_path / "features", events.append)
    session.look(2)
    session.step()
    assert [event[:2] for event in events] == [("features", 2)]
    with pytest.raises(ValueError, match="no model yet"):
        session.save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="nothing is measured yet"):
        session.write_report(tmp_path / "report")
    session.label(Snapshot({2: labels_of(train_set, 2), 0: ImageLabels((), done=False)}, train_set.class_names))
    session.look(3)
    for _ in range(4):  # features of 3, a round, suggestions for 3, and others
        session.step()
    assert [event[:2] for event in events if event.kind in ("features", "suggestions", "round")] == [
        ("features", 2),
        ("features", 3),
        ("round", None),
        ("suggestions", 3),
    ]
    session.label(Snapshot({image: labels_of(train_set, image) for image in range(4)}, train_set.class_names))
    assert sum(iter(session.step, False)) < 100
    content = {event.kind: event.content for event in events}
    assert content["round"]["images"] == 4
    assert content["next"] == [4]
    assert content["failed"].startswith(str(tmp_path / "broken.jpg"))
    assert 0 <= content["quality"]["AP50"] <= 1
    x1, y1, x2, y2 = labels_of(train_set, 0).boxes[0].corners
    matches = session.similar(0, (x1, y1, x2, y2))
    assert sorted(each.image for each in matches) == [1, 2, 3, 4]
    assert matches == sorted(matches, key=lambda each: -each.similarity)
    session.write_report(tmp_path / "exports" / "report")
    record = json.loads((tmp_path / "exports" / "report" / "metrics.json").read_text())
    assert record["mAP"] == pytest.approx(content["quality"]["AP50"])
    session.save(tmp_path / "model.safetensors")
    assert detector.load(tmp_path / "model.safetensors").calibration is not None
    # a new class is learned in the next round, and measured later
    labels = {image: labels_of(train_set, image) for image in range(4)}
    labels[0] = ImageLabels((Box("new", labels[0].boxes[0].corners),), done=True)
    session.label(Snapshot(labels, (*train_set.class_names, "new")))
    n_rounds = sum(event.kind == "round" for event in events)
    while sum(event.kind == "round" for event in events) == n_rounds:
        assert session.step()
    session.write_report(tmp_path / "exports" / "report")
    again = json.loads((tmp_path / "exports" / "report" / "metrics.json").read_text())
    assert {**again, "circumstances": None} == {**record, "circumstances": None}


class Work:
    """A session over the first synthetic images, one of them damaged, with small features, and its events."""

    def __init__(self, folder: Path, train_set: Dataset, count: int) -> None:
        self.train_set = train_set
        (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
        images = [ProjectImage(each.path.name, each.path) for each in train_set[:count]]
        images.append(ProjectImage("broken.jpg", folder / "broken.jpg"))
        self.broken = count
        self.events: list[Event] = []
        self.session = TeachingSession(images, folder / "features", self.events.append)

    def finish(self, *images: int, names: tuple[str, ...] | None = None, **changed: ImageLabels) -> list[Event]:
        """Take the labels of images as finished, work until nothing is left, and return what was reported."""
        labels = {image: labels_of(self.train_set, image) for image in images if image != self.broken}
        labels |= {self.broken: ImageLabels((Box("circle", (0, 0, 9, 9)),), True)} if self.broken in images else {}
        labels |= {int(image.removeprefix("image_")): each for image, each in changed.items()}
        self.session.label(Snapshot(labels, names or self.train_set.class_names))
        return self.work()

    def work(self) -> list[Event]:
        before = len(self.events)
        assert sum(iter(self.session.step, False)) < 300
        return self.events[before:]


@pytest.fixture
def work(train_set: Dataset, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    monkeypatch.setattr(session_module, "teaching_recipe", lambda sizes: config)
    monkeypatch.setattr(session_module, "N_NEXT", 2)
    return Work(tmp_path, train_set, 6)


def images_of(events: list[Event], kind: str) -> list[int | None]:
    return [each.image for each in events if each.kind == kind]


def contents(events: list[Event], kind: str) -> list[Any]:
    return [each.content for each in events if each.kind == kind]


def test_classes_keep_the_order_of_the_user_and_unreadable_images_are_left_out(work: Work) -> None:
    names = ("triangle", "unused", "square", "circle")
    events = work.finish(0, 1, 2, work.broken, names=names)
    assert [each["images"] for each in contents(events, "round")] == [3]
    assert images_of(events, "failed") == [work.broken]
    used = {box.class_name for image in (0, 1, 2) for box in labels_of(work.train_set, image).boxes}
    assert work.session.detector is not None
    assert work.session.detector.class_names == tuple(name for name in names if name in used)


def test_images_to_label_are_suggested_first_and_finished_ones_last(work: Work) -> None:
    next_ones = contents(work.finish(0), "next")[-1]
    assert len(next_ones) == 2 and 0 not in next_ones
    work.session.look(0)
    events = work.finish(0, next_ones[0])
    suggested = images_of(events, "suggestions")
    assert sorted(map(str, suggested)) == ["0", "1", "2", "3", "4", "5"]
    assert suggested[:2] == [0, next_ones[1]] and suggested[-1] == next_ones[0]


def test_each_round_is_ranked_and_measured(work: Work) -> None:
    changed = labels_of(work.train_set, 2)
    for events in (work.finish(0, 1, 2, 3), work.finish(0, 2, 3, image_1=changed)):
        kinds = [each.kind for each in events]
        assert kinds.count("round") == 1 and "next" in kinds and kinds.count("quality") == 1
    # the same labels again are no work
    assert work.finish(0, 2, 3, image_1=changed) == []


def test_suggestions_do_not_wait_for_the_best_threshold(work: Work) -> None:
    labels = {image: labels_of(work.train_set, image) for image in range(4)}
    work.session.label(Snapshot(labels, work.train_set.class_names))
    while (trained := work.session.detector) is None:
        assert work.session.step()
    n_classes = len(trained.class_names)
    strict = replace(calibration([1.0] * n_classes, [0.0] * n_classes), best_f1=np.full(n_classes, 9, np.float32))
    work.session.detector = with_calibration(trained, strict)
    work.session.look(4)
    while not (suggested := contents(work.events, "suggestions")):
        assert work.session.step()
    (suggestions,) = suggested
    found = trained.detect_cached(work.session.learner.cache, work.train_set[4])
    scores = [each["score"] for each in suggestions["boxes"]]
    assert scores == pytest.approx(found.above(0).scores.tolist(), abs=1e-3) and len(scores) > 0
