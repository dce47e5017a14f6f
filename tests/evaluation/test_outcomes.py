"""VOC's average precision against a slow evaluator, on random images."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.detections import Detections
from detector.evaluation.outcomes import by_class, gather_outcomes, join_outcomes
from detector.evaluation.voc import Metric, evaluate_voc, voc_result
from tests.evaluation.boxes import NAMES, Box, found, objects
from tests.reference import slow_voc

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
    result = evaluate_voc(detections, truths, NAMES, metric, float(min_iou))
    expected = [slow_voc(truths, detections, label, metric, min_iou) for label in range(len(NAMES))]
    np.testing.assert_allclose([result.AP[name] for name in NAMES], expected, rtol=0, atol=1e-6, equal_nan=True)
    with_objects = [value for value in expected if not np.isnan(value)]
    np.testing.assert_allclose(result.mAP, np.mean(with_objects) if with_objects else np.nan, rtol=0, atol=1e-6)
    assert result.images == len(drawn)
    # matched image by image and joined, with other classes and another order of the classes in the detector
    names = ("horse", *NAMES[::-1])
    others = [Detections(each.boxes, len(NAMES) - each.labels, each.scores, names) for each in detections]
    pairs = zip(others, truths, strict=True)
    joined = join_outcomes([gather_outcomes([each], [truth], NAMES, float(min_iou)) for each, truth in pairs])
    np.testing.assert_equal(voc_result(joined, metric).to_json(), result.to_json())
    together = gather_outcomes(detections, truths, NAMES, float(min_iou))
    assert joined.image_ids == together.image_ids
    np.testing.assert_equal(tuple(joined.objects), tuple(together.objects))
    for name in ("images", "labels", "boxes", "scores", "nearest", "ious", "true", "counted", "found_by"):
        np.testing.assert_equal(getattr(joined, name), getattr(together, name))


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
