"""Small subsets of a large dataset, and a cheap recipe to train on them: few boxes, one scale."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from detector.build import build_cache
from detector.cli.outputs import OutputFile, begins, cache_folder
from detector.config.detector import Config, load_config, parse_config
from detector.datasets.dataset import Annotation, Dataset
from detector.detections import Detections
from detector.evaluation.voc import evaluate_voc
from detector.features.cache import FeatureCache
from detector.runtime.files import write_json


def add_subset_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of benchmarks that train on subsets of a large dataset, and keep their numbers."""
    parser.add_argument("--voc", type=Path, required=True, metavar="ROOT", help="VOC folder, or a devkit above it")
    parser.add_argument("--split", default="train", help="a list in ImageSets/Main to draw from (default: train)")
    parser.add_argument("--cache", type=cache_folder, required=True, metavar="DIR", help="cache directory")
    parser.add_argument(
        "--results", type=OutputFile(begins(rb"\{")), required=True, metavar="FILE", help="file to keep the numbers in"
    )
    parser.add_argument("--config", type=Path, default=Path("default"), help="the recipe (default: default)")
    parser.add_argument("--test", type=int, default=60, metavar="N", help="images to test on (default: 60)")


def with_classes(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """Return the images with only the objects of the named classes, labeled 0, 1, .. in that order."""
    annotations = []
    for each in dataset:
        rows = np.array([dataset.class_names[label] in names for label in each.labels], np.bool_)
        labels = np.array([names.index(dataset.class_names[label]) for label in each.labels[rows]], np.int64)
        annotations.append(replace(each, boxes=each.boxes[rows], labels=labels, difficult=each.difficult[rows]))
    return Dataset(tuple(annotations), tuple(names), dataset.name)


def draw_subsets(
    dataset: Dataset, names: Sequence[str], n_train: int, n_test: int, seed: int
) -> tuple[Dataset, Dataset]:
    """Return random images to train on and others to test on; a quarter of the latter has no object of the classes."""
    selected = with_classes(dataset, names)
    order = np.random.default_rng(seed).permutation(len(selected)).tolist()
    with_objects = [selected[row] for row in order if len(selected[row].labels)]
    without = [selected[row] for row in order if not len(selected[row].labels)]
    n_with = n_test - n_test // 4
    train = with_objects[:n_train]
    test = with_objects[n_train : n_train + n_with] + without[: n_test - n_with]
    name = f"{len(names)} classes of {dataset.name}"
    return replace(selected, annotations=tuple(train), name=name), replace(selected, annotations=tuple(test), name=name)


@dataclass(frozen=True)
class Quick:
    """A recipe made cheap: one scale, the first ``boxes`` proposals, boxes refined once."""

    recipe: Path
    directory: Path
    short_side: int = 320
    boxes: int = 600

    def config(self, changes: Mapping[str, Mapping[str, object]]) -> Config:
        """Return the recipe with changes by section."""
        content = load_config(self.recipe).model_dump(mode="json")
        cheap = {"features": {"short_sides": [self.short_side]}, "detection": {"box_refinements": 0, "min_score": -1.5}}
        for part in (cheap, changes):
            for section, values in part.items():
                content[section] |= values
        return parse_config(content, "quick")

    def cache(self, config: Config, annotations: Sequence[Annotation]) -> FeatureCache:
        """Open the cache of maps, with the first proposals of the annotated images."""
        cache = build_cache(config, self.directory)
        proposals = {each.image_id: cache.proposals(each.image_id, each.path)[: self.boxes] for each in annotations}
        return build_cache(config, self.directory, precomputed=proposals)


class Results:
    """Numbers by key in a JSON file, which are not measured again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.numbers: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def keep(self, key: str, number: Any) -> None:
        self.numbers[key] = number
        write_json(self.path, self.numbers)


def mean_precision(found: Sequence[Detections], dataset: Dataset) -> float:
    """Return the mAP by VOC's 11 points."""
    return evaluate_voc(found, dataset, dataset.class_names, "voc07").mAP
