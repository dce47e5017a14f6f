"""Print the likeliest label errors of a dataset, and draw them on one sheet."""

from __future__ import annotations

import logging
from argparse import Namespace
from pathlib import Path

import numpy as np

from detector.cli.console import printable, progress
from detector.cli.data_options import format_source
from detector.cli.outputs import check_outputs
from detector.datasets.check import load_checked_splits
from detector.datasets.joining import join
from detector.images.drawing import contact_sheet
from detector.images.files import read_image, write_image
from detector.model_file import MODEL_NAME
from detector.results.files import ResultFolder
from detector.runs.folder import RUNS
from detector.runtime.files import cache_of

_log = logging.getLogger(__name__)


def doubt(options: Namespace) -> int:
    """Print doubts about labels, a line each, the likeliest errors first, and draw them."""
    from detector.ensemble import load_ensemble
    from detector.runs.label_doubts import find_doubts

    if options.count < 1:
        raise ValueError(f"--count must be at least 1, but is {options.count}")
    splits = load_checked_splits(format_source(options))
    (dataset,) = join({each.name: {"": each} for each in splits}, _log.info).values()
    check_outputs(options, (each.path for each in dataset))
    path = options.model or _newest_run()
    model = load_ensemble(None if path is None else [path], options.device, options.runtime)
    _log.info("compared with the detections of %s", path or "the model of the package")
    if not set(model.class_names) & set(dataset.class_names):
        raise ValueError(
            f"{path or 'the model of the package'}: detects none of the classes {', '.join(dataset.class_names)}; "
            "train on the data first, and give the run as --model"
        )
    directory = options.cache or cache_of(options.data)
    caches = [each.cache(directory) for each in model.detectors]
    found = [model.detect_cached(caches, each) for each in progress(dataset, "images")]
    doubts = find_doubts(dataset, found, model.default_thresholds)
    if not doubts:
        print(f"no doubts about the labels of {len(dataset)} images")
        return 0
    shown = doubts[: options.count]
    for number, each in enumerate(shown, 1):
        print(f"{number}\t{printable(dataset[each.image].path)}\t{each.kind}\t{printable(each.line)}")
    captions = list(dict.fromkeys(caption for each in shown for caption in each.captions))
    tiles = (
        (
            read_image(dataset[each.image].path),
            each.boxes,
            np.array([captions.index(caption) for caption in each.captions]),
            f"{number} {each.kind} {dataset[each.image].image_id}",
        )
        for number, each in enumerate(shown, 1)
    )
    sheet = contact_sheet(tiles, captions)
    ResultFolder(options.output.parent, (), overwrite=True).take(options.output)
    write_image(options.output, sheet)
    _log.info("%s: %d of %d doubts, numbered as the lines", options.output, len(shown), len(doubts))
    return 0


def _newest_run() -> Path | None:
    """Return the model of the newest run in the current folder; None if there is none."""
    return max(RUNS.glob(f"*/{MODEL_NAME}"), key=lambda path: path.stat().st_mtime_ns, default=None)
