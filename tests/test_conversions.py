"""What users do with detections: filter, iterate, draw, and hand them to other libraries."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.detections import Detections, percent
from detector.images.files import as_image, write_image
from detector.runtime.optional import MissingPackageError
from tests.fakes import colored, fake_detector

NAMES = ("cat", "<dog>")


@pytest.fixture
def found() -> Detections:
    boxes = np.array([[0, 0, 10, 10], [1, 2, 4, 8], [5, 5, 6, 6]], np.float32)
    return Detections(
        boxes, np.array([1, 0, 1]), np.array([0.5, 2.5, -1], np.float32), NAMES, np.array([0.6, 0.9, 0.1], np.float32)
    )


def test_probabilities_stay_with_their_rows(found: Detections) -> None:
    assert found.scores.tolist() == [2.5, 0.5, -1]
    for part in (found, found.above(0), found.top(2), found.inside(), found[:2], found[np.array([True, True, False])]):
        assert part.probabilities is not None
        assert part.probabilities[:2].tolist() == [pytest.approx(0.9), pytest.approx(0.6)]
    assert found.above(0).probabilities.shape == (2,)  # type: ignore[union-attr]


@pytest.mark.parametrize("wrong", [[0.5, 0.5], [0.5, 0.5, 1.1], [0.5, 0.5, np.nan], [-0.1, 0, 0]])
def test_wrong_probabilities(found: Detections, wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="probabilities must"):
        Detections(found.boxes, found.labels, found.scores, NAMES, np.array(wrong, np.float32))


def test_rows_in_a_loop(found: Detections) -> None:
    first, *_, last = found
    assert first[:3] == ("cat", 2.5, (1, 2, 4, 8))
    assert first[3] == pytest.approx(0.9)
    assert last.class_name == "<dog>"
    assert [each.probability for each in Detections(found.boxes, found.labels, found.scores, NAMES)] == [None] * 3


def test_one_row_is_a_detection(found: Detections) -> None:
    assert found[0] == next(iter(found)) and found[-1] == found[np.int64(2)] == list(found)[2]
    assert str(found[0]) == "cat 90 % at 1 2 4 8"
    assert repr(found[0]) == "Detection(class_name='cat', probability=0.9, score=2.5, box=(1, 2, 4, 8))"
    with pytest.raises(IndexError):
        found[3]
    assert found[1:].scores.tolist() == found[[1, 2]].scores.tolist() == found[[False, True, True]].scores.tolist()
    assert repr(found[:2]) == "Detections(2: cat 90 % at 1 2 4 8; <dog> 60 % at 0 0 10 10)"
    assert repr(found[[0] * 7]).endswith("; cat 90 % at 1 2 4 8; 2 more)")
    assert repr(Detections.empty(NAMES)) == "Detections(0)"
    assert str(replace(found, probabilities=None)[0]) == "cat 2.50 at 1 2 4 8"


@pytest.mark.parametrize(
    ("probability", "text"),
    [(0, "0 %"), (0.001, "<1 %"), (0.01, "1 %"), (0.884, "88 %"), (0.99, "99 %"), (0.9901, ">99 %"), (1, "100 %")],
)
def test_probabilities_in_percent(probability: float, text: str) -> None:
    assert percent(probability) == text


def test_drawing_takes_what_detection_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "a.png", colored())
    found = fake_detector().detect(tmp_path / "a.png")
    drawn = [found.draw(each) for each in (colored(), tmp_path / "a.png", Image.open(tmp_path / "a.png"))]
    assert drawn[0] == drawn[1] == drawn[2] and drawn[0].size == (160, 160)
    with pytest.raises(ValueError, match="detections are of an image of 160 x 160, but this one has 160 x 90"):
        found[:1].draw(colored()[:90])

    given: dict[str, Any] = {}

    def note(image: Any, boxes: Any, labels: Any, captions: Any, ranks: Any, dashed: Any) -> Any:
        given.update(captions=captions, dashed=dashed)
        return image

    monkeypatch.setattr("detector.images.drawing.draw_boxes", note)
    likely = replace(found, probabilities=np.array([0.5, 0.49], np.float32))
    likely.draw(colored())
    assert given["captions"] == ["red 50 %", "green 49 %"] and given["dashed"].tolist() == [False, True]
    likely.draw(colored(), scores=True)
    assert given["captions"] == ["red 50 % (150.00)", "green 49 % (100.00)"]
    found.draw(colored(), scores=True)
    assert given["captions"] == ["red 150.00", "green 100.00"] and given["dashed"] is None


def test_filters(found: Detections) -> None:
    def scores(**conditions: Any) -> list[float]:
        return found.where(**conditions).scores.tolist()

    assert scores() == [2.5, 0.5, -1]
    assert scores(classes=["<dog>"]) == scores(classes="<dog>") == [0.5, -1]
    assert scores(classes=[]) == []
    assert scores(min_score=0.5) == scores(min_probability=0.6) == [2.5, 0.5]
    # areas are 18, 100 and 1; limits are included
    assert scores(min_area=18) == [2.5, 0.5]
    assert scores(max_area=18) == [2.5, -1]
    assert scores(classes=["<dog>"], min_probability=0.2, min_area=2) == [0.5]
    assert found.reaching([2.6, 0.5]).scores.tolist() == [0.5]
    with pytest.raises(ValueError, match="there is no class 'dog'; there are cat, <dog>"):
        found.where(classes=["dog", "cat"])
    with pytest.raises(ValueError, match="there are no probabilities"):
        Detections.empty(NAMES).where(min_probability=0.5)


def test_the_names_of_supervision_are_read_only(found: Detections) -> None:
    np.testing.assert_array_equal(found.xyxy, found.boxes)
    np.testing.assert_array_equal(found.class_id, found.labels)
    assert found.confidence is not found.probabilities
    np.testing.assert_array_equal(found.confidence, found.probabilities)
    plain = Detections(found.boxes, found.labels, found.scores, NAMES)
    np.testing.assert_array_equal(plain.confidence, plain.scores)
    for array in (found.xyxy, found.class_id, found.confidence):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_coco_rows(found: Detections) -> None:
    rows = found.to_coco(7)
    assert rows[0] == {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 6], "score": 2.5}
    assert [row["category_id"] for row in found.to_coco("x", {"cat": 17, "<dog>": 18})] == [17, 18, 18]
    assert Detections.empty(NAMES).to_coco(1) == []


def test_pandas_and_supervision_are_asked_for_when_needed(found: Detections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=dict))
    frame = found.to_pandas()
    assert list(frame) == ["class_name", "probability", "score", "x1", "y1", "x2", "y2"]
    assert frame["class_name"] == ["cat", "<dog>", "<dog>"]
    assert frame["x2"].tolist() == [4, 10, 6]
    assert np.isnan(Detections(found.boxes, found.labels, found.scores, NAMES).to_pandas()["probability"]).all()

    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=dict))
    made = found.to_supervision()
    assert set(made) == {"xyxy", "confidence", "class_id", "data"}
    assert made["data"]["class_name"].tolist() == ["cat", "<dog>", "<dog>"]
    made["xyxy"][0] = 0  # a copy
    assert found.boxes[0].tolist() == [1, 2, 4, 8]

    for name, convert in (("pandas", found.to_pandas), ("supervision", found.to_supervision)):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingPackageError, match=f"^{name} is not installed: pip install {name}$"):
            convert()


def test_real_supervision(found: Detections) -> None:
    supervision = pytest.importorskip("supervision")
    made = found.to_supervision()
    assert isinstance(made, supervision.Detections) and len(made) == 3
    assert made[made.confidence > 0.5].data["class_name"].tolist() == ["cat", "<dog>"]


def test_notebooks_show_a_table_and_an_image(found: Detections) -> None:
    table = found._repr_html_()
    assert table.count("<tr>") == 4
    assert "<td>&lt;dog&gt;</td><td>60 %</td><td>0.500</td><td>0.0</td>" in table
    drawn = found.draw(np.zeros((20, 20, 3), np.uint8))
    assert isinstance(drawn, Image.Image) and drawn.size == (20, 20)
    assert np.asarray(drawn).any()
    assert drawn._repr_png_()


def test_images_of_all_kinds_are_detected_in(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", colored())
    detector = fake_detector()
    expected = detector.detect(colored()).to_records()
    opened = Image.fromarray(colored())
    for image in (tmp_path / "a.png", str(tmp_path / "a.png"), opened, opened.convert("RGBA")):
        assert detector.detect(image).to_records() == expected
    with pytest.raises(ValueError, match=r"image must be \(H, W, 3\) uint8 RGB, but got list"):
        detector.detect([[0]])  # type: ignore[list-item]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        detector.detect(tmp_path / "nowhere.png")


def test_pil_images_are_turned_and_laid_on_white() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    opened = Image.fromarray(pixels)
    exif = opened.getexif()
    exif[274] = 6  # to be turned clockwise
    assert as_image(opened).tolist() == np.rot90(pixels, -1).tolist()
    clear = Image.new("RGBA", (2, 1), (9, 9, 9, 0))
    assert as_image(clear).tolist() == [[[255] * 3] * 2]
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([1, 2, 3])
    assert as_image(palette).tolist() == [[[1, 2, 3]]]
    with pytest.raises(ValueError, match="must have 8 bits per channel, but has mode I;16"):
        as_image(Image.new("I;16", (1, 1)))
