"""Work in the order of its urgency, and what is reported of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import detector
from detector.config.detector import Config
from detector.datasets.dataset import Dataset
from detector.teaching import session as session_module
from detector.teaching.labels import Box, ImageLabels
from detector.teaching.project import ProjectImage
from detector.teaching.session import Event, Snapshot, TeachingSession


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
