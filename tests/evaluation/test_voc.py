"""VOC's average precision against hand-computed values."""

import json
from collections.abc import Sequence

import numpy as np
import pytest

from detector.datasets.dataset import Annotation, Dataset
from detector.detections import Detections
from detector.evaluation.outcomes import ClassDetections, by_class, gather_outcomes
from detector.evaluation.thresholds import threshold_curve
from detector.evaluation.voc import Metric, average_precision, default_metric, evaluate_voc, unmeasured
from tests.evaluation.boxes import FAR, NAMES, A, B, found, objects


def ap_of_cat(truths: Sequence[Annotation], detections: Sequence[Detections], metric: Metric = "voc07") -> float:
    return evaluate_voc(detections, truths, NAMES, metric).AP["cat"]


def test_true_false_true() -> None:
    truths = [objects("1", (A, 0, False)), objects("2", (B, 0, False))]
    detections = [found((A, 0, 0.9), (FAR, 0, 0.8)), found((B, 0, 0.7))]
    # Precision 1 up to recall 1/2, then 2/3: six and five of the eleven points.
    assert ap_of_cat(truths, detections) == pytest.approx((6 + 5 * 2 / 3) / 11, abs=1e-12)
    assert ap_of_cat(truths, detections, "area") == pytest.approx((1 + 2 / 3) / 2, abs=1e-12)


def test_false_before_true() -> None:
    truths = [objects("1", (A, 0, False))]
    detections = [found((FAR, 0, 2.0), (B, 0, 1.0), (A, 0, -1.0))]
    assert ap_of_cat(truths, detections) == pytest.approx(1 / 3, abs=1e-12)
    assert ap_of_cat(truths, detections, "area") == pytest.approx(1 / 3, abs=1e-12)


@pytest.mark.parametrize("n_found", range(11))
def test_recall_of_exact_tenths_counts(n_found: int) -> None:
    hits = np.ones(n_found, np.bool_)
    expected = (n_found + 1) / 11 if n_found else 0.0
    assert average_precision(hits, 10, "voc07") == pytest.approx(expected, abs=1e-12)
    assert average_precision(hits, 10, "area") == pytest.approx(n_found / 10, abs=1e-12)


def test_difficult_objects_count_neither_way() -> None:
    truths = [objects("1", (A, 0, True), (B, 0, False))]
    assert ap_of_cat(truths, [found((A, 0, 0.9), (A, 0, 0.8), (B, 0, 0.7))]) == 1
    assert ap_of_cat(truths, [found((B, 0, 0.7))]) == 1
    assert ap_of_cat(truths, [found((FAR, 0, 0.9), (B, 0, 0.7))]) == 0.5
    # first a detection of the difficult object, and another one; then a false and a true one of two objects
    more = [objects("1", (A, 0, True), (B, 0, False), (FAR, 0, False))]
    nowhere = (50.0, 50.0, 60.0, 60.0)
    rest = ((nowhere, 0, 0.7), (B, 0, 0.6))
    for before in ((), ((A, 0, 0.9),), ((A, 0, 0.9), (A, 0, 0.8))):
        assert ap_of_cat(more, [found(*before, *rest)]) == pytest.approx(6 * 0.5 / 11, abs=1e-12)
        assert ap_of_cat(more, [found(*before, *rest)], "area") == pytest.approx(0.5 / 2, abs=1e-12)


def test_second_detection_of_an_object_is_false() -> None:
    truths = [objects("1", (A, 0, False), (B, 0, False))]
    detections = [found((A, 0, 0.9), (A, 0, 0.8), (B, 0, 0.7))]
    assert ap_of_cat(truths, detections, "area") == pytest.approx((1 + 2 / 3) / 2, abs=1e-12)


def test_no_second_best_object_is_searched() -> None:
    # The second detection overlaps both objects by 90 / 110: it belongs to the first listed, which is taken.
    truths = [objects("1", (A, 0, False), ((2.0, 0.0, 12.0, 10.0), 0, False))]
    detections = [found((A, 0, 0.9), ((1.0, 0.0, 11.0, 10.0), 0, 0.8))]
    assert ap_of_cat(truths, detections) == pytest.approx(6 / 11, abs=1e-12)


def test_overlap_of_exactly_one_half_is_enough() -> None:
    truths = [objects("1", (A, 0, False))]
    assert ap_of_cat(truths, [found(((0.0, 0.0, 10.0, 5.0), 0, 1.0))]) == 1
    assert ap_of_cat(truths, [found(((0.0, 0.0, 10.0, 4.99999), 0, 1.0))]) == 0
    assert ap_of_cat(truths, [found(((0.0, 0.0, 10.0, 20.0), 0, 1.0))]) == 1


def test_equal_scores_stay_in_order() -> None:
    truths = [objects("1"), objects("2", (A, 0, False))]
    assert ap_of_cat(truths, [found((A, 0, 1.0)), found((A, 0, 1.0))]) == 0.5
    assert ap_of_cat(truths[::-1], [found((A, 0, 1.0)), found((A, 0, 1.0))]) == 1


