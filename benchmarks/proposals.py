"""Selective search and its peers: time, memory and recall.

Every method runs in a process of its own. For each image all methods take turns, so that other work of the machine
affects all alike. OpenCV's contrib build shares the module cv2 with opencv-python, and needs a Python of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.boxes import iou
from detector.cli.console import progress, write_json
from detector.cli.outputs import output_file, output_numbers
from detector.datasets.dataset import Dataset
from detector.datasets.loading import load_voc
from detector.images.files import read_image

OURS = ("ours:fast", "ours:fast-threads", "ours:fast-random")
COUNTS = (500, 1000, 2000)
MEGAPIXELS = (0.1, 0.1875, 0.5, 1.0, 3.0, 6.0, 12.0)
SLOW = 60.0
"""Seconds; a slower method skips larger images; one below a tenth of it gets three turns."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--voc", type=Path, required=True, metavar="ROOT", help="VOC folder, or a devkit above it")
    parser.add_argument("--split", required=True, help="a list in ImageSets/Main, such as val")
    parser.add_argument("--images", type=int, metavar="N", help="only the first N images")
    parser.add_argument(
        "--methods", nargs="*", default=["opencv:single", "opencv:fast", "selectivesearch"], help="peers"
    )
    parser.add_argument("--opencv-python", metavar="PYTHON", help="a Python that has opencv-contrib-python")
    parser.add_argument("--no-sizes", action="store_true", help="skip the images of 0.1 to 12 megapixels")
    parser.add_argument("--json", type=output_numbers, metavar="FILE", help="write the numbers to FILE; - is stdout")
    parser.add_argument(
        "--plot", type=output_file, metavar="FILE", help="draw recall and time to FILE (extra: benchmark)"
    )


def measure(options: argparse.Namespace) -> int:
    dataset = load_voc(options.voc, options.split)
    annotations = list(dataset)[: options.images]
    methods = [*OURS, *(m for m in options.methods if options.opencv_python or not m.startswith("opencv"))]
    with tempfile.TemporaryDirectory() as folder:
        workers = {method: Worker(method, options.opencv_python, Path(folder)) for method in methods}
        overlaps: dict[str, list[NDArray[np.float32]]] = {method: [] for method in methods}
        for annotation in progress(annotations, "images"):
            image = read_image(annotation.path)
            for method, worker in workers.items():
                boxes = worker.propose(image)
                objects = annotation.boxes[~annotation.difficult]
                overlaps[method].append(np.maximum.accumulate(padded(iou(objects, boxes)), axis=1))
        labels = [a.labels[~a.difficult] for a in annotations]
        rows = {m: {**workers[m].summary(), **recall_table(overlaps[m], labels)} for m in methods}
        for worker in workers.values():
            worker.close()
        sizes = {} if options.no_sizes else time_by_size(methods, options.opencv_python, dataset, Path(folder))
    report = {"images": len(annotations), "data": dataset.name, "methods": rows, "sizes": sizes}
    print_report(report)
    if options.json is not None:
        write_json(options.json, report)
    if options.plot is not None:
        from benchmarks.plot import plot_proposals

        curves = {m: np.concatenate(overlaps[m]) for m in methods}
        plot_proposals(options.plot, curves, sizes)
    return 0


