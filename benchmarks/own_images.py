"""Minutes from a zip file of labeled images to a report, with one `spp train --data`.

The zip file of one class, in YOLO's layout, is drawn from a list. The training has no cache and no compiled kernels.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.machine import machine
from benchmarks.subsets import draw_subsets
from detector.cli.outputs import output_folder
from detector.datasets.loading import load_voc
from detector.datasets.readers.voc import VOC_CLASSES
from detector.datasets.writing import write_dataset

ROOT = Path(__file__).parents[1]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--voc", type=Path, required=True, metavar="ROOT", help="VOC folder, or a devkit above it")
    parser.add_argument("--split", default="train", help="a list in ImageSets/Main to draw from (default: train)")
    parser.add_argument("--class", dest="class_name", default="cat", metavar="NAME", help="default: cat")
    parser.add_argument("--images", type=int, default=60, metavar="N", help="default: 60")
    parser.add_argument("--work", type=output_folder, required=True, metavar="DIR", help="new folder for all files")


def measure(options: argparse.Namespace) -> int:
    dataset = load_voc(options.voc, options.split, VOC_CLASSES)
    images, _ = draw_subsets(dataset, [options.class_name], options.images, 0, seed=0)
    images = replace(images, name="own")
    write_dataset({"": images}, options.work / "own", "yolo")
    archive = shutil.make_archive(str(options.work / "own"), "zip", options.work / "own")
    run = options.work / "run"
    environment = {
        "XDG_CACHE_HOME": str((options.work / "cache").resolve()),
        "NUMBA_CACHE_DIR": str(options.work / "numba"),
    }
    command: list[str | Path] = [sys.executable, ROOT / "tools" / "train_svm.py", "-q", "--data", archive]
    command += ["--hold-out", "0.2", "--output", run]
    start = time.monotonic()
    subprocess.run(command, env=os.environ | environment, check=True)
    seconds = time.monotonic() - start
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    n_objects = sum(len(each.labels) for each in images)
    print(f"{machine()}\n{len(images)} images of {dataset.name}, {n_objects} objects of {options.class_name}")
    result = "report" if (run / "report" / "report.html").is_file() else "model, without a report"
    print(f"from zip file to {result} in {seconds / 60:.1f} minutes")
    error = 100 * (metrics["standard_error"]["mAP"] or 0)
    print(f"AP {100 * metrics['mAP']:.1f} ± {error:.1f} on {metrics['images']} held-out images")
    return 0