def test_classes_without_objects_are_left_out_of_the_mean() -> None:
    truths = [objects("1", (A, 0, False), (B, 1, True)), objects("2", (A, 2, False))]
    detections = [found((A, 0, 0.9), (B, 1, 0.8)), found()]
    result = evaluate_voc(detections, truths, NAMES)
    assert result.AP["cat"] == 1
    assert np.isnan(result.AP["dog"])  # difficult objects only
    assert result.AP["sheep"] == 0  # an object, but no detection
    assert result.mAP == 0.5
    expected = {"metric": "area", "mAP": 0.5, "AP": {"cat": 1.0, "dog": None, "sheep": 0.0}, "images": 2}
    assert json.loads(json.dumps(result.to_json(), allow_nan=False)) == expected


def test_the_metric_of_vocs_own_data_is_vocs() -> None:
    for name, class_names, metric in (
        ("voc2007 val", ("cat", "dog"), "voc07"),
        ("VOC2007 train val", ("dog",), "voc07"),
        ("voc2012 val", ("cat", "dog"), "area"),
        ("VOC2007 test", ("raccoon",), "area"),  # data of one's own in a folder of that name
        ("raccoons", ("cat",), "area"),
    ):
        data = Dataset((objects("1", (A, 0, False), (B, 0, False)),), class_names, name)
        assert default_metric(data) == metric
        # one of two objects: six of eleven points, or half of the area
        result = evaluate_voc([found((A, 0, 0.9))], data, NAMES)
        assert result.metric == metric
        assert result.AP["cat"] == pytest.approx({"voc07": 6 / 11, "area": 1 / 2}[metric])


def test_one_detection_of_many_objects_is_worth_its_area() -> None:
    assert average_precision(np.array([True]), 34, "area") == pytest.approx(1 / 34)
    assert average_precision(np.array([True]), 34, "voc07") == pytest.approx(1 / 11)


def test_classes_without_a_number_have_a_reason() -> None:
    truths = [objects("1", (A, 0, False), (B, 1, True), (FAR, 1, True)), objects("2", (A, 0, True))]
    assert unmeasured(gather_outcomes([found(), found()], truths, NAMES)) == {
        "dog": "all 2 objects are difficult or crowds",
        "sheep": "no object",
    }


def test_curves() -> None:
    truths = [objects("1", (A, 0, False), (B, 0, False))]
    curve = threshold_curve(gather_outcomes([found((A, 0, 0.9), (FAR, 0, 0.8), (B, 0, 0.7))], truths, NAMES), 0)
    np.testing.assert_allclose(curve.recall, [0.5, 0.5, 1])
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3])


def test_nothing_to_evaluate() -> None:
    result = evaluate_voc({}, [], NAMES)
    assert result.to_json() == {"metric": "area", "mAP": None, "AP": dict.fromkeys(NAMES), "images": 0}


def test_detections_of_other_classes_are_not_evaluated() -> None:
    truths = [objects("1", (A, 0, False))]
    per_class = by_class(["1"], [found((A, 0, 0.9), (FAR, 1, 0.8))])
    assert evaluate_voc(per_class, truths, ["cat"]).AP == {"cat": 1}
    with pytest.raises(ValueError, match=r"none of the detected classes \(cat, dog, sheep\)"):
        evaluate_voc(per_class, truths, ["bolt"])


def test_evaluate_rejects_bad_input() -> None:
    truths = [objects("000012", (A, 0, False))]
    with pytest.raises(ValueError, match="'cat' is detected in image '000013', not one of the 1 evaluated"):
        evaluate_voc(by_class(["000013"], [found((A, 0, 1.0))]), truths, NAMES)
    with pytest.raises(ValueError, match="ground_truth must hold each image once"):
        evaluate_voc({}, truths * 2, NAMES)
    with pytest.raises(ValueError, match=r"labels must be in 0\.\.2, but got 3"):
        evaluate_voc({}, [objects("1", (A, 3, False))], NAMES)
    with pytest.raises(ValueError, match="metric must be one of voc07, area, but got 'coco'"):
        evaluate_voc({}, truths, NAMES, "coco")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="min_iou must be above 0 and at most 1, but got 0"):
        evaluate_voc({}, truths, NAMES, min_iou=0)
    with pytest.raises(ValueError, match="detections must be one for each of 1 images, but got 0"):
        by_class(["1"], [])


def test_class_detections_check_their_arrays() -> None:
    with pytest.raises(ValueError, match="must have the same length, but got 1, 2"):
        ClassDetections(["1"], np.zeros((2, 4), np.float32), np.zeros(2))
    with pytest.raises(ValueError, match="scores must not be NaN"):
        ClassDetections(["1"], np.zeros((1, 4), np.float32), np.array([np.nan]))
