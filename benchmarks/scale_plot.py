"""The plot of scale.py; needs the extra `benchmark`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

if TYPE_CHECKING:
    from benchmarks.scale import Stage

mpl.use("Agg")
from matplotlib import pyplot as plt


def plot(
    path: Path,
    stages: Sequence[tuple[Stage, Mapping[tuple[int, int], tuple[float, str]]]],
    nodes: Sequence[int],
    workers: int,
    points: Mapping[int, float],
) -> None:
    """Hours against workers for each number of images, a panel a stage.

    points: seconds an image of detection, measured with so many workers.
    """
    figure, panels = plt.subplots(1, len(stages), figsize=(4 * len(stages), 4), sharey=True, layout="constrained")
    for axes, (stage, table) in zip(panels, stages, strict=True):
        for index, images in enumerate(sorted({images for images, _ in table})):
            hours = [table[images, each][0] / 3600 for each in nodes]
            axes.loglog([each * workers for each in nodes], hours, "-", color=f"C{index}", label=f"{images:.0e} images")
            if stage.name == "detect":
                axes.loglog([*points], [images * each / 3600 for each in points.values()], "o", color=f"C{index}")
        axes.set(title=stage.name, xlabel="workers")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("hours (points: measured)")
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
