"""Which settings a trained model can be tried with, and how their times are told."""

from __future__ import annotations

import pytest

from benchmarks.tradeoff import seconds, variant
from tests.fakes import fake_detector


def test_settings_of_detection_and_scales_change_without_a_training() -> None:
    base = fake_detector()
    tried = variant(base, "detection.max_boxes=7,features.short_sides=[160, 320]")
    assert tried.detector.config.detection.max_boxes == 7
    assert tuple(tried.detector.encoder.short_sides) == (160, 320)
    assert base.config.detection.max_boxes is None
    with pytest.raises(ValueError, match=r"svm.C=2: only detection and features.short_sides"):
        variant(base, "svm.C=2")
    with pytest.raises(ValueError, match="there is no key"):
        variant(base, "detection.boxes=2")


def test_columns_are_medians_of_parts_of_the_time() -> None:
    times = [
        {"together": 1.0, "convolution at 480": 0.25, "convolution at 688": 0.5},
        {"together": 2.0, "convolution at 480": 0.5, "refinement": 1.0},
        {"together": 9.0, "convolution at 480": 8.0},
    ]
    # convolution .75, .5, 8; the rest .25, 1.5, 1; with proposals 2, 2.5, 9.25
    assert seconds(times, [1.0, 0.5, 0.25]).split() == ["0.750", "1.000", "2.500"]
