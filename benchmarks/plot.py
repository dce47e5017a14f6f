"""The plots of benchmark.py; needs the extra `benchmark`."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

mpl.use("Agg")
from matplotlib import pyplot as plt


def plot_proposals(
    path: Path, overlaps: dict[str, NDArray[np.float32]], sizes: dict[str, dict[str, list[float]]]
) -> None:
    """Draw recall against the number of boxes, and CPU seconds against megapixels.

    overlaps: for each method (N, 2000), the best overlap of each object with the first so many boxes. sizes:
    for each method and number of megapixels, CPU and wall seconds and MB.
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
