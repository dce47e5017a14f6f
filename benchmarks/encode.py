"""Time of the convolution by network, scales, precision and batch, also as a fraction of the peak.

The peak is the multiply-adds per second of a product of two large matrices in the same precision and run; the two
alternate. Also counts the proposals that read each of five scales.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import machine
from detector.backbones.torch_backbone import TorchBackbone, load_torch_backbone
from detector.cli.console import progress, write_json
from detector.cli.outputs import output_numbers
from detector.datasets.dataset import Dataset
from detector.datasets.loading import load_voc
from detector.features.mapping import choose_scales
from detector.images.files import read_image
from detector.images.resizing import resize_short_side
from detector.proposals.selective_search import selective_search

SIZE = (375, 500, 3)
"""Images of VOC's most frequent size, so that they fit into one batch."""
NETWORKS = ("alexnet", "vgg16", "efficientnet_lite0")
SCALES = {"1 scale": (688,), "5 scales": (480, 576, 688, 864, 1200)}
BATCHES = (1, 4)
MATRIX = 2048


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--voc", type=Path, required=True, metavar="ROOT", help="VOC folder, or a devkit above it")
    parser.add_argument("--split", required=True, help="a list in ImageSets/Main, such as val")
    parser.add_argument(
        "--images", type=int, default=10, metavar="N", help="the first N images of 500 x 375 (default: 10)"
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS, help="(default: all)")
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="folder of alexnet*.safetensors and vgg16* (default: random)"
    )
    parser.add_argument("--json", type=output_numbers, metavar="FILE", help="write the numbers to FILE; - is stdout")


def measure(options: argparse.Namespace) -> int:
    dataset = load_voc(options.voc, options.split)
    images = read_images(dataset, max(options.images, *BATCHES))
    automatic = load_torch_backbone("alexnet", weights="random", precision="auto").precision
    report: dict[str, Any] = {
        "machine": machine(),
        "data": f"{len(images)} images of 500 x 375 of {dataset.name}",
        "networks": [],
        "proposals": scale_use(images, SCALES["5 scales"]),
    }
    for name, precision in itertools.product(options.networks, dict.fromkeys(("float32", automatic))):
        backbone = load_torch_backbone(name, weights=weights_of(name, options.weights), precision=precision)
        for (scales, short_sides), batch in itertools.product(SCALES.items(), BATCHES):
            row = convolution(backbone, images, short_sides, batch)
            report["networks"].append({"network": name, "precision": precision, "scales": scales, **row})
    print_report(report)
    if options.json is not None:
        write_json(options.json, report)
    return 0


def read_images(dataset: Dataset, count: int) -> list[NDArray[np.uint8]]:
    """Return the first ``count`` images of `SIZE`."""
    images = (image for each in dataset if (image := read_image(each.path)).shape == SIZE)
    found = list(itertools.islice(images, count))
    if len(found) < count:
        raise ValueError(f"{count} images of 500 x 375 are needed, but {dataset.name} has {len(found)}")
    return found


def weights_of(name: str, directory: Path | None) -> Path | str | None:
    """Return the weights file of a network, or installed weights, or random ones, which take the same time."""
    if name == "efficientnet_lite0":
        return None
    return next(iter(sorted(directory.glob(f"{name}*.safetensors"))), "random") if directory else "random"


def convolution(
    backbone: TorchBackbone, images: list[NDArray[np.uint8]], short_sides: tuple[int, ...], batch: int
) -> dict[str, float]:
    """Return medians per image in batches, without resizing; the first batch warms up."""
    times = []
    for group in progress([0, *range(len(images) // batch)], f"{backbone.name} {backbone.precision} {batch}"):
        batch_images = images[group * batch : (group + 1) * batch]
        inputs = [
            torch.cat([backbone.preprocess(resize_short_side(image, short_side)[0]) for image in batch_images])
            for short_side in short_sides
        ]
        times.append((matrix_product(backbone.precision), seconds(convolve, backbone, inputs) / batch))
    with FlopCounterMode(display=False) as counter:
        convolve(backbone, [pixels[:1] for pixels in inputs])
    multiply_adds = counter.get_total_flops() / 2
    matrices, convolutions = np.array(times[1:]).T
    return {
        "batch": batch,
        "seconds": float(np.median(convolutions)),
        "multiply_adds": multiply_adds,
        "peak": MATRIX**3 / float(np.median(matrices)),
        "share": float(np.median(multiply_adds / MATRIX**3 * matrices / convolutions)),
    }


def convolve(backbone: TorchBackbone, inputs: list[torch.Tensor]) -> None:
    for pixels in inputs:
        backbone.forward(pixels)


def matrix_product(precision: str) -> float:
    """Return the minimum seconds of a product of two square matrices, by torch's product or a 1 x 1 convolution.

    They use different libraries; which one is faster varies.
    """
    matrix = torch.rand(MATRIX, MATRIX).to(getattr(torch, precision))
    pixels = matrix.T.reshape(1, MATRIX, 32, -1).to(memory_format=torch.channels_last)
    kernel = matrix[:, :, None, None].to(memory_format=torch.channels_last)
    return min(min(seconds(torch.mm, matrix, matrix), seconds(torch.conv2d, pixels, kernel)) for _ in range(3))


def seconds(work: Callable[..., object], *arguments: Any) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def scale_use(images: list[NDArray[np.uint8]], short_sides: tuple[int, ...]) -> dict[str, Any]:
    """Return the fractions of boxes and images that read each scale, and the mean number of scales per image."""
    boxes = [selective_search(image) for image in images]
    counts = []
    for image, each in zip(images, boxes, strict=True):
        zooms = [short_side / min(image.shape[:2]) for short_side in short_sides]
        counts.append(np.bincount(choose_scales(each, zooms), minlength=len(short_sides)))
    table = np.array(counts)
    return {
        "boxes": float(np.mean([len(each) for each in boxes])),
        "short_sides": short_sides,
        "share_of_boxes": (table.sum(0) / table.sum()).tolist(),
        "share_of_images": (table > 0).mean(0).tolist(),
        "scales_needed": float((table > 0).sum(1).mean()),
    }


def print_report(report: dict[str, Any]) -> None:
    print(report["machine"])
    print(
        f"{report['data']}; medians of seconds per image, billions of multiply-adds per image and per second, "
        f"and those of a product of two {MATRIX} x {MATRIX} matrices"
    )
    columns = ("seconds", "G", "G/s", "matrices", "share")
    print(f"{'network':<20}{'precision':<10}{'scales':<10}{'batch':>5}" + "".join(f"{name:>9}" for name in columns))
    for row in report["networks"]:
        work, taken = row["multiply_adds"] / 1e9, row["seconds"]
        print(
            f"{row['network']:<20}{row['precision']:<10}{row['scales']:<10}{row['batch']:>5}{taken:>9.3f}"
            f"{work:>9.1f}{work / taken:>9.0f}{row['peak'] / 1e9:>9.0f}{row['share']:>9.0%}"
        )
    use = report["proposals"]
    print(f"{use['boxes']:.0f} proposals per image read {use['scales_needed']:.1f} of 5 scales:")
    for short_side, boxes, shares in zip(
        use["short_sides"], use["share_of_boxes"], use["share_of_images"], strict=True
    ):
        print(f"{short_side:>6} px {boxes:>5.0%} of the boxes, used in {shares:.0%} of the images")
