"""COCO's average precision by hand, and through pycocotools' own files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.evaluation.coco import evaluate_coco
from detector.evaluation.coco_results import CocoIds
from detector.evaluation.outcomes import by_class, gather_outcomes
from detector.runtime.optional import MissingPackageError
from tests.evaluation.boxes import FAR, NAMES, A, found, objects, outcomes_of, random_images

BIG, BIG_80 = (0.0, 0.0, 100.0, 100.0), (0.0, 0.0, 80.0, 100.0)


def test_an_overlap_of_eight_tenths_counts_at_seven_of_ten_thresholds(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycocotools")
    truths = [objects("1", (BIG, 0, False)), objects("2", (A, 0, False), (A, 1, True))]
    detections = [found((BIG_80, 0, 0.9)), found()]
    result = evaluate_coco(outcomes_of(truths, detections))
    # one of two objects, best first: precision 1 at the recalls 0, .01 .. .5, which are 51 of 101
    ap = 51 / 101
    assert result.more["AP50"] == result.more["AP75"] == pytest.approx(ap)
    # at IoU .5, .55 .. .8 of .5 .. .95
    assert result.mAP == result.AP["cat"] == pytest.approx(0.7 * ap)
    assert result.more["AP_large"] == pytest.approx(0.7)
    assert result.more["AP_small"] == 0
    for name in ("dog", "sheep"):  # a crowd only, and nothing
        assert np.isnan(result.AP[name])
    assert np.isnan(result.more["AP_medium"])
    written = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert written["metric"] == "coco" and written["AP"]["dog"] is None and written["images"] == 2
    assert capsys.readouterr().out == ""


def test_equals_the_files_of_pycocotools(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    truths, detections = random_images(0)
    content: dict[str, list[Any]] = {
        "images": [{"id": number} for number in range(len(truths))],
        "categories": [{"id": 7 + label, "name": name} for label, name in enumerate(NAMES)],
        "annotations": [],
    }
    for number, each in enumerate(truths):
        for (x1, y1, x2, y2), label, crowd in zip(each.boxes.tolist(), each.labels, each.difficult, strict=True):
            row: dict[str, Any] = {"image_id": number, "category_id": 7 + int(label), "iscrowd": int(crowd)}
            row |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            content["annotations"].append(row | {"id": 1 + len(content["annotations"])})
    ids = {name: 7 + label for label, name in enumerate(NAMES)}
    rows = [row for number, each in enumerate(detections) for row in each.to_coco(number, ids)]
    (tmp_path / "truth.json").write_text(json.dumps(content))
    (tmp_path / "found.json").write_text(json.dumps(rows))
    truth = coco.COCO(str(tmp_path / "truth.json"))
    evaluator = cocoeval.COCOeval(truth, truth.loadRes(str(tmp_path / "found.json")), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    result = evaluate_coco(outcomes_of(truths, detections))
    expected = np.where(evaluator.stats[:6] < 0, np.nan, evaluator.stats[:6])
    np.testing.assert_allclose([result.mAP, *result.more.values()], expected, atol=1e-6)


def test_of_equal_scores_that_in_the_image_of_the_lower_id_counts_first() -> None:
    truths = [objects("nine", (A, 0, False)), objects("one", (A, 0, False))]
    outcomes = outcomes_of(truths, [found((FAR, 0, 0.5)), found((A, 0, 0.5))])
    true_first, false_first = 51 / 101, 0.5 * 51 / 101
    for ids, expected in (
        ({"nine": 9, "one": 1}, true_first),
        ({"nine": 1, "one": 9}, false_first),
        ({"nine": 10, "one": 9}, true_first),  # as numbers, not as texts
        ({"nine": "nine", "one": "a"}, false_first),  # names have the order of the data
    ):
        assert evaluate_coco(outcomes, CocoIds(ids, [1, 2, 3])).mAP == pytest.approx(expected)
    assert evaluate_coco(outcomes).mAP == pytest.approx(false_first)


def test_nothing_found_and_nothing_there() -> None:
    pytest.importorskip("pycocotools")
    assert evaluate_coco(outcomes_of([objects("1", (A, 0, False))], [found()])).mAP == 0
    assert np.isnan(evaluate_coco(outcomes_of([objects("1")], [found()])).mAP)
    with pytest.raises(ValueError, match="'cat' is detected in image '2', not one of the 1 evaluated"):
        gather_outcomes(by_class(["2"], [found((A, 0, 1.0))]), [objects("1")], NAMES)


def test_without_pycocotools_a_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("pycocotools")] + ["pycocotools"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match=r"pip install 'spp-detector\[coco\]'"):
        evaluate_coco(outcomes_of([objects("1", (A, 0, False))], [found()]))


def test_a_class_counts_a_hundred_detections_an_image() -> None:
    pytest.importorskip("pycocotools")
    rows = [(FAR, 0, 1 - number / 200) for number in range(99)]
    for n_before, ap in ((99, 1 / 100), (100, 0)):
        before = [*rows, (FAR, 0, 0.5)][:n_before]
        result = evaluate_coco(outcomes_of([objects("1", (A, 0, False))], [found(*before, (A, 0, 0.1))]))
        assert result.AP["cat"] == pytest.approx(ap)
        assert result.mAP == pytest.approx(ap)
