"""The summary's sentences, from counts that are made by hand, and what more images would bring."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detector.config.detector import Config
from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.inspection import count_classes
from detector.datasets.loading import DataSource
from detector.evaluation.held_out import HeldOutResult
from detector.evaluation.proposal_recall import ProposalRecall
from detector.runs.learning_curve import LearningCurve, parts_of
from detector.runs.summary import describe, how_good, precision_lines, summarize, weakest
from detector.training.adaptation import Adapted

SMALL, LARGE = (10.0, 10.0, 41.0, 42.0), (10.0, 10.0, 42.0, 42.0)  # 31 x 32 and 32 x 32 pixels
NAMES = ("bottle", "car")


def image(number: int, *rows: tuple[tuple[float, ...], int], difficult: bool = False) -> Annotation:
    boxes = np.array([box for box, _ in rows], np.float32).reshape(-1, 4)
    labels = np.array([label for _, label in rows], np.int64)
    return Annotation(str(number), Path(f"{number}.jpg"), boxes, labels, np.full(len(rows), difficult))


def data(*annotations: Annotation) -> Dataset:
    return Dataset(annotations, NAMES, "mine train")


BOTTLES = data(
    image(0, *[(SMALL, 0)] * 9),
    image(1, *[(LARGE, 0)] * 3, *[(LARGE, 1)] * 60),
    image(2, *[(LARGE, 0)] * 2, difficult=True),
    image(3),
)


def measured(ap: list[float], error: float = 0.01, mean_error: float = 0.01, n_objects: int = 40) -> HeldOutResult:
    values = np.array(ap)
    return HeldOutResult(
        data="mine val",
        images=30,
        metric="area",
        class_names=NAMES,
        objects=np.where(np.isnan(values), 0, n_objects),
        AP=values,
        errors=np.full(2, error),
        mAP=float(np.nanmean(values)),
        mAP_error=mean_error,
        resampled=np.nanmean(values) + np.array([-mean_error, mean_error] * 50),
    )


def test_counts_in_a_sentence() -> None:
    counts = count_classes(BOTTLES)
    assert describe("bottle", counts["bottle"]) == (
        "bottle: 14 objects, 9 of them below 32 px, 2 of them difficult, in 3 images"
    )
    assert describe("car", counts["car"]) == "car: 60 objects, in 1 image"


def test_the_weakest_class_is_that_of_the_least_precision_where_it_was_measured() -> None:
    counts = count_classes(BOTTLES)
    assert weakest(counts, None) == "bottle"  # of the fewest objects
    assert weakest(counts, measured([0.7, 0.2])) == "car"
    assert weakest(counts, measured([0.7, np.nan])) == "bottle"
    assert weakest(counts, measured([0.7, 0.7])) == "bottle"


def test_lines_of_precision() -> None:
    lines = precision_lines(count_classes(BOTTLES), measured([0.25, 0.705], error=0.031))
    assert lines == [
        "car      70.5 ± 3.1    60 objects learned, 40 held out",
        "bottle   25.0 ± 3.1    14 objects learned, 40 held out",
        "mAP      47.8 ± 1.0",
    ]
    crowds = replace(measured([0.5, np.nan]), unmeasured={"car": "all 2 objects are difficult or crowds"}, coco_AP=0.25)
    assert precision_lines(count_classes(BOTTLES), crowds) == [
        "bottle   50.0 ± 1.0    14 objects learned, 40 held out",
        "car       -            60 objects learned, 0 held out (all 2 objects are difficult or crowds)",
        "mAP      50.0 ± 1.0    COCO AP 25.0",
    ]


EXPORT = DataSource(Path("my export.zip"))
TRAIN = "spp train 'my export.zip'"


def summary(
    result: HeldOutResult | None, recall: float | None = 1.0, chosen: bool = True, too_weak: bool = False
) -> list[str]:
    """The lines about 14 bottles, most of them small, and 60 cars."""
    adapted = None
    if recall is not None:
        ranks = np.where(np.arange(100) < 100 * recall, 1.0, np.inf)
        adapted = Adapted(Config(), ProposalRecall(np.stack([ranks, ranks], axis=1)), chosen, precomputed=False)
    counts = count_classes(BOTTLES)
    return summarize(Path("runs/a b"), EXPORT, counts, result, adapted, too_weak, Path("photos/my car.jpg"))


def test_a_class_of_few_objects_needs_more() -> None:
    assert summary(measured([0.712, 0.95], mean_error=0.03)) == [
        "how good: mAP50 83.1 ± 3.0 (100: all found, nothing else), on 30 images of mine val",
        "weakest: bottle, AP50 71.2; cause: it has only 14 objects",
        f"next: label at least 36 more objects of bottle, then {TRAIN}",
    ]


def test_a_class_of_many_objects_may_have_wrong_labels() -> None:
    _, weak, step = summary(measured([0.95, 0.5]))
    assert weak == "weakest: car, AP50 50.0"
    assert step == "next: look for wrong labels: spp data doubt 'my export.zip' --model 'runs/a b'"


def test_images_of_an_archive_are_gone_when_a_good_model_is_to_be_used() -> None:
    lines = summarize(Path("my run"), EXPORT, count_classes(BOTTLES), measured([0.95, 0.9]), None, False, None)
    assert lines[2] == "next: use it: spp serve --model 'my run'"


def test_small_objects_are_a_cause() -> None:
    counts = count_classes(data(image(0, *[(SMALL, 0)] * 60, *[(LARGE, 1)] * 60)))
    lines = summarize(Path("run"), EXPORT, counts, measured([0.5, 0.9]), None, False, Path("a.jpg"))
    assert lines[1] == "weakest: bottle, AP50 50.0; cause: most of its objects are small, below 32 px"


def test_objects_without_proposals_are_the_first_cause() -> None:
    lines = summary(measured([0.5, 0.6]), recall=0.69)
    assert lines[1] == (
        "weakest: bottle, AP50 50.0; cause: 31 % of the objects cannot be found, because no proposal covers them"
    )
    assert lines[2].endswith(f"give boxes of another source by --proposals FILE; then {TRAIN}")
    by_recipe = summary(measured([0.5, 0.6]), recall=0.69, chosen=False)
    assert by_recipe[2] == f"next: the recipe default chooses proposals for the data; then {TRAIN}"
    assert "proposal" not in " ".join(summary(measured([0.5, 0.6]), recall=0.9))


def test_a_good_model_is_used() -> None:
    assert summary(measured([0.95, 0.9]), recall=None)[1:] == [
        "weakest: car, AP50 90.0",
        "next: use it: spp detect 'photos/my car.jpg' --model 'runs/a b'",
    ]


def test_a_model_that_shows_nothing_says_so() -> None:
    assert summary(measured([0.1, 0.2]), too_weak=True)[0].endswith("mine val; too weak to show boxes by default")


def test_without_a_number_the_class_of_the_fewest_objects_is_named() -> None:
    nothing = replace(measured([np.nan, 0.5]), AP=np.full(2, np.nan), mAP=np.nan)
    for result, why in ((None, "too few objects to try it on"), (nothing, "no object is left to be found")):
        assert summary(result) == [
            f"how good: unknown, {why}",
            "weakest: bottle, with 14 objects",
            f"next: label more images, then {TRAIN}",
        ]


def test_the_rule_and_an_unknown_error_of_a_number_are_named() -> None:
    assert how_good(replace(measured([0.5, 0.5], mean_error=np.nan), metric="voc07", images=1)) == (
        "mAP of VOC2007 50.0 (100: all found, nothing else), on 1 image of mine val"
    )


def test_parts_hold_each_other_and_all_classes() -> None:
    annotations = [image(number, (LARGE, 0), (LARGE, 1)) for number in range(10)]
    quarter, half = parts_of(data(*annotations))
    assert (len(quarter), len(half)) == (2, 5)
    assert {each.image_id for each in quarter} < {each.image_id for each in half}
    assert [int(each.image_id) for each in half] == sorted(int(each.image_id) for each in half)
    # cars in one image, and difficult ones, which count for nothing
    alone = [image(0, (LARGE, 1)), *(image(number, (LARGE, 0)) for number in range(1, 10)), image(10, difficult=True)]
    assert all(any(1 in each.labels for each in part) for part in parts_of(data(*alone)))
    assert parts_of(data(image(0, (LARGE, 1)), image(1, (LARGE, 0)))) == []


def test_the_gain_follows_the_line_through_the_points() -> None:
    # 10 points a doubling, without error: 30, 40, 50
    curve = LearningCurve([50, 100, 200], [measured([value] * 2, mean_error=0.02) for value in (0.3, 0.4, 0.5)])
    gain, error = curve.gain()
    # of 100 more, log2(300 / 200) of a doubling; errors of equal resamples are the same everywhere, and cancel
    assert gain == pytest.approx(0.1 * np.log2(1.5))
    assert error == pytest.approx(0, abs=1e-12)
    assert curve.answer() == "more images help: 100 more would bring +5.8 mAP (± 0.0) if it went on so"
    assert curve.to_json()["points"][0] == {"images": 50, "mAP": pytest.approx(0.3), "standard_error": 0.02}


def test_a_gain_is_reported_as_far_as_it_is_known() -> None:
    flat = LearningCurve([50, 200], [measured([0.5, 0.5])] * 2)
    assert flat.answer().startswith("more images of this kind hardly help: 100 more would bring +0.0 mAP")
    noisy = LearningCurve([50, 200], [measured([0.4, 0.4], mean_error=0.3), measured([0.5, 0.5], mean_error=0.01)])
    assert noisy.answer().startswith("30 held-out images are too few to say whether more would help: 100 more")
    # twice an error of .4 % is less than the 1 % that is worth it; twice one of .7 % is more
    for mean_error, answer in ((0.0078, "more images of this kind hardly"), (0.013, "30 held-out images are too few")):
        curve = LearningCurve([100, 200], [measured([0.5, 0.5], mean_error=each) for each in (0.001, mean_error)])
        assert curve.gain() == pytest.approx((0, np.log2(1.5) * (mean_error - 0.001)), rel=0.01)
        assert curve.answer().startswith(answer)
    few = LearningCurve([10, 20], [measured([0.5, 0.5]), measured([0.9, 0.9])])
    assert few.n_more == 20  # no more than twice as many
    assert few.gain()[0] == pytest.approx(0.1)  # and no more than there is to win
    for n_images in ([20], [20, 20]):
        with pytest.raises(ValueError, match="needs two numbers of images"):
            LearningCurve(n_images, [measured([0.5, 0.5])] * len(n_images))
