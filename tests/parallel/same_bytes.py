"""Check that the workers of any engine compute the bytes of one process."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from detector.build import build_cache
from detector.config.detector import Config
from detector.datasets.dataset import Dataset
from detector.ensemble import load_ensemble
from detector.features.cache import CacheWorkers
from detector.parallel.map_images import Engine, Threads
from detector.runs.evaluate_images import EvaluatorFactory, detect_all
from detector.training.train import train
from tests.cli.many_images import contents


def check_same_training(engine: Engine, config: Config, train_set: Dataset, folder: Path) -> Path:
    """Fill a cache and train a model with the workers of an engine, compare with one process, return the model."""
    for name in ("one", "many"):
        workers = None if name == "one" else CacheWorkers(engine, partial(build_cache, config, folder / name))
        cache = build_cache(config, folder / name)
        train(config, train_set, train_set.class_names, cache, workers=workers).save(folder / f"{name}.safetensors")
    one, many = contents(folder / "one"), contents(folder / "many")
    assert len(one) > 2 * len(train_set)
    assert one == many
    model = folder / "one.safetensors"
    assert model.read_bytes() == (folder / "many.safetensors").read_bytes()
    return model


def check_same_evaluation(engine: Engine, model: Path, test_set: Dataset) -> None:
    """Detect the objects of a dataset with the workers of an engine, and compare with one process."""
    factory = EvaluatorFactory(partial(load_ensemble, [model]), test_set.class_names, coverage=True)
    detector = factory.load()
    alone, spread = (detect_all(factory, detector, test_set, each).results for each in (Threads(1), engine))
    assert sum(len(each.detections) for each in alone) > 0
    for result, other in zip(alone, spread, strict=True):
        assert result.detections.to_records() == other.detections.to_records()
        assert result.coverage is not None and other.coverage is not None
        assert (result.coverage.best == other.coverage.best).all()
