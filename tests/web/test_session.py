"""Answers to the page: detections, explanations, and images for browsers that cannot show them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from detector.ensemble import Ensemble
from detector.images.decoding import decode_image
from detector.web.session import KEPT_IMAGES, SEARCH_SIDE, Session, heat_record
from tests.fakes import colored, fake_detector
from tests.images.encoded import encode
from tests.web.sessions import calibrated_session, fake_session

BODY = encode(colored(), "PNG")


def counting() -> tuple[Session, list[tuple[int, ...]]]:
    """A session, and the sizes of the images that its network has seen."""
    detector = fake_detector()
    network: Any = detector.encoder.backbone
    return Session(Ensemble([detector])), network.sizes


def test_the_answer_is_a_record_of_detect_and_more() -> None:
    answer = fake_session().detect(BODY, name="squares.png", proposals=3)
    assert {name: answer[name] for name in ("image", "width", "height", "detections")} == {
        "image": "squares.png",
        "width": 160,
        "height": 160,
        "detections": [
            {"label": "red", "score": 150.0, "box": [0.0, 0.0, 64.0, 64.0]},
            {"label": "green", "score": 100.0, "box": [96.0, 0.0, 160.0, 64.0]},
        ],
    }
    assert answer["class_names"] == ["red", "green"]
    assert answer["n_proposals"] == 4
    assert answer["proposals"] == [[0, 0, 64, 64], [4, 0, 68, 64], [96, 0, 160, 64]]
    assert list(answer["times"])[:2] == ["decoding", "proposals"]
    json.dumps(answer)


def test_options_of_detection() -> None:
    session = fake_session()
    assert len(session.detect(BODY, min_score=120.0)["detections"]) == 1
    assert len(session.detect(BODY, max_detections=1)["detections"]) == 1
    assert "proposals" not in session.detect(BODY)
    assert session.detect(BODY, min_score=120.0)["thresholds"] == [120, 120]
    assert session.detect(BODY)["thresholds"] == session.status()["thresholds"] == [0, 0]
    assert session.status()["calibrated"] is False
    with pytest.raises(ValueError, match="at most one of min_score, min_probability and precision"):
        session.detect(BODY, min_score=0.0, precision=0.5)
    with pytest.raises(ValueError, match="min_probability needs one model with a calibration"):
        session.detect(BODY, min_probability=0.5)


def test_a_calibrated_model_answers_with_its_thresholds_and_probabilities() -> None:
    session = calibrated_session()
    status = session.status()
    assert (status["calibrated"], status["thresholds"]) == (True, [151, pytest.approx(100 * (1 + np.log(3 / 7)))])
    (green,) = session.detect(BODY)["detections"]
    assert (green["label"], green["score"], green["probability"]) == ("green", 100, 0.5)
    assert [each["label"] for each in session.detect(BODY, min_probability=0.51)["detections"]] == ["red"]
    unreached = session.detect(BODY, precision=0.9)
    assert (unreached["detections"], unreached["thresholds"]) == ([], [None, None])
    json.dumps(unreached, allow_nan=False)
    box = [4, 0, 64, 64]
    assert session.explain(BODY, box, "red")["outcome"] == "low score"
    assert session.explain(BODY, box, "red", min_probability=0.5)["outcome"] == "found"


def test_attributions_add_up_and_reuse_the_feature_maps() -> None:
    session, seen = counting()
    (red, _) = session.detect(BODY)["detections"]
    assert len(seen) == 1
    explanation = session.explain(BODY, red["box"], "red")
    assert len(seen) == 1
    assert explanation["outcome"] == "found"
    assert (explanation["label"], explanation["score"], explanation["box"]) == ("red", 150.0, red["box"])
    assert explanation["bias"] + sum(np.sum(grid) for grid in explanation["levels"].values()) == pytest.approx(150)
    assert [each["cells"] for each in explanation["positions"]] == [[0, 0, 4, 4]]
    json.dumps(explanation)


def test_why_not() -> None:
    session, seen = counting()
    # without a detection before
    explanation = session.explain(BODY, [0, 0, 64, 64], "green")
    assert len(seen) == 1
    assert explanation["outcome"] == "low score"
    assert explanation["score"] == pytest.approx(-100)
    assert explanation["closest"] == {"box": [0, 0, 64, 64], "score": -100.0, "iou": 1.0}
    assert explanation["sentence"].startswith("not found: ")


def test_a_detection_below_the_limits_is_explained_as_what_the_page_may_show() -> None:
    session = fake_session()
    green = session.detect(BODY)["detections"][1]
    assert green["score"] == 100
    assert session.explain(BODY, green["box"], "green", min_score=120.0)["outcome"] == "found"
    # any other box is diagnosed against the limits
    assert session.explain(BODY, [96, 0, 160, 63], "green", min_score=120.0)["outcome"] == "low score"


@pytest.mark.parametrize(
    ("box", "label", "fault"),
    [
        ([0, 0, 64, 64], "blue", "unknown class 'blue'"),
        ([10, 10, 10, 20], "red", "box"),
        ([500, 500, 600, 600], "red", "box must have an area inside the image of 160 x 160"),
        ([0, 0, float("inf"), 64], "red", "box"),
    ],
)
def test_wrong_questions(box: list[float], label: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        fake_session().explain(BODY, box, label)


def test_few_images_are_kept() -> None:
    session, seen = counting()
    bodies = [encode(np.roll(colored(), shift, axis=0), "PNG") for shift in range(KEPT_IMAGES + 1)]
    for body in bodies:
        session.detect(body)
    session.explain(bodies[-1], [0, 0, 64, 64], "red")
    session.explain(bodies[1], [0, 0, 64, 64], "red")
    assert len(seen) == len(bodies)
    session.explain(bodies[0], [0, 0, 64, 64], "red")
    assert len(seen) == len(bodies) + 1


def test_what_is_no_image_is_refused_and_forgotten() -> None:
    session = fake_session()
    for body, fault in ((b"", "the file is empty"), (b"<html>", "not a JPEG"), (BODY[:-20], "damaged")):
        for ask in (
            session.detect,
            session.search,
            session.render,
            lambda body: session.explain(body, [0, 0, 9, 9], "red"),
        ):
            with pytest.raises(ValueError, match=fault):
                ask(body)


def test_nothing_is_written_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    session = fake_session()
    session.detect(BODY)
    session.explain(BODY, [0, 0, 64, 64], "red")
    session.render(BODY)
    session.search(BODY)
    assert list(tmp_path.iterdir()) == []


def test_images_for_the_browser() -> None:
    tiff = encode(colored(), "TIFF")
    rendered = fake_session().render(tiff)
    assert rendered.startswith(b"\x89PNG")
    np.testing.assert_array_equal(decode_image(rendered, max_pixels=10**6), colored())
    wide = encode(np.zeros((8, 4096, 3), np.uint8), "PNG")
    assert decode_image(fake_session().render(wide), max_pixels=10**6).shape == (4, 2048, 3)


def test_heat_maps_are_small_numbers() -> None:
    heat = np.zeros((400, 800), np.float32)
    heat[:200, :400], heat[200:, 400:] = 2, -1
    record = heat_record(heat, 0)
    assert (record["width"], record["height"], record["limit"]) == (160, 80, 2.0)
    values = np.frombuffer(base64.b64decode(record["data"]), np.int8).reshape(80, 160)
    np.testing.assert_array_equal(values, cv2.resize(heat / 2 * 127, (160, 80), interpolation=cv2.INTER_AREA).round())
    assert (values.max(), values.min()) == (127, -64)
    blurred = np.frombuffer(base64.b64decode(heat_record(heat, 50)["data"]), np.int8).reshape(80, 160)
    assert blurred[20, 20] > 120
    assert 50 < blurred[20, 80] < 70
    nothing = heat_record(np.zeros((3, 2), np.float32), 1)
    assert base64.b64decode(nothing["data"]) == bytes(6)


def test_the_image_in_view_is_forgotten_last() -> None:
    session, seen = counting()
    first, *others = (encode(np.roll(colored(), shift, axis=0), "PNG") for shift in range(KEPT_IMAGES + 1))
    for body in (first, *others[:-1], first, others[-1]):
        session.detect(body)
    computed = len(seen)
    session.explain(first, [0, 0, 64, 64], "red")
    assert len(seen) == computed
    session.explain(others[0], [0, 0, 64, 64], "red")
    assert len(seen) == computed + 1


def test_an_image_and_its_tiles_are_two_things() -> None:
    session, seen = counting()
    for first, then in ((2, None), (None, 2)):
        session.detect(BODY, tiles=first)
        computed = len(seen)
        session.explain(BODY, [0, 0, 64, 64], "red", tiles=first)
        assert len(seen) == computed
        session.explain(encode(colored()[::-1].copy(), "PNG"), [0, 0, 9, 9], "red")  # another image is forgotten first
        session._kept.popitem()
        session.explain(BODY, [0, 0, 64, 64], "red", tiles=then)
        assert len(seen) > computed + 1
        session._kept.clear()


def test_the_search_is_shown_on_a_small_copy() -> None:
    image = np.repeat(np.repeat(colored(), 4, axis=0), 4, axis=1)
    found = fake_session().search(encode(image, "PNG"))
    assert (found["width"], found["height"]) == (SEARCH_SIDE, SEARCH_SIDE)
    labels = np.frombuffer(base64.b64decode(found["labels"]), "<u2").reshape(SEARCH_SIDE, SEARCH_SIDE)
    assert found["n_regions"] == labels.max() + 1 == len(found["parts"]) + 1
    assert labels[10, 10] == labels[100, 100] != labels[10, 200]
    # in pixels of the image
    assert found["boxes"][-1] == [0, 0, 640, 640]
    assert json.loads(json.dumps(found)) == found


def test_an_image_is_never_enlarged_for_the_search() -> None:
    found = fake_session().search(BODY)
    assert (found["width"], found["height"], found["boxes"][-1]) == (160, 160, [0, 0, 160, 160])


def test_explanations_show_the_grid_and_what_was_suppressed() -> None:
    answer = fake_session().explain(BODY, [0, 0, 64, 64], "red")
    (position,) = answer["positions"]
    # the cells of the fake network have 16 pixels
    assert (position["cells"], position["grid"]) == ([0, 0, 4, 4], {"left": 0, "top": 0, "side": 16})
    assert answer["suppressed"] == [{"box": [4, 0, 68, 64], "score": 150, "iou": pytest.approx(60 / 68, abs=1e-4)}]
    assert fake_session().explain(BODY, [0, 0, 60, 60], "red")["suppressed"] == []
