"""Train the SVMs of the shipped model: python -m dev.shipped_svms MODEL VOC_ROOT LEARNED UNSEEN CACHE OUTPUT.

MODEL is that of ``spp train dev/shipped.yaml --voc VOC_ROOT --split LEARNED``. Its layers have not seen the images of
the list UNSEEN, so that SVMs may be trained on its features of both lists, and cross-validated on parts of the second.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from time import monotonic

from detector.config.detector import CalibrationConfig
from detector.datasets.dataset import Dataset
from detector.datasets.loading import load_voc
from detector.features.cache import fill_cache
from detector.pipeline import Detector
from detector.runtime.progress import ProgressBars
from detector.training.calibration import cross_validate, held_out_parts
from detector.training.svm.training import train_svms
from detector.training.train import with_held_out, with_record
from detector.training.training_set import TrainingSet, scaled

MIN_SCORE = -1.3  # of an SVM: lower than nearly all objects


def main() -> None:
    """Write a copy of the model with SVMs in place of its scorer, and with probabilities."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "voc_root", "learned", "unseen", "cache", "output"):
        parser.add_argument(name, type=str if name in ("learned", "unseen") else Path)
    options = parser.parse_args()
    start = monotonic()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    lists = options.learned, options.unseen
    learned, unseen = (load_voc(options.voc_root, split, report=lambda issue: None) for split in lists)
    detector = Detector.load(options.model)
    config = detector.config
    changed = {
        "features": config.features.model_copy(update={"weights": None}),  # files of the machine that trained it
        "fine_tuning": config.fine_tuning.model_copy(update={"head": "svm", "initial": None}),
        "detection": config.detection.model_copy(update={"min_score": MIN_SCORE}),
    }
    config = config.model_copy(update=changed)
    detector = replace(detector, config=config)
    cache, progress = detector.cache(options.cache), ProgressBars()
    both = [*learned, *unseen]
    fill_cache(cache, both, progress)
    images = TrainingSet(both, len(detector.class_names), cache, config.svm.max_negative_iou, config.svm.difficult)
    images = replace(images, layers=detector.heads.layers)
    if detector.heads.proposal_filter is not None:
        images = images.filtered(detector.heads.proposal_filter, config.detection.max_boxes)
    images = scaled(images, config.svm.mean_norm, config.svm.center, config.svm.seed)
    trained = train_svms(images, config.svm, options.output.with_suffix(".state"), progress)
    detector = replace(detector, heads=replace(detector.heads, scorer=trained.svms, calibration=None))
    whole = CalibrationConfig(cross_validate_below=len(unseen) + 1)
    parts = [part + len(learned) for part in held_out_parts(replace(images, annotations=list(unseen)), whole)]
    detector = with_held_out(detector, cross_validate(detector, images, parts, trained.without, progress))
    dataset = Dataset(both, learned.class_names, f"{options.voc_root.name} {options.learned} and {options.unseen}")
    seconds = detector.record.get("seconds", 0) + monotonic() - start
    with_record(detector, dataset, seconds).save(options.output)


if __name__ == "__main__":
    main()
