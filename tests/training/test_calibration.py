"""Probabilities and thresholds: by hand, against scikit-learn's own Platt scaling, and through a whole training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.config.detector import CalibrationConfig, Config, parse_config
from detector.datasets.dataset import Annotation, Dataset
from detector.detections import Detections
from detector.heads.linear import LinearSVMs
from detector.images.files import write_image
from detector.pipeline import Detector
from detector.training import calibration
from detector.training.calibration import (
    fit_calibration,
    fit_sigmoid,
    fit_thresholds,
    held_out_parts,
    removable_rows,
)
from detector.training.class_changes import add_classes, remove_class
from detector.training.svm.dual_solver import solve_dual
from detector.training.svm.training import TrainedSVMs, train_svms
from detector.training.train import train
from detector.training.training_set import TrainingSet
from tests.evaluation.boxes import FAR, NAMES, A, B, found, objects
from tests.fakes import CONFIG, with_heads
from tests.training.small import small_set


@pytest.mark.parametrize("n", [6, 200])
def test_the_sigmoid_is_that_of_scikit_learn(n: int) -> None:
    from sklearn.calibration import _sigmoid_calibration

    rng = np.random.default_rng(0)
    true = rng.random(n) < 0.3
    scores = rng.normal(size=n) + true
    slope, offset = fit_sigmoid(scores, true)
    # theirs is 1 / (1 + exp(a f + b))
    a, b = _sigmoid_calibration(scores, true)
    np.testing.assert_allclose([slope, offset], [-a, -b], rtol=1e-3, atol=1e-3)


def test_few_or_separable_examples_give_no_certainty() -> None:
    slope, offset = fit_sigmoid(np.array([-1.0, 1.0]), np.array([False, True]))
    # the targets of one example a side are 1/3 and 2/3, at -1 and 1: log odds are log(2) * score
    assert [slope, offset] == pytest.approx([np.log(2), 0], rel=1e-5, abs=1e-6)
    # the higher, the falser: the mean of the targets 2/3 and 1/3
    assert fit_sigmoid(np.array([-1.0, 1.0]), np.array([True, False])) == pytest.approx((0, 0), abs=1e-9)
    # all true: three of them are 4/5
    assert fit_sigmoid(np.zeros(3), np.ones(3, np.bool_)) == pytest.approx((0, np.log(4)))


def truths_and_detections() -> tuple[list[Annotation], list[Detections]]:
    """Of cats: true 5, false 4, true 3, false 2, false 1; a dog that was never found; no sheep, but one false."""
    truths = [objects("1", (A, 0, False), (A, 1, False)), objects("2", (B, 0, False))]
    in_first = found((A, 0, 5.0), (FAR, 0, 4.0), (FAR, 0, 1.0), (FAR, 2, 0.5))
    return truths, [in_first, found((B, 0, 3.0), (FAR, 0, 2.0))]


def test_thresholds_by_hand() -> None:
    truths, detections = truths_and_detections()
    calibration = fit_calibration(detections, truths, NAMES, borrowed=0)
    # F1 of cats from 5 down: 2/3, 1/2, 4/5, 2/3, 4/7
    assert calibration.best_f1[0] == 3
    # precision: 1, 1/2, 2/3, 1/2, 2/5
    for precision, threshold in {0.99: 5, 0.67: 5, 0.66: 3, 0.5: 2, 0.41: 2, 0.4: 1, 0.01: 1}.items():
        assert calibration.reaching_precision(precision)[0] == threshold, precision
    # what lies between two hundredths is rounded up, but not by what floats lack: 0.29 * 100 is 28.999999999999996
    assert calibration.reaching_precision(0.291)[0] == calibration.reaching_precision(0.3)[0]
    assert calibration.at_precision[28, 0] == calibration.reaching_precision(0.29)[0]
    with pytest.raises(ValueError, match=r"up to a precision of 0\.99, but not for 0\.995"):
        calibration.reaching_precision(0.995)
    # all classes together, of which dogs and sheep have too little: true 5, 3; false 4, 2, 1, .5; three objects
    for label in (1, 2):
        assert calibration.best_f1[label] == 3
        assert calibration.reaching_precision(0.33)[label] == 0.5
        assert calibration.slopes[label] != calibration.slopes[0]


def test_no_score_reaches_a_precision_that_the_best_one_lacks() -> None:
    best, reaching = fit_thresholds(np.array([2.0, 2.0, 1.0]), np.array([True, False, False]), np.ones(3), 1)
    assert best == 2  # equal scores are taken together
    assert reaching[32] == 1 and reaching[33] == reaching[49] == 2 and np.isposinf(reaching[50:]).all()


def test_classes_borrow_from_all() -> None:
    """Two of five detections of cats are true; with all six at a quarter of the weight, 2.5 of 6.5."""
    truths, detections = truths_and_detections()
    alone, together = (fit_calibration(detections, truths, NAMES, borrowed) for borrowed in (0, 1e9))
    borrowing = fit_calibration(detections, truths, NAMES, 0.5)
    assert borrowing.reaching_precision(0.38)[0] == 0.5  # 2.5 of 6.5 are .385
    assert borrowing.reaching_precision(0.39)[0] == 1
    assert len({each.slopes[0] for each in (alone, borrowing, together)}) == 3
    # own ones count once more than those of others, however much is borrowed
    assert together.slopes[0] != together.slopes[2]


def test_objects_count_as_often_as_their_detections() -> None:
    """Three cats, of which two are found, at 6 and 2: F1 is 1/2 there, and 4/7, whatever all of it weighs."""
    truths = [objects("1", (A, 0, False), (B, 0, False)), objects("2", (B, 0, False))]
    detections = [found((A, 0, 6.0), (FAR, 0, 4.0)), found((FAR, 0, 3.0), (B, 0, 2.0))]
    for borrowed in (0, 0.5, 2):
        assert fit_calibration(detections, truths, NAMES, borrowed).best_f1[0] == 2


def test_difficult_objects_count_neither_way() -> None:
    truths = [objects("1", (A, 0, True), (B, 0, False))]
    both = fit_calibration([found((A, 0, 5.0), (B, 0, 1.0), (FAR, 0, 0.0))], truths, NAMES)
    one = fit_calibration([found((B, 0, 1.0), (FAR, 0, 0.0))], truths, NAMES)
    for name, array in both.to_arrays().items():
        np.testing.assert_array_equal(array, one.to_arrays()[name])
    # a cat that is found between two that are not there: the best threshold takes one of them, or all
    truths = [objects("1", (A, 0, True), (B, 0, False))]
    three = fit_calibration([found((A, 0, 5.0), (FAR, 0, 4.0), (B, 0, 1.0))], truths, NAMES, borrowed=0)
    assert three.best_f1[0] == 1.0
    assert three.reaching_precision(0.5)[0] == 1.0
    assert three.reaching_precision(0.51)[0] == np.inf


def test_nothing_found_gives_no_calibration() -> None:
    truths = [objects("1", (A, 0, False))]
    with pytest.raises(ValueError, match="no object in 1 held-out images was found"):
        fit_calibration([found((FAR, 0, 1.0))], truths, NAMES)


def test_parts_hold_every_image_of_few_and_a_share_of_many(images: TrainingSet) -> None:
    few = held_out_parts(images, CalibrationConfig())
    assert len(few) == 5
    assert sorted(np.concatenate(few).tolist()) == list(range(len(images)))
    many = held_out_parts(images, CalibrationConfig(cross_validate_below=len(images)))
    assert [part.tolist() for part in many] == [few[0].tolist()]
    assert len(held_out_parts(images, CalibrationConfig(held_out=0.5))) == 2
    other = held_out_parts(images, CalibrationConfig(seed=4))
    assert other[0].tolist() != few[0].tolist()


def in_scenes(images: TrainingSet, groups: Sequence[int], monkeypatch: pytest.MonkeyPatch) -> TrainingSet:
    """As many images as there are groups, which are their scenes."""
    monkeypatch.setattr(calibration, "scenes", lambda annotations: np.array(groups))
    return replace(images, annotations=[images.annotations[row % len(images)] for row in range(len(groups))])


def test_parts_divide_no_scene(images: TrainingSet, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = np.array([0, 0, 0, 0, 0, 0, 1, 2, 2, 3, 4, 5, 6, 6, 6, 7, 8, 9, 10, 11])
    parts = held_out_parts(in_scenes(images, groups.tolist(), monkeypatch), CalibrationConfig())
    assert sorted(np.concatenate(parts).tolist()) == list(range(20))
    assert [part.tolist() for part in parts] == [sorted(part.tolist()) for part in parts]
    assert sum(len(set(groups[part].tolist())) for part in parts) == 12
    # the scene of six images is a part or the largest one; the others share the rest evenly
    sizes = sorted(len(part) for part in parts)
    assert sizes[-1] in (6, 7) and sizes[0] >= 3
    # of many images, the part nearest to a fifth is held out
    (many,) = held_out_parts(
        in_scenes(images, groups.tolist(), monkeypatch), CalibrationConfig(cross_validate_below=20)
    )
    assert len(many) == min(sizes, key=lambda size: abs(size - 4))


def test_fewer_scenes_than_parts_are_a_part_each(images: TrainingSet, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = held_out_parts(in_scenes(images, [0, 1, 0, 1, 0, 0, 1, 0], monkeypatch), CalibrationConfig())
    assert sorted(part.tolist() for part in parts) == [[0, 2, 4, 5, 7], [1, 3, 6]]


def test_images_of_one_scene_are_divided_with_a_warning(
    images: TrainingSet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parts = held_out_parts(in_scenes(images, [0] * 10, monkeypatch), CalibrationConfig())
    assert sorted(len(part) for part in parts) == [2] * 5
    assert "all 10 images show one scene" in caplog.text


def test_augmented_copies_are_held_out_together(tmp_path: Path) -> None:
    names = [f"{photo}_jpg.rf.{copy * 32}" for photo in "abcdef" for copy in "123"]
    images = small_set(tmp_path, {name: [((0, 0, 64, 64), 0), ((0, 96, 64, 160), 1)] for name in names}, {})
    random = np.random.default_rng(0)
    for each in images.annotations:  # copies look different
        write_image(each.path, random.integers(0, 255, (160, 160, 3)).astype(np.uint8))
    parts = held_out_parts(replace(images, n_classes=2), CalibrationConfig())
    assert sorted(len(part) for part in parts) == [3, 3, 3, 3, 6]
    photos = [{images.annotations[row].image_id[0] for row in part.tolist()} for part in parts]
    assert sum(map(len, photos)) == 6, "a photo is in two parts"


def test_every_class_keeps_objects_to_learn_from(images: TrainingSet) -> None:
    rows = [row for row in range(len(images)) if images.object_counts([row])[0]]
    only = rows[0]
    rest = [each for row, each in enumerate(images.annotations) if row == only or row not in rows]
    few = replace(images, annotations=rest)
    there = [each.image_id for each in rest].index(images.annotations[only].image_id)
    assert there not in removable_rows(few, np.array([there, (there + 1) % len(rest)]))
    assert len(removable_rows(images, np.arange(2))) == 2


def test_an_image_with_the_only_object_of_a_class_is_not_held_out(tmp_path: Path) -> None:
    place = (0, 0, 64, 64)
    images = small_set(tmp_path, {"a": [(place, 0), (place, 1)], "b": [(place, 1)], "c": [(place, 1)]}, {})
    assert removable_rows(images, np.array([0, 1])).tolist() == [1]


@pytest.mark.all
def test_svms_without_images_are_those_of_the_other_samples(
    images: TrainingSet, config: Config, tmp_path: Path
) -> None:
    trained = train_svms(images, config.svm, tmp_path / "state")
    buffer, n_images = trained.buffer, len(images.annotations)
    rows = np.array([0, 5, 7])
    kept = ~np.isin(buffer.keys[:, 0] % n_images, rows)
    assert 0 < kept.sum() < len(kept)
    alone = solve_dual(config.svm, buffer.features[kept], buffer.targets[kept], tolerance=1e-4)
    refitted = trained.without(rows)
    features = buffer.features.astype(np.float32)
    scores = (
        refitted.decision_function(features),
        LinearSVMs(*images.unscaled(alone.weights, alone.biases)).decision_function(features),
    )
    np.testing.assert_allclose(scores[0], scores[1], atol=0.1)
    # and differ from those of all samples
    assert np.abs(trained.svms.decision_function(features) - scores[1]).max() > 0.1


@pytest.mark.all
def test_a_training_calibrates_on_images_that_its_svms_did_not_see(
    train_set: Dataset,
    config: Config,
    images: TrainingSet,
    detector: Detector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calibrated = parse_config(
        {**CONFIG, "calibration": {"enabled": True, "held_out": 0.5, "cross_validate_below": 0}}, "test"
    )
    left_out: list[NDArray[np.int64]] = []
    scored: list[str] = []
    plain_without, plain_detect = TrainedSVMs.without, Detector.detect_cached

    def without(self: TrainedSVMs, rows: NDArray[np.int64]) -> LinearSVMs:
        left_out.append(rows)
        return plain_without(self, rows)

    def detect(self: Detector, cache: object, annotation: Annotation) -> Detections:
        scored.append(annotation.image_id)
        return plain_detect(self, cache, annotation)  # type: ignore[arg-type]

    monkeypatch.setattr(TrainedSVMs, "without", without)
    monkeypatch.setattr(Detector, "detect_cached", detect)
    made = train(calibrated, train_set, train_set.class_names, images.cache)
    assert [len(rows) for rows in left_out] == [12]
    assert scored == [train_set[row].image_id for row in left_out[0].tolist()]
    measured = made.record["cross_validation"]
    assert (measured["metric"], measured["images"], set(measured["AP"])) == ("area", 12, set(train_set.class_names))
    assert 0 < measured["mAP"] <= 1
    # what was learned does not change by it
    learned, before = made.heads.to_arrays(), detector.heads.to_arrays()
    np.testing.assert_array_equal(learned["svm.weights"], before["svm.weights"])
    monkeypatch.undo()

    made.save(tmp_path / "model.safetensors")
    again = Detector.load(tmp_path / "model.safetensors")
    assert made.heads.calibration is not None and again.heads.calibration is not None
    for name, array in made.heads.calibration.to_arrays().items():
        np.testing.assert_array_equal(array, again.heads.calibration.to_arrays()[name])
    there = again.detect(train_set[0].path, min_score=-0.9)
    assert there.probabilities is not None and len(there)
    for each, label in zip(there, there.labels, strict=True):
        odds = made.heads.calibration.slopes[label] * each.score + made.heads.calibration.offsets[label]
        assert each.probability == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-6)
    assert detector.detect(train_set[0].path).probabilities is None

    # classes come and go with what is known of them
    less = remove_class(made, made.class_names[1])
    assert less.heads.calibration is not None
    np.testing.assert_array_equal(less.heads.calibration.best_f1, made.heads.calibration.best_f1[[0, 2]])
    only = remove_class(remove_class(made, made.class_names[0]), made.class_names[2])
    more = add_classes(less, only)
    assert more.calibration is not None
    np.testing.assert_array_equal(more.calibration.at_precision, made.heads.calibration.at_precision[:, [0, 2, 1]])
    assert add_classes(less, with_heads(only, calibration=None)).calibration is None
