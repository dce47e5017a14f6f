"""Whether probabilities are what they claim."""

from __future__ import annotations

from collections.abc import Sequence

from detector.datasets.annotation import Annotation
from detector.detections import Detections
from detector.evaluation.outcomes import gather_outcomes
from detector.evaluation.scores import ScoreBins, bin_scores
from detector.evaluation.voc import by_class


def probability_bins(
    detections: Sequence[Detections],
    ground_truth: Sequence[Annotation],
    class_names: Sequence[str],
    min_probability: float = 0,
    n_bins: int = 15,
) -> ScoreBins:
    """The detections in images, one for each of the annotations, in ``n_bins`` equal bins of their probabilities.

    What is true, and what does not count, is as in `detector.evaluation.voc.evaluate_voc`. Raises ValueError for
    detections without probabilities.
    """
    rescored = []
    for each in detections:
        if each.probabilities is None:
            raise ValueError("there are no probabilities: the model has no calibration")
        likely = each.where(min_probability=min_probability)
        assert likely.probabilities is not None
        rescored.append(Detections(likely.boxes, likely.labels, likely.probabilities, likely.class_names))
    image_ids = [each.image_id for each in ground_truth]
    return bin_scores(gather_outcomes(by_class(image_ids, rescored), ground_truth, class_names), n_bins)


def calibration_error(
    detections: Sequence[Detections],
    ground_truth: Sequence[Annotation],
    class_names: Sequence[str],
    min_probability: float = 0,
    n_bins: int = 15,
) -> float:
    """Expected calibration error of all classes together, with the arguments and errors of `probability_bins`.

    In each bin, the distance between the mean probability and the share of true detections, weighed by their number
    (M. P. Naeini et al., AAAI 2015). NaN without detections of ``min_probability``.
    """
    return probability_bins(detections, ground_truth, class_names, min_probability, n_bins).calibration_error
