"""The detection function for CVAT, with the types of its SDK where that is installed."""

from __future__ import annotations

from types import SimpleNamespace

import PIL.Image
import pytest

from detector.ensemble import Ensemble
from detector.web.cvat import DetectionFunction
from tests.fakes import colored
from tests.web.sessions import calibrated_session, fake_session

cvataa = pytest.importorskip("cvat_sdk.auto_annotation", reason="CVAT's types need the package cvat-sdk")

IMAGE = PIL.Image.fromarray(colored())


def found(model: Ensemble, conf_threshold: float | None = None) -> list[tuple[int, list[float], float | None]]:
    function = DetectionFunction(model)
    context = SimpleNamespace(frame_name="a.png", conf_threshold=conf_threshold, conv_mask_to_poly=False)
    shapes = function.detect(context, IMAGE)
    assert all(each.type.value == "rectangle" and each.frame == 0 for each in shapes)
    return [(each.label_id, each.points, getattr(each, "score", None)) for each in shapes]


def test_labels_are_the_classes() -> None:
    spec = DetectionFunction(fake_session().detector).spec
    assert isinstance(spec, cvataa.DetectionFunctionSpec)
    assert [(each.id, each.name, str(each.type)) for each in spec.labels] == [
        (0, "red", "rectangle"),
        (1, "green", "rectangle"),
    ]


def test_detections_are_rectangles_with_probabilities() -> None:
    green, red = (1, [96.0, 0.0, 160.0, 64.0]), (0, [0.0, 0.0, 64.0, 64.0])
    assert found(calibrated_session().detector) == [(*green, 0.5)]
    above_half = found(calibrated_session().detector, 0.6)
    assert [each[:2] for each in above_half] == [red] and (above_half[0][2] or 0) > 0.6
    # without a calibration, a confidence has no meaning
    assert [each[:2] for each in found(fake_session().detector, 0.99)] == [red, green]
