"""Average precision with its error, against the evaluator and by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from detector.datasets.dataset import Dataset
from detector.evaluation.coco import evaluate_coco
from detector.evaluation.held_out import measure_held_out
from detector.evaluation.outcomes import gather_outcomes
from detector.evaluation.voc import evaluate_voc
from tests.evaluation.boxes import FAR, NAMES, A, B, found, objects


def test_precisions_are_the_evaluators_and_have_errors() -> None:
    truths = [objects("1", (A, 0, False), (B, 1, False)), objects("2", (A, 0, False)), objects("3", (B, 0, True))]
    detections = [found((A, 0, 0.9), (FAR, 1, 0.8)), found((FAR, 0, 0.7)), found()]
    result = measure_held_out(detections, Dataset(truths, NAMES, "test"))
    expected = evaluate_voc(detections, truths, NAMES)
    assert dict(zip(NAMES, result.AP, strict=True)) == pytest.approx(expected.AP, nan_ok=True)
    assert result.mAP == pytest.approx(expected.mAP)
    assert result.objects.tolist() == [2, 1, 0]
    assert len(result.resampled) == 1000
    # each dog that is drawn is missed, and there are no sheep
    assert result.errors[1] == 0 and np.isnan(result.errors[2])
    assert result.errors[0] > 0.1 and result.mAP_error == pytest.approx(np.nanstd(result.resampled, ddof=1))
    content = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert content["AP"] == {"cat": pytest.approx(expected.AP["cat"]), "dog": 0, "sheep": None}
    assert content["standard_error"]["AP"]["sheep"] is None
    assert (content["metric"], content["images"], content["objects"]["cat"]) == ("area", 3, 2)
    assert content["COCO_AP"] == pytest.approx(evaluate_coco(gather_outcomes(detections, truths, NAMES)).mAP)
    assert result.unmeasured == {"sheep": "no object"}
