"""VOC's average precision against a slow evaluator, on random images."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.detections import Detections
from detector.evaluation.voc import Metric, by_class, evaluate_voc
from tests.evaluation.test_evaluation import NAMES, Box, Objects, found, objects


def slow_voc(
    truths: Sequence[Objects], detections: Sequence[Detections], label: int, metric: str, min_iou: Fraction
) -> float:
    """VOCevaldet.m, read line by line, in exact fractions."""
    rows = []
    for truth, each in zip(truths, detections, strict=True):
        for box, its_label, score in zip(each.boxes, each.labels, each.scores, strict=True):
            if its_label == label:
                rows.append((float(score), truth, box))
    rows.sort(key=lambda row: -row[0])
    taken = set()
    n_true, n_false = 0, 0
    curve = []
    for _, truth, box in rows:
        best, best_row = Fraction(-1), -1
        for row in np.flatnonzero(truth.labels == label):
            overlap = slow_iou(box, truth.boxes[row])
            if overlap > best:
                best, best_row = overlap, int(row)
        if best < min_iou:
            n_false += 1
        elif truth.difficult[best_row]:
            continue
        elif (truth.image_id, best_row) in taken:
            n_false += 1
        else:
            taken.add((truth.image_id, best_row))
            n_true += 1
        curve.append((n_true, Fraction(n_true, n_true + n_false)))
    n_objects = sum(int(((truth.labels == label) & ~truth.difficult).sum()) for truth in truths)
    if n_objects == 0:
        return float("nan")
    if metric == "voc07":
        tenths = [max([p for n, p in curve if Fraction(n, n_objects) >= Fraction(k, 10)], default=0) for k in range(11)]
        return float(Fraction(sum(tenths)) / 11)
    steps = [max([p for n, p in curve if n >= level], default=0) for level in range(1, n_objects + 1)]
    return float(Fraction(sum(steps)) / n_objects)


def slow_iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> Fraction:
    ax1, ay1, ax2, ay2 = (Fraction(float(value)) for value in a)
    bx1, by1, bx2, by2 = (Fraction(float(value)) for value in b)
    width, height = min(ax2, bx2) - max(ax1, bx1), min(ay2, by2) - max(ay1, by1)
    shared = max(width, Fraction(0)) * max(height, Fraction(0))
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - shared
    return shared / union if union else Fraction(0)


small = st.integers(0, 4)
sides = st.integers(1, 4)
boxes_of = st.tuples(small, small, sides, sides).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
labels_of = st.integers(0, len(NAMES) - 1)
images = st.lists(
    st.tuples(
        st.lists(st.tuples(boxes_of, labels_of, st.booleans()), max_size=5),
        st.lists(st.tuples(boxes_of, labels_of, st.integers(-2, 2)), max_size=8),
    ),
    min_size=1,
    max_size=4,
)


@settings(deadline=None, max_examples=300)
@given(images, st.sampled_from(["voc07", "area"]), st.sampled_from([Fraction(1, 2), Fraction(3, 4)]))
def test_equals_the_slow_evaluator(
    drawn: list[tuple[list[tuple[Box, int, bool]], list[tuple[Box, int, float]]]],
    metric: Metric,
    min_iou: Fraction,
) -> None:
    truths = [objects(str(number), *rows) for number, (rows, _) in enumerate(drawn)]
    detections = [found(*rows) for _, rows in drawn]
    per_class = by_class([truth.image_id for truth in truths], detections)
    result = evaluate_voc(per_class, truths, NAMES, metric, float(min_iou))
    expected = [slow_voc(truths, detections, label, metric, min_iou) for label in range(len(NAMES))]
    np.testing.assert_allclose([result.AP[name] for name in NAMES], expected, rtol=0, atol=1e-6, equal_nan=True)
    with_objects = [value for value in expected if not np.isnan(value)]
    np.testing.assert_allclose(result.mAP, np.mean(with_objects) if with_objects else np.nan, rtol=0, atol=1e-6)
    assert result.images == len(drawn)


@settings(deadline=None)
@given(images.map(lambda drawn: [found(*rows) for _, rows in drawn]))
def test_regrouping_keeps_every_detection(detections: list[Detections]) -> None:
    image_ids = [f"image{number}" for number in range(len(detections))]
    per_class = by_class(image_ids, detections)
    assert tuple(per_class) == NAMES
    regrouped = sorted(
        (image_id, name, float(score), *box)
        for name, each in per_class.items()
        for image_id, box, score in zip(each.image_ids, each.boxes.tolist(), each.scores, strict=True)
    )
    originals = sorted(
        (image_id, NAMES[label], float(score), *box)
        for image_id, each in zip(image_ids, detections, strict=True)
        for box, label, score in zip(each.boxes.tolist(), each.labels, each.scores, strict=True)
    )
    assert regrouped == originals
