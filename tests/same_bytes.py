"""What workers of any engine compute, against one process."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from detector.build import build_cache
from detector.cli.engines import CacheBuilding
from detector.config.detector import Config
from detector.datasets.dataset import Dataset
from detector.ensemble import Ensemble
from detector.features.cache import Where
from detector.parallel.map_images import Engine, Threads
from detector.pipeline import Detector
from detector.runs.evaluate_images import Evaluating, detect_all
from detector.training.train import train
from tests.cli.many_images import contents


def check_same_bytes(engine: Engine, config: Config, train_set: Dataset, test_set: Dataset, folder: Path) -> None:
    """A cache filled, a model trained and evaluated by workers of an engine, against one process."""
    for name in ("one", "many"):
        build = CacheBuilding(config, folder / name, "cpu", None)
        where = None if name == "one" else Where(engine, build)
        cache = build_cache(config, folder / name)
        train(config, train_set, train_set.class_names, cache, where=where).save(folder / f"{name}.safetensors")
    one, many = contents(folder / "one"), contents(folder / "many")
    assert len(one) > 2 * len(train_set)
    assert one == many
    model = folder / "one.safetensors"
    assert model.read_bytes() == (folder / "many.safetensors").read_bytes()

    given = {"model": [model], "weights": None, "device": "cpu", "mirror": True, "runtime": None}
    options = Namespace(**given, proposals=None, cache=None)
    evaluating = Evaluating(options, None, test_set.class_names, watched=True)
    detector = Ensemble([Detector.load(model)])
    alone, spread = (detect_all(evaluating, detector, test_set, each).seen for each in (Threads(1), engine))
    assert sum(len(each.detections) for each in alone) > 0
    for seen, other in zip(alone, spread, strict=True):
        assert seen.detections.to_records() == other.detections.to_records()
        assert seen.cover is not None and other.cover is not None
        assert (seen.cover.best == other.cover.best).all()
