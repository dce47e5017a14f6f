"""Plots of benchmarks; needs the extra `benchmark`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator


def plot_proposals(
    path: Path, overlaps: dict[str, NDArray[np.float32]], sizes: dict[str, dict[str, list[float]]]
) -> None:
    """Draw recall against the number of boxes, and CPU seconds against megapixels.

    overlaps: by method ``(N, 2000)``, the best IoU of each object with the first 1, 2 .. 2000 boxes.
    sizes: by method and number of megapixels, CPU seconds, wall seconds and MB.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for index, (method, best) in enumerate(overlaps.items()):
        counts = np.arange(1, best.shape[1] + 1)
        for minimum, style in ((0.5, "-"), (0.7, "--")):
            label = method if minimum == 0.5 else None
            left.semilogx(counts, (best >= minimum).mean(axis=0), style, color=f"C{index}", label=label)
        if sizes.get(method):
            seconds = [row[0] for row in sizes[method].values()]
            right.loglog(
                [float(megapixels) for megapixels in sizes[method]],
                seconds,
                "o-",
                color=f"C{index}",
                label=method,
            )
    left.set(xlabel="boxes", ylabel="recall at IoU 0.5 (solid) and 0.7 (dashed)", xlim=(10, None), ylim=(0, 1))
    right.set(xlabel="megapixels", ylabel="CPU seconds")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    left.legend(fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def plot_hours(
    path: Path,
    tables: Mapping[str, Mapping[tuple[int, int], tuple[float, str]]],
    nodes: Sequence[int],
    workers: int,
    measured: Mapping[int, float],
) -> None:
    """Draw hours against workers for each number of images, one panel per step.

    tables: by step and by number of images and nodes, the predicted seconds and their bottleneck.
    measured: measured seconds per image of detection, by number of workers.
    """
    figure, panels = plt.subplots(1, len(tables), figsize=(4 * len(tables), 4), sharey=True, layout="constrained")
    for axes, (name, table) in zip(panels, tables.items(), strict=True):
        for index, images in enumerate(sorted({images for images, _ in table})):
            hours = [table[images, each][0] / 3600 for each in nodes]
            axes.loglog([each * workers for each in nodes], hours, "-", color=f"C{index}", label=f"{images:.0e} images")
            if name == "detect":
                axes.loglog([*measured], [images * each / 3600 for each in measured.values()], "o", color=f"C{index}")
        axes.set(title=name, xlabel="workers")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("hours (points: measured)")
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def plot_ladder(path: Path, table: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw mAP, with standard errors, against the seconds of a detection, a point per method.

    table: by method, "mAP", "standard_error" and "seconds".
    """
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for index, (name, row) in enumerate(table.items()):
        error = 100 * (row["standard_error"]["mAP"] or 0)
        axes.errorbar(row["seconds"], 100 * row["mAP"], error, fmt="o", color=f"C{index}", capsize=3, label=name)
    axes.set(xlabel="seconds per image", ylabel="mAP, %", xscale="log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)
