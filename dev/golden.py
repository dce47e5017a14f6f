"""Write what later versions must still read: python -m dev.golden tests/golden/N"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detector.images.files import read_image, write_image
from detector.runtime.files import write_json
from detector.teaching.labels import Box, ImageLabels
from detector.teaching.project import LABELS, Project
from tests.fakes import TINY, write_stripes
from tests.synthetic import write_synthetic_voc

ROOT = Path(__file__).parents[1]

# real weights, few of them, in float32, which every processor has
_SMALL: dict[str, Any] = {
    "proposals": {"max_boxes": 200, "min_side": 16},
    "features": {"stage": "blocks.1", "precision": "float32", "short_sides": [96, 144], "levels": [3, 2, 1]},
    "proposal_filter": {"enabled": True, "levels": [2, 1], "images": 16, "boxes": 32},
    "detection": {"min_score": -1.0, "max_boxes": 100, "box_refinements": 1},
}
_FINE_TUNED = {"enabled": True, "head": "softmax", "width": 12, "iterations": 300, "batch_size": 32, "held_out": 0.2}
RECIPES: dict[str, dict[str, Any]] = {
    "svm.yaml": {**_SMALL, "svm": {"loss": "squared_hinge", "C": 0.01, "center": True}},
    "layers.yaml": {**_SMALL, "fine_tuning": _FINE_TUNED, "detection": {"min_score": -3.0}},
    "classifier.yaml": {**TINY, "training": {"epochs": 12, "batch_size": 8}},
}
DETECTORS = ("run", "added.safetensors", "layers.safetensors")
CLASSIFIER = "classifier.safetensors"
PROJECT = "project"
TAUGHT = (
    ImageLabels((Box("circle", (40.0, 131.0, 118.0, 209.0)), Box("pièce 硬币", (52.5, 32.25, 115.0, 95.0))), True),
    ImageLabels((), True),
)
"""Labels of the images of the project."""


def write_golden(folder: Path) -> None:
    """Train small models on drawn images, and write them with all kinds of results into the new ``folder``."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        _draw(work)
        for recipe, content in RECIPES.items():
            write_json(work / recipe, content)
        _train(work)
        _detect(work)
        for each in ("images", "cache", "results", "run"):
            # the page of a report is for readers; programs read the files beside it
            shutil.copytree(work / each, folder / each, ignore=shutil.ignore_patterns("*.html"))
        for each in (*DETECTORS[1:], CLASSIFIER, *RECIPES):
            shutil.copy(work / each, folder / each)
    _teach(folder / "images" / "JPEGImages", folder / PROJECT)
    write_json(folder / "expected.json", expected(folder))


def expected(folder: Path) -> dict[str, Any]:
    """Return what the models of a folder find in its images: records of detections, and probabilities of classes."""
    import detector

    images = sorted((folder / "images" / "JPEGImages").iterdir())
    found: dict[str, Any] = {}
    for name in DETECTORS:
        model = detector.load(folder / name)
        best = [model.detect(each, min_score=-10.0, max_detections=10) for each in images]
        found[name] = {path.name: each.to_records() for path, each in zip(images, best, strict=True)}
    classifier = detector.Classifier.load(folder / CLASSIFIER)
    found[CLASSIFIER] = {each.name: classifier.scores([read_image(each)])[0].tolist() for each in images}
    return found


def _draw(work: Path) -> None:
    """Draw images to train on, and two to detect in, of few colors, which compress well."""
    write_synthetic_voc(work / "data", 24, seed=1)
    write_synthetic_voc(work / "images", 2, seed=2, split="test", suffixes=(".png",))
    for each in (work / "images" / "JPEGImages").iterdir():
        write_image(each, (read_image(each) // 32 * 32).astype(np.uint8))
    stripes = write_stripes(work / "stripes", 16)
    for number, path in enumerate(stripes.paths):
        to = path.with_name(stripes.class_names[number % 2]) / path.name
        to.parent.mkdir(exist_ok=True)
        path.rename(to)


def _train(work: Path) -> None:
    data = ("--voc", "data", "--split", "train", "--cache", "features")
    two = ("--classes", "circle", "square")
    _spp(work, "train", "svm.yaml", *data, *two, "--output", "run")
    changed = ("--model", "run/model.safetensors", "--add-class", "triangle")
    _spp(work, "train", *data, *changed, "--output", "added.safetensors")
    _spp(work, "train", "layers.yaml", *data, "--output", "layers.safetensors")
    stripes = ("--images", "stripes", "--cache", "stripes-cache")
    _spp(work, "train-classifier", "classifier.yaml", *stripes, "--output", CLASSIFIER)


def _detect(work: Path) -> None:
    formats = ("--format", "json,jsonl,csv,coco,voc,yolo", "--no-drawing")
    _spp(work, "detect", "images/JPEGImages", "--model", "run", "--output", "results/detections", *formats)
    _spp(work, "detect", "images/JPEGImages", "--model", "run", "--parts", "results/parts", "--part-size", "1")
    found = ("--save-detections", "results/devkit", "--json", "results/metrics.json", "--report", "results/report")
    scored = ("--voc", "images", "--split", "test", "--cache", "cache")
    _spp(work, "evaluate", *scored, "--model", "added.safetensors", *found)


def _teach(images: Path, folder: Path) -> None:
    """Write a project with labels; its links to the images are made again where it is opened."""
    project = Project(images, folder)
    for number, labels in enumerate(TAUGHT):
        project.set_labels(number, labels)
    project.close()
    for each in folder.iterdir():
        if each.name != LABELS:
            shutil.rmtree(each) if each.is_dir() else each.unlink()


def _spp(work: Path, *words: str) -> None:
    """Run `spp` in ``work``; what it caches by default stays there."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(work / "xdg")}
    subprocess.run([sys.executable, "-P", "-m", "detector", *words], cwd=work, env=environment, check=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="new folder, tests/golden/N of the version N of the formats")
    folder = parser.parse_args(arguments).folder
    write_golden(folder)
    print(json.dumps({"bytes": sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
