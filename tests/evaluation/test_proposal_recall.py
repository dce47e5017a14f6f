"""The recall of proposals, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detector.boxes import Boxes, as_boxes
from detector.datasets.dataset import Annotation
from detector.evaluation.proposal_recall import ProposalRecall, measure_recall
from tests.evaluation.boxes import FAR, A, B, objects

# 10 x 10, 10 x 6 and 10 x 8 pixels of A: IoU 1, .6 and .8
EXACT, LOOSE, TIGHT = A, (0.0, 0.0, 10.0, 6.0), (0.0, 0.0, 10.0, 8.0)


def recall(proposals: dict[str, list[tuple[float, ...]]], *annotations: Annotation) -> ProposalRecall:
    return measure_recall(lambda each: as_boxes(proposals[each.image_id]), annotations)


def test_each_object_has_the_rank_of_the_first_proposal_that_covers_it() -> None:
    truths = [objects("1", (A, 0, False), (B, 1, False)), objects("2", (A, 0, False))]
    found = recall({"1": [FAR, LOOSE, TIGHT, EXACT], "2": [EXACT]}, *truths)
    assert sorted(map(tuple, found.ranks.tolist())) == [(1, 1), (2, 3), (np.inf, np.inf)]
    assert found.at(0.5) == found.at(0.7) == pytest.approx(2 / 3)
    assert [found.at(0.7, count) for count in (1, 2, 3)] == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    first = found.first(2)
    assert (first.at(0.5), first.at(0.7)) == pytest.approx((2 / 3, 1 / 3))
    assert str(first) == "which cover 67 % of the objects at an IoU of 0.5 and 33 % at 0.7"


def test_images_without_proposals_have_uncovered_objects() -> None:
    assert recall({"1": []}, objects("1", (A, 0, False))).at(0.5) == 0


def test_difficult_objects_and_unreadable_images_do_not_count() -> None:
    def boxes_of(each: Annotation) -> Boxes:
        if each.image_id == "damaged":
            raise ValueError("cut off")
        return as_boxes([A])

    truths = [objects("1", (A, 0, False), (B, 0, True)), objects("2", (B, 0, True)), objects("3")]
    assert measure_recall(boxes_of, [*truths, objects("damaged", (B, 0, False))]).ranks.tolist() == [[1, 1]]
    # nothing to cover
    nothing = measure_recall(boxes_of, truths[1:])
    assert (len(nothing.ranks), nothing.at(0.5), nothing.at(0.7, 10)) == (0, 1, 1)


def test_a_sample_of_many_images_is_measured_and_always_the_same() -> None:
    truth = objects("1", (A, 0, False))
    annotations = [replace(truth, image_id=str(number)) for number in range(100)]
    samples: list[list[str]] = [[], []]
    for sample in samples:

        def boxes_of(each: Annotation, sample: list[str] = sample) -> Boxes:
            sample.append(each.image_id)
            return as_boxes([A])

        measure_recall(boxes_of, annotations)
    assert samples[0] == samples[1] == sorted(samples[0], key=int)
    assert len(set(samples[0])) == 24
    assert int(samples[0][-1]) > 60
