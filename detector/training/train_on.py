"""Train on a data set in one call: adapt the recipe, train or fine-tune, record data and time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from detector.build import build_cache
from detector.config.detector import Config, load_config
from detector.datasets.check import load_checked
from detector.datasets.dataset import Dataset
from detector.datasets.loading import DataSource
from detector.features.cache import CacheWorkers, FeatureCache
from detector.pipeline import Detector
from detector.runtime.optional import optional
from detector.runtime.progress import Progress, no_progress
from detector.tiles import Tiles
from detector.training.adaptation import adapt_recipe
from detector.training.calibration import HeldOut
from detector.training.fine_tuning import Stored, train_and_compare
from detector.training.time_spent import time_spent
from detector.training.train import train, with_record


def train_on(
    data: Dataset | str | Path,
    recipe: Config | str | Path = "default",
    *,
    fine_tune: bool = False,
    tiles: Tiles | None = None,
    split: str | None = None,
    output: str | Path | None = None,
    cache: str | Path | None = None,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> Detector:
    """Train a detector on a data set, or on the ``split`` (default: train) of data in any format of labeling tools.

    recipe: a `Config`, a YAML file, or the name of a recipe of the package.
    fine_tune: also fine-tune the backbone, and return the better model; see `train_and_compare`.
    tiles: also train on tiles of the images, see `parse_tiles`; by default what the recipe says. The model detects in
        such tiles, too.
    output: file to save the model to.
    cache: directory of features, which later trainings reuse; by default they are deleted at the end.
    Raises the errors of `load_checked` and of `train_recorded`, and MissingPackageError to fine-tune without torch.
    """
    if fine_tune:
        optional("torch", "torch")
    config = recipe if isinstance(recipe, Config) else load_config(recipe)
    if tiles is not None:
        config = config.with_tiles(tiles)
    dataset = data if isinstance(data, Dataset) else load_checked(DataSource(Path(data), split))
    config = adapt_recipe(config, dataset.annotations, progress).config
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()) if cache is None else cache)
        features = build_cache(config, folder, device)
        detector = train_recorded(config, dataset, features, progress, fine_tune=fine_tune)
    if output is not None:
        detector.save(output)
    return detector


def train_recorded(
    config: Config,
    dataset: Dataset,
    cache: FeatureCache,
    progress: Progress = no_progress,
    workers: CacheWorkers | None = None,
    report: Callable[[Detector, HeldOut], None] = lambda detector, held_out: None,
    *,
    fine_tune: bool = False,
    stored: Stored = lambda name, trained: trained(),
) -> Detector:
    """Train a detector with a record of data and date, and of the seconds of all starts of the training.

    fine_tune, stored: see `train_and_compare`. Raises the errors of `train` and `train_and_compare`.
    """
    spent = time_spent(config, dataset, cache, fine_tune)
    progress = spent.progress(progress)
    if fine_tune:
        detector = train_and_compare(config, dataset, cache, progress, workers, report, stored)
    else:
        detector = train(config, dataset, dataset.class_names, cache, progress, workers=workers, report=report)
    return with_record(detector, dataset, spent.finish())
