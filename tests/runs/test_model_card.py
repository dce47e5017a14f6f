"""The thresholds that are written beside a model."""

from __future__ import annotations

import numpy as np
import pytest

from detector.heads.calibration import PRECISIONS, Calibration
from detector.runs.model_card import thresholds_of
from tests.fakes import fake_detector, with_heads


def test_the_thresholds_of_a_class_are_the_best_and_the_one_from_which_it_is_shown() -> None:
    # a class that never was right in three of ten is not shown
    precisions = np.where(np.arange(1, PRECISIONS + 1)[:, None] < [30, 31], 0, np.inf).astype(np.float32)
    slopes, best = np.full(2, 0.01, np.float32), np.array([50, -300], np.float32)
    weak = with_heads(fake_detector(), calibration=Calibration(slopes, 0 * slopes, best, precisions))
    written = thresholds_of(weak)
    assert written["best_f1"] == {"red": 50, "green": -300}
    assert written["default"] == {"red": None, "green": pytest.approx(100 * np.log(0.3 / 0.7))}
    assert thresholds_of(fake_detector()) == {"min_score": -1.5, "best_f1": None, "default": None}
