"""VOC's average precision against hand-computed values and a slow evaluator, and the devkit's files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.detections import Detections
from detector.evaluation.files import read_detections, write_detections
from detector.evaluation.voc import ClassDetections, Metric, average_precision, by_class, evaluate_voc

NAMES = ("cat", "dog", "sheep")
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Objects:
    image_id: str
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]


def objects(image_id: str, *rows: tuple[Box, int, bool]) -> Objects:
    return Objects(
        image_id,
        np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4),
        np.array([label for _, label, _ in rows], np.int64),
        np.array([difficult for _, _, difficult in rows], np.bool_),
    )


def found(*rows: tuple[Box, int, float]) -> Detections:
    return Detections(
        np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4),
        np.array([label for _, label, _ in rows], np.int64),
        np.array([score for _, _, score in rows], np.float32),
        NAMES,
    )


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


A, B, FAR = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0), (80.0, 80.0, 90.0, 90.0)


def ap_of_cat(truths: Sequence[Objects], detections: Sequence[Detections], metric: Metric = "voc07") -> float:
    image_ids = [truth.image_id for truth in truths]
    return evaluate_voc(by_class(image_ids, detections), truths, NAMES, metric).AP["cat"]


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
    assert average_precision(hits, 10) == pytest.approx(expected, abs=1e-12)
    assert average_precision(hits, 10, "area") == pytest.approx(n_found / 10, abs=1e-12)


def test_difficult_objects_count_neither_way() -> None:
    truths = [objects("1", (A, 0, True), (B, 0, False))]
    assert ap_of_cat(truths, [found((A, 0, 0.9), (A, 0, 0.8), (B, 0, 0.7))]) == 1
    assert ap_of_cat(truths, [found((B, 0, 0.7))]) == 1
    assert ap_of_cat(truths, [found((FAR, 0, 0.9), (B, 0, 0.7))]) == 0.5


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
    result = evaluate_voc(by_class(["1", "2"], detections), truths, NAMES)
    assert result.AP["cat"] == 1
    assert np.isnan(result.AP["dog"])  # difficult objects only
    assert result.AP["sheep"] == 0  # an object, but no detection
    assert result.mAP == 0.5
    expected = {"metric": "voc07", "mAP": 0.5, "AP": {"cat": 1.0, "dog": None, "sheep": 0.0}, "images": 2}
    assert json.loads(json.dumps(result.to_json(), allow_nan=False)) == expected


def test_curves() -> None:
    truths = [objects("1", (A, 0, False), (B, 0, False))]
    result = evaluate_voc(by_class(["1"], [found((A, 0, 0.9), (FAR, 0, 0.8), (B, 0, 0.7))]), truths, NAMES)
    assert list(result.curves) == ["cat"]
    np.testing.assert_allclose(result.curves["cat"].recall, [0.5, 0.5, 1])
    np.testing.assert_allclose(result.curves["cat"].precision, [1, 1 / 2, 2 / 3])


def test_nothing_to_evaluate() -> None:
    result = evaluate_voc({}, [], NAMES)
    assert result.to_json() == {"metric": "voc07", "mAP": None, "AP": dict.fromkeys(NAMES), "images": 0}


def test_detections_of_other_classes_are_not_evaluated() -> None:
    truths = [objects("1", (A, 0, False))]
    per_class = by_class(["1"], [found((A, 0, 0.9), (FAR, 1, 0.8))])
    assert evaluate_voc(per_class, truths, ["cat"]).AP == {"cat": 1}
    with pytest.raises(ValueError, match=r"none of the detected classes \(cat, dog, sheep\)"):
        evaluate_voc(per_class, truths, ["bolt"])


small = st.integers(0, 4)
sides = st.integers(1, 4)
boxes_of = st.tuples(small, small, sides, sides).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
labels_of = st.integers(0, len(NAMES) - 1)
pictures = st.lists(
    st.tuples(
        st.lists(st.tuples(boxes_of, labels_of, st.booleans()), max_size=5),
        st.lists(st.tuples(boxes_of, labels_of, st.integers(-2, 2)), max_size=8),
    ),
    min_size=1,
    max_size=4,
)


@settings(deadline=None, max_examples=300)
@given(pictures, st.sampled_from(["voc07", "area"]), st.sampled_from([Fraction(1, 2), Fraction(3, 4)]))
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


def random_pictures(seed: int) -> tuple[list[Objects], list[Detections]]:
    generator = np.random.default_rng(seed)
    truths, detections = [], []
    for number in range(30):
        corners = generator.uniform(0, 300, (6, 2))
        boxes = np.concatenate([corners, corners + generator.uniform(80, 200, (6, 2))], axis=1).astype(np.float32)
        labels = generator.integers(0, 3, 6)
        truths.append(Objects(f"{number:06d}", boxes, labels, generator.random(6) < 0.2))
        again = generator.integers(0, 6, 12)
        moved = boxes[again] + generator.normal(0, 10, (12, 4)).astype(np.float32)
        scores = generator.normal(size=12).astype(np.float32)
        detections.append(Detections(moved, labels[again], scores, NAMES))
    return truths, detections


@pytest.mark.parametrize("metric", ["voc07", "area"])
def test_files_and_memory_score_alike(tmp_path: Path, metric: Metric) -> None:
    truths, detections = random_pictures(0)
    image_ids = [truth.image_id for truth in truths]
    write_detections(tmp_path / "results" / "new", "val", image_ids, detections)
    read = read_detections(tmp_path / "results" / "new", "val", NAMES)
    from_files = evaluate_voc(read, truths, NAMES, metric)
    assert from_files.AP == evaluate_voc(by_class(image_ids, detections), truths, NAMES, metric).AP
    expected = [slow_voc(truths, detections, label, metric, Fraction(1, 2)) for label in range(3)]
    np.testing.assert_allclose(list(from_files.AP.values()), expected, rtol=0, atol=1e-6)
    assert 0.05 < from_files.mAP < 0.95


@settings(deadline=None)
@given(pictures.map(lambda drawn: [found(*rows) for _, rows in drawn]))
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


def test_written_lines(tmp_path: Path) -> None:
    detections = [
        found(((47.0, 239.0, 195.0, 371.0), 1, 0.25), ((0.5, 0.0, 1.0, 1.0), 1, 2.0)),
        found((A, 0, -1.5)),
    ]
    write_detections(tmp_path, "val", ["000012", "7"], detections)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"comp4_det_val_{name}.txt" for name in NAMES]
    lines = (tmp_path / "comp4_det_val_dog.txt").read_text().splitlines()
    assert lines == ["000012 2.0 1.5 1.0 1.0 1.0", "000012 0.25 48.0 240.0 195.0 371.0"]
    assert (tmp_path / "comp4_det_val_cat.txt").read_text() == "7 -1.5 1.0 1.0 10.0 10.0\n"
    assert (tmp_path / "comp4_det_val_sheep.txt").read_text() == ""


def test_round_trip_is_exact(tmp_path: Path) -> None:
    _, detections = random_pictures(1)
    just_above = np.nextafter(np.float32(0.1), np.float32(1))
    tight = found((A, 0, 0.1), (A, 0, float(just_above)), ((3.2, 3.2, 3.2, 3.7), 0, 1e-7), (A, 0, -3e8))
    detections.append(tight)
    image_ids = [f"image-{number}" for number in range(len(detections))]
    write_detections(tmp_path, "test", image_ids, detections)
    read = read_detections(tmp_path, "test", NAMES)
    for name, expected in by_class(image_ids, detections).items():
        assert list(read[name].image_ids) == list(expected.image_ids)
        np.testing.assert_array_equal(read[name].boxes, expected.boxes)
        np.testing.assert_array_equal(read[name].scores.astype(np.float32), expected.scores.astype(np.float32))


def test_files_of_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "comp4_det_test_dog.txt"
    path.write_bytes(b"000012 0.056313 48 240 195 371\r\n\r\n2008_000001\t1e-3 7 7 7 7 \n")
    read = read_detections(str(tmp_path), "test", NAMES)
    assert list(read) == ["dog"]
    assert read["dog"].image_ids == ["000012", "2008_000001"]
    assert read["dog"].boxes.tolist() == [[47, 239, 195, 371], [6, 6, 7, 7]]
    assert read["dog"].scores.tolist() == [0.056313, 0.001]
    result = evaluate_voc(read, [objects("000012", (A, 0, False)), objects("2008_000001")], NAMES)
    assert result.AP["cat"] == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("000012 0.5 1 1 9", "6 columns, image_id score x1 y1 x2 y2, but got 5"),
        ("000012 0.5 1 1 9 9 9", "but got 7"),
        ("000012 0.5 1 one 9 9", "'one'"),
        ("000012 nan 1 1 9 9", "numbers must be finite, but got nan 1 1 9 9"),
        ("000012 0.5 1 1 inf 9", "numbers must be finite"),
        ("000012 0.5 10 1 8 9", "a box must have x1 <= x2 and y1 <= y2, but got 10 1 8 9"),
        ("000012 0.5 1 10 9 8", "a box must have x1 <= x2 and y1 <= y2"),
        ("\x80\x81 binary", "6 columns"),
    ],
)
def test_bad_lines_name_file_and_line(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "comp4_det_val_dog.txt"
    path.write_text(f"000012 0.5 1 1 9 9\n\n{line}\n", encoding="latin-1")
    with pytest.raises(ValueError, match="comp4_det_val_dog") as error:
        read_detections(tmp_path, "val", NAMES)
    assert str(error.value).startswith(f"{path}:3: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        read_detections(tmp_path / "nowhere", "val", NAMES)
    write_detections(tmp_path, "train", ["1"], [found()])
    with pytest.raises(FileNotFoundError, match="holds no comp4_det_val_<class>"):
        read_detections(tmp_path, "val", NAMES)


def test_write_rejects_what_the_files_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="detections must be one for each of 2 images, but got 1"):
        write_detections(tmp_path, "val", ["1", "2"], [found()])
    with pytest.raises(ValueError, match="share their class names"):
        write_detections(tmp_path, "val", ["1", "2"], [found(), Detections.empty(["cat"])])
    for image_id in ("a b", "", "a\nb"):
        with pytest.raises(ValueError, match="image ids must hold no blanks"):
            write_detections(tmp_path, "val", [image_id], [found()])
    for name in ("../dog", "a/b"):
        with pytest.raises(ValueError, match="must fit in a file name"):
            write_detections(tmp_path, "val", ["1"], [Detections.empty([name])])
    assert list(tmp_path.iterdir()) == []


def test_evaluate_rejects_bad_input() -> None:
    truths = [objects("000012", (A, 0, False))]
    with pytest.raises(ValueError, match="'cat' is detected in image '000013', not one of the 1 evaluated"):
        evaluate_voc(by_class(["000013"], [found((A, 0, 1.0))]), truths, NAMES)
    with pytest.raises(ValueError, match="truths must hold each image once"):
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
    with pytest.raises(ValueError, match="must be as many, but got 1, 2"):
        ClassDetections(["1"], np.zeros((2, 4), np.float32), np.zeros(2))
    with pytest.raises(ValueError, match="scores must not be NaN"):
        ClassDetections(["1"], np.zeros((1, 4), np.float32), np.array([np.nan]))
