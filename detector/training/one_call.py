"""From labeled images to a detector in one call, for scripts and notebooks."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from detector.build import build_cache
from detector.config.detector import Config, load_config
from detector.datasets.check import load_checked
from detector.datasets.dataset import Dataset
from detector.images.files import image_size
from detector.pipeline import Detector
from detector.runtime.progress import Progress, without_progress
from detector.training.train import train


def train_on(
    data: Dataset | str | Path,
    recipe: Config | str | Path = "default",
    *,
    split: str | None = None,
    output: str | Path | None = None,
    cache: str | Path | None = None,
    device: str = "cpu",
    progress: Progress = without_progress,
) -> Detector:
    """Train a detector on a data set, or on the ``split`` (default: train) of data as labeling tools write them.

    recipe: what `detector.config.detector.parse_config` gives, a YAML file, or the name of one that comes with the
        package. output: a file to save the model to. cache: a folder of features, which a second training finds there;
        without, they are kept until the end of this one. Raises the errors of `load_checked` and of
        `detector.training.train.train`.
    """
    config = recipe if isinstance(recipe, Config) else load_config(recipe)
    dataset = data if isinstance(data, Dataset) else load_checked(data=Path(data), split=split, image_size=image_size)
    start = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()) if cache is None else cache)
        detector = train(config, dataset, dataset.class_names, build_cache(config, folder, device), progress)
    detector = recorded(detector, dataset, start)
    if output is not None:
        detector.save(output)
    return detector


def recorded(detector: Detector, dataset: Dataset, start: float) -> Detector:
    """The detector with a note of what it was trained on, when, and in how many seconds since ``start``."""
    record = {
        "trained_on": dataset.name,
        "images": len(dataset),
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(time.monotonic() - start),
    }
    return replace(detector, record=record)
