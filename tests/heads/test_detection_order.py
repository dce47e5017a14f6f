"""What votes and what does not, what is suppressed when, and that caches and thresholds change nothing of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.boxes import as_boxes, iou
from detector.detections import Detections
from detector.features.cache import FeatureCache
from detector.features.encoder import RegionEncoder
from detector.heads.refinement import vote
from detector.pipeline import Detector
from tests.fakes import NAMES, PROPOSALS, colored, fake_detector, with_heads
from tests.training.small import NamedCells, annotation


def detections(*rows: tuple[Any, int, float]) -> Detections:
    boxes, labels, scores = zip(*rows, strict=True)
    return Detections(as_boxes(boxes), np.array(labels), np.array(scores, np.float32), NAMES)


def voting(**settings: Any) -> Detector:
    """A detector that votes, with limits at which overlaps are easily told by hand."""
    return fake_detector(move=0.0).with_detection(
        **{"box_refinements": 1, "min_score": -1.0, "vote_iou": 0.4, **settings}
    )


def test_who_overlaps_by_the_limit_itself_votes() -> None:
    survivor = detections(([0, 0, 10, 10], 0, 1.0))
    candidates = detections(([0, 0, 10, 10], 0, 1.0), ([0, 0, 10, 5], 0, 1.0))
    # the half of it, at equal weights: 7.5 high together
    assert vote(survivor, candidates, 0.5, 0.0).boxes.tolist() == [[0, 0, 10, 7.5]]
    assert vote(survivor, candidates, 0.51, 0.0).boxes.tolist() == [[0, 0, 10, 10]]


@pytest.mark.parametrize("score", [0.0, -1.0, -50.0])
def test_who_does_not_exceed_the_least_score_hardly_votes(score: float) -> None:
    """The square of what is lacking is no weight; but where all lack it, they have an equal say."""
    survivor = detections(([0, 0, 10, 10], 0, 1.0))
    candidates = detections(([0, 0, 10, 10], 0, 1.0), ([0, 0, 10, 5], 0, score))
    np.testing.assert_allclose(vote(survivor, candidates, 0.5, 0.0).boxes, [[0, 0, 10, 10]], atol=1e-4)
    weak = detections(([0, 0, 10, 10], 0, -1.0), ([0, 0, 10, 5], 0, score - 2))
    np.testing.assert_allclose(vote(weak[:1], weak, 0.5, 0.0).boxes, [[0, 0, 10, 7.5]], atol=1e-4)


def test_classes_vote_among_themselves() -> None:
    survivors = detections(([0, 0, 10, 10], 0, 2.0), ([0, 0, 10, 10], 1, 1.0))
    candidates = detections(([0, 0, 10, 10], 0, 2.0), ([0, 0, 10, 10], 1, 1.0), ([0, 0, 10, 6], 1, 1.0))
    voted = vote(survivors, candidates, 0.5, 0.0)
    assert voted.boxes.tolist() == [[0, 0, 10, 10], [0, 0, 10, 8]]
    assert (voted.labels.tolist(), voted.scores.tolist()) == ([0, 1], [2.0, 1.0])
    assert survivors.boxes.tolist() == [[0, 0, 10, 10]] * 2, "what was given is left as it is"


def test_survivors_that_a_vote_moves_onto_each_other_are_one() -> None:
    """The strong candidate between them is suppressed by the first, and draws the second, weak one to itself."""
    first, between, second = ([0.0, 0, 10, 10], 0, 2.0), ([4, 0, 14, 10], 0, 1.9), ([8, 0, 18, 10], 0, 0.0)
    candidates = detections(first, between, second)
    left = voting().postprocess(candidates)
    assert len(left) == 1
    # weights 9 and 2.9^2 above -1
    shift = 4 * 2.9**2 / (9 + 2.9**2)
    np.testing.assert_allclose(left.boxes, [[shift, 0, 10 + shift, 10]], rtol=1e-5)
    assert left.scores.tolist() == [2.0]
    # with an equal say of the second it comes less near, and stays; without votes both stay where they are
    stronger = detections(first, between, ([8, 0, 18, 10], 0, 1.8))
    found = voting().postprocess(stronger)
    assert len(found) == 2
    assert iou(found.boxes[:1], found.boxes[1:])[0, 0] <= 0.5
    alone = voting(vote_iou=1.0).postprocess(candidates)
    assert alone.boxes.tolist() == [first[0], second[0]]
    # of two classes they are two objects, however near
    others = detections(first, between, ([8, 0, 18, 10], 1, 0.0), ([4, 0, 14, 10], 1, 1.9))
    assert sorted(voting().postprocess(others).labels.tolist()) == [0, 1]


def test_boxes_are_suppressed_before_they_are_voted_on() -> None:
    candidates = detections(([0, 0, 10, 10], 0, 2.0), ([0, 0, 10, 8], 0, 1.0), ([50, 0, 60, 10], 0, 0.5))
    found = voting().postprocess(candidates)
    # weights 9 and 4: the second is none of the detections, but has its say
    np.testing.assert_allclose(found.boxes, np.array([[0, 0, 10, (90 + 32) / 13], [50, 0, 60, 10]]), rtol=1e-6)
    assert voting(max_detections=1).postprocess(candidates).scores.tolist() == [2.0]
    unrefined = voting(box_refinements=0).postprocess(candidates)
    assert unrefined.boxes.tolist() == [[0, 0, 10, 10], [50, 0, 60, 10]]
    still = with_heads(voting(), regressors=()).postprocess(candidates)
    assert still.boxes.tolist() == unrefined.boxes.tolist()


@pytest.mark.parametrize("box_refinements", [0, 1, 2])
def test_a_higher_threshold_leaves_the_same_boxes_but_fewer(box_refinements: int) -> None:
    """What votes, and what is suppressed by what, is told by the settings and not by what is asked for."""
    random = np.random.default_rng(0)
    corners = random.uniform(0, 100, (60, 2))
    boxes = as_boxes(np.concatenate([corners, corners + random.uniform(16, 60, (60, 2))], axis=1))
    image = random.integers(0, 256, (160, 160, 3), np.uint8)
    detector = fake_detector(move=-0.1).with_detection(box_refinements=box_refinements, min_score=-60.0)
    found = detector.detect(image, boxes)
    assert len(found) > 6
    for least in (found.scores[3], found.scores[5]):
        fewer = detector.detect(image, boxes, min_score=float(least))
        expected = found.above(float(least))
        assert fewer.scores.tolist() == expected.scores.tolist()
        assert fewer.boxes.tolist() == expected.boxes.tolist()
    assert len(detector.detect(image, boxes, max_detections=2)) == 2
    # asked for more than the settings would keep, what is there already stays
    more = detector.detect(image, boxes, min_score=-1000.0)
    assert len(more) >= len(found)


def test_detection_from_a_cache_is_detection_in_the_image(tmp_path: Path) -> None:
    """Values of whole numbers are exact in half precision; left and right differ in the image."""
    image = colored()
    image[80:112, 16:48] = (120, 30, 0)
    path = tmp_path / "image.png"
    from detector.images.files import write_image

    write_image(path, image)
    backbone: Any = NamedCells()
    plain = fake_detector(move=-0.25, propose=lambda image: boxes)
    boxes = as_boxes([[0, 0, 64, 64], [4, 0, 68, 64], [16, 80, 48, 112], [96, 0, 160, 64], [80, 0, 160, 64]])
    detector = replace(plain, encoder=RegionEncoder(backbone, short_sides=(160,), levels=(1,)))
    detector = detector.with_detection(box_refinements=2, min_score=0.0)
    cache = FeatureCache(tmp_path / "cache", detector.encoder, detector.propose, {"boxes": "given"})
    each = annotation("image", path, [])
    found, direct = detector.detect_cached(cache, each), detector.detect(path, min_score=0)
    assert len(found) > 1
    np.testing.assert_array_equal(found.boxes, direct.boxes)
    np.testing.assert_array_equal(found.scores, direct.scores)
    again = detector.detect_cached(cache, each)
    np.testing.assert_array_equal(again.boxes, direct.boxes)
    assert len(list((tmp_path / "cache").glob("maps-*"))) == 1


def test_moved_boxes_are_cut_to_their_image() -> None:
    for box_refinements in (0, 1):
        detector = fake_detector(move=-0.5).with_detection(box_refinements=box_refinements, min_score=0.0)
        found = detector.detect(colored(), as_boxes([[0, 0, 64, 64]]))
        assert found.boxes.tolist() == [[0, 0, 32, 64]]
        right = fake_detector(move=0.5).with_detection(box_refinements=box_refinements, min_score=0.0)
        image = np.ascontiguousarray(colored()[:, ::-1])
        assert right.detect(image, as_boxes([[96, 0, 160, 64]])).boxes.tolist() == [[128, 0, 160, 64]]


def test_what_is_moved_onto_another_is_suppressed_again() -> None:
    """Both boxes of the red square survive next to each other and are moved to the same place."""
    plain = fake_detector(move=-0.25)
    left, right = [0, 0, 32, 64], [32, 0, 64, 64]
    (regressors,) = plain.heads.regressors
    moved = plain.detect(colored(), as_boxes([left, right]))
    assert moved.boxes.tolist() == [[0, 0, 24, 64], [24, 0, 56, 64]]
    onto = with_heads(plain, regressors=[replace(regressors, biases=regressors.biases * 4)])
    # a whole width to the left: the first is out of the image, and the second in its place
    assert onto.detect(colored(), as_boxes([left, right])).boxes.tolist() == [[0, 0, 32, 64]]
    near = as_boxes([[0, 0, 40, 64], [24, 0, 64, 64]])
    wide = with_heads(
        plain, regressors=[replace(regressors, biases=np.array([[0, 0, 1, 0], [0, 0, 0, 0]], np.float32))]
    )
    # they overlap by 1/4 before and, 2.7 times as wide, by more than the limit of .3 afterwards
    assert len(wide.detect(colored(), near)) == 1
    assert len(plain.detect(colored(), near)) == 2


def test_proposals_are_not_needed_where_boxes_are_given() -> None:
    def never(image: Any) -> Any:
        raise AssertionError("no proposals were asked for")

    assert len(fake_detector(propose=never).detect(colored(), PROPOSALS)) == 2
