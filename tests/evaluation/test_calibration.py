"""The calibration error of probabilities, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from detector.detections import Detections
from detector.evaluation.calibration import probability_bins
from tests.evaluation.boxes import FAR, NAMES, A, B, found, objects


def test_calibration_error_by_hand() -> None:
    """Ten detections of .75, of which half are true, and two of .25, one true: 10 / 12 * .25 + 2 / 12 * .25."""
    truths, detections = [], []
    for number in range(12):
        truths.append(objects(str(number), (A, 0, False), (B, 0, True)))
        # what lies on a difficult object does not count
        place, chance = A if number % 2 else FAR, 0.75 if number < 10 else 0.25
        each = found((place, 0, float(number)), (B, 0, 50.0))
        detections.append(Detections(each.boxes, each.labels, each.scores, NAMES, np.array([0.9, chance], np.float32)))
    assert probability_bins(detections, truths, NAMES).calibration_error == pytest.approx(0.25)
    likely = [each.where(min_probability=0.5) for each in detections]
    assert probability_bins(likely, truths, NAMES).calibration_error == pytest.approx(0.25)
    perfect = [Detections(d.boxes, d.labels, d.scores, NAMES, np.full(2, 0.5, np.float32)) for d in detections]
    assert probability_bins(perfect, truths, NAMES).calibration_error == pytest.approx(0)
    none = [each.where(min_probability=1) for each in detections]
    assert np.isnan(probability_bins(none, truths, NAMES).calibration_error)
    # an image that could not be read has no detections, and none without probabilities
    unread = [*detections, Detections.empty(NAMES)]
    assert probability_bins(unread, [*truths, objects("unread")], NAMES).calibration_error == pytest.approx(0.25)
    with pytest.raises(ValueError, match="there are no probabilities"):
        probability_bins([found((A, 0, 1.0))], [truths[0]], NAMES)


def test_bins_of_probabilities_are_fifteen_where_nothing_else_is_said() -> None:
    random = np.random.default_rng(0)
    truths = [objects(str(number), (A, 0, False)) for number in range(40)]
    detections = []
    for chance in random.random(40).astype(np.float32):
        each = found((A if random.random() < 0.5 else FAR, 0, 1.0))
        detections.append(Detections(each.boxes, each.labels, each.scores, NAMES, np.array([chance])))
    errors = {
        n_bins: probability_bins(detections, truths, NAMES, n_bins=n_bins).calibration_error for n_bins in (14, 15, 16)
    }
    assert len(set(errors.values())) == 3
    assert probability_bins(detections, truths, NAMES).calibration_error == errors[15]