class Worker:
    """A method in a process of its own, with the time and memory of every image."""

    def __init__(self, method: str, opencv_python: str | None, folder: Path) -> None:
        self.method = method
        self._image_path = folder / "image.npy"
        self._boxes_path = folder / "boxes.npy"
        python = opencv_python if method.startswith("opencv") and opencv_python else sys.executable
        script = Path(__file__).with_name("worker.py")
        command = [python, str(script), method]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.times: list[tuple[float, float, float]] = []
        self._answer()

    def propose(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        np.save(self._image_path, image)
        assert self._process.stdin is not None
        print(json.dumps([str(self._image_path), str(self._boxes_path)]), file=self._process.stdin, flush=True)
        self.times.append(tuple(json.loads(self._answer())))
        return np.load(self._boxes_path)

    def summary(self) -> dict[str, float]:
        cpu, wall, memory = np.array(self.times).T
        return {
            "cpu_s": float(np.median(cpu)),
            "wall_s": float(np.median(wall)),
            "peak_mb": float(memory.max()),
        }

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise OSError(f"the process of {self.method} ended with code {self._process.wait()}")
        return line


def padded(overlap: NDArray[np.float32]) -> NDArray[np.float32]:
    """Crop or zero-pad ``(N, R)`` to the largest count of boxes."""
    cropped = overlap[:, : max(COUNTS)]
    return np.pad(cropped, ((0, 0), (0, max(COUNTS) - cropped.shape[1])))


def recall_table(overlaps: list[NDArray[np.float32]], labels: list[NDArray[np.int64]]) -> dict[str, Any]:
    """Return recall at IoU 0.5 and 0.7 and mean average best overlap over classes, with standard errors.

    Errors come from a bootstrap over images, since objects of one image are found or missed together.
    """
    random = np.random.default_rng(0)
    draws = [np.arange(len(overlaps)), *random.integers(0, len(overlaps), (200, len(overlaps)))]
    table: dict[str, Any] = {}
    for count in COUNTS:
        best = [overlap[:, count - 1] for overlap in overlaps]
        values = []
        for draw in draws:
            found = np.concatenate([best[i] for i in draw])
            label = np.concatenate([labels[i] for i in draw])
            mabo = np.mean([found[label == each].mean() for each in np.unique(label)])
            values.append(((found >= 0.5).mean(), (found >= 0.7).mean(), mabo))
        mean, error = values[0], np.std(values[1:], axis=0)
        names = ("recall_50", "recall_70", "mabo")
        table[str(count)] = {name: [float(m), float(e)] for name, m, e in zip(names, mean, error, strict=True)}
    return table


def time_by_size(
    methods: list[str], opencv_python: str | None, dataset: Dataset, folder: Path
) -> dict[str, dict[str, list[float]]]:
    """Return median CPU seconds, wall seconds and peak MB of every method on mosaics of growing size."""
    found: dict[str, dict[str, list[float]]] = {}
    for method in progress(methods, "sizes"):
        found[method] = {}
        for megapixels in MEGAPIXELS:
            worker = Worker(method, opencv_python, folder)
            image = mosaic(dataset, megapixels)
            worker.propose(image)
            if worker.summary()["wall_s"] < SLOW / 10:
                worker.propose(image)
                worker.propose(image)
            worker.close()
            found[method][str(megapixels)] = list(worker.summary().values())
            if worker.summary()["wall_s"] > SLOW:
                break
    return found


def mosaic(dataset: Dataset, megapixels: float) -> NDArray[np.uint8]:
    """Return an image of 4:3 of this size, tiled from photographs at full resolution."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = round(height * 4 / 3)
    image = np.empty((height, width, 3), np.uint8)
    annotations = iter(dataset)
    for y in range(0, height, 330):
        for x in range(0, width, 330):
            tile = read_image(next(annotations).path)
            tile = np.tile(tile, (2, 2, 1))[: min(330, height - y), : min(330, width - x)]
            image[y : y + 330, x : x + 330] = tile
    return image


def print_report(report: dict[str, Any]) -> None:
    print(f"{report['images']} images of {report['data']}; medians; recall and MABO with standard errors")
    for method, row in report["methods"].items():
        print(f"{method:<20} {row['cpu_s']:7.3f} s CPU {row['wall_s']:7.3f} s wall {row['peak_mb']:6.0f} MB")
        for count in COUNTS:
            numbers = "  ".join(f"{n} {v:.3f} +- {e:.3f}" for n, (v, e) in row[str(count)].items())
            print(f"{'':<12} {count:>6} boxes  {numbers}")
    for method, by_size in report["sizes"].items():
        for megapixels, (cpu, wall, peak) in by_size.items():
            print(f"{method:<20} {megapixels:>7} megapixels {cpu:8.3f} s CPU {wall:8.3f} s wall {peak:6.0f} MB")
