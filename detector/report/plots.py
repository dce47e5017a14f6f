"""Plot curves as SVG elements of the page, by matplotlib; no text of the data goes into them."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.calibration import ScoreBins
from detector.evaluation.coverage import NUMBERS, Coverage
from detector.evaluation.outcomes import Mask, Outcomes
from detector.evaluation.thresholds import ThresholdCurve
from detector.runtime.environment import environment_variables
from detector.runtime.files import cache_root
from detector.runtime.optional import optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, GREY, INK = "#0072b2", "#d55e00", "#009e73", "#b8bec6", "#30363d"
_SMALL, _WIDE = (2.3, 1.75), (4.6, 2.7)
_MAX_POINTS = 240
_HALVES = (0.0, 0.5, 1.0)
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "spp-report",
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "grid.color": "#eceff2",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def plot_precision_recall(outcomes: Outcomes, label: int) -> str:
    """Plot precision against recall, the area below its envelope, and the eleven points."""
    rows = outcomes.of_class(label)
    true = outcomes.true[rows][outcomes.counted[rows]]
    n_true = np.cumsum(true)
    recall = n_true / max(int(outcomes.n_wanted()[label]), 1)
    precision = n_true / np.arange(1, len(true) + 1)
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    tenths = np.arange(11) / 10
    at_tenths = best[np.searchsorted(recall, tenths - 1e-9)]
    shown = _spaced_rows(recall)

    def draw(axes: Axes) -> None:
        if len(true):
            # the envelope begins at the previous recall
            axes.fill_between(
                np.append(0, recall[shown]), np.append(best[0], best[:-1][shown]), step="pre", color="#d5e8f4"
            )
            axes.plot(recall[shown], precision[shown], color=BLUE, linewidth=1.2)
        axes.plot(tenths, at_tenths, ".", color=ORANGE, markersize=3.5, clip_on=False)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision", xticks=_HALVES, yticks=_HALVES)

    return to_svg(draw, _SMALL)


def plot_f1(curve: ThresholdCurve) -> str:
    """Plot F1 and, fainter, precision and recall against the threshold; the best F1 is marked."""
    shown = _spaced_rows(-curve.thresholds)

    def draw(axes: Axes) -> None:
        if len(shown):
            axes.plot(curve.thresholds[shown], curve.precision[shown], color=GREY, linewidth=0.9)
            axes.plot(curve.thresholds[shown], curve.recall[shown], color=GREY, linewidth=0.9, linestyle=":")
            axes.plot(curve.thresholds[shown], curve.f1[shown], color=BLUE, linewidth=1.4)
            axes.axvline(curve.best.threshold, color=ORANGE, linewidth=1)
            axes.plot([curve.best.threshold], [curve.best.f1], "o", color=ORANGE, markersize=3.5)
        axes.set(ylim=(0, 1.02), xlabel="threshold", ylabel="F1", yticks=_HALVES)
        axes.locator_params(axis="x", nbins=4)

    return to_svg(draw, _SMALL)


def plot_coverage_by_number(coverage: Coverage, wanted: Mask) -> str:
    """Plot the fraction of objects covered by the first n proposals, at three IoUs."""
    counts = np.array(NUMBERS)
    used = counts <= max(int(coverage.n_proposals.max(initial=1)), NUMBERS[2]) * 1.2

    def draw(axes: Axes) -> None:
        for min_iou, color in ((0.5, BLUE), (0.7, GREEN), (0.9, ORANGE)):
            recall = coverage.recall(wanted, min_iou)[used]
            axes.plot(counts[used], recall, "o-", color=color, markersize=3, linewidth=1.3, label=f"IoU {min_iou}")
        axes.set(xscale="log", ylim=(0, 1.02), xlabel="proposals per image", ylabel="objects covered")
        axes.legend()

    return to_svg(draw, _WIDE)


def plot_coverage_by_iou(coverage: Coverage, wanted: Mask) -> str:
    """Plot the fraction of objects covered by proposals against the IoU."""
    ious = np.linspace(0.5, 1, 26)

    def draw(axes: Axes) -> None:
        for column, color in ((NUMBERS.index(100), ORANGE), (NUMBERS.index(1000), GREEN), (len(NUMBERS) - 1, BLUE)):
            best = coverage.best[wanted, column]
            covered = [(best >= iou).mean() if len(best) else 0.0 for iou in ious]
            name = "all" if column == len(NUMBERS) - 1 else f"first {NUMBERS[column]}"
            axes.plot(ious, covered, color=color, linewidth=1.3, label=name)
        axes.set(xlim=(0.5, 1), ylim=(0, 1.02), xlabel="IoU", ylabel="objects covered")
        axes.legend()

    return to_svg(draw, _WIDE)


def plot_scores(bins: ScoreBins) -> str:
    """Plot the numbers of true detections upwards and of false ones downwards by score; every bar can be clicked."""
    widths = np.diff(bins.edges)

    def draw(axes: Axes) -> None:
        for name, counts, color in (("true", bins.n_true, BLUE), ("false", -bins.n_false, ORANGE)):
            heights = np.sign(counts) * np.log10(1 + np.abs(counts))
            bars = axes.bar(bins.edges[:-1], heights, widths * 0.92, align="edge", color=color, label=name)
            for number, bar in enumerate(bars):
                if counts[number]:
                    bar.set_gid(f"show-{name}-bin-{number}")
        ticks = np.arange(-6, 7)
        low, high = axes.get_ylim()
        ticks = ticks[(ticks >= np.floor(low)) & (ticks <= np.ceil(high))]
        axes.set_yticks(ticks, [f"{10 ** abs(int(tick)):,}" if tick else "0" for tick in ticks])
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set(xlabel="score", ylabel="detections")
        axes.legend()

    return to_svg(draw, _WIDE)


def plot_calibration(bins: ScoreBins) -> str:
    """Plot the fraction of true detections against their mean probability."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
        known = ~np.isnan(bins.mean_score)
        axes.plot(bins.mean_score[known], bins.true_fraction[known], "o-", color=BLUE, markersize=3.5, linewidth=1.3)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="mean probability", ylabel="fraction of true detections")

    return to_svg(draw, _WIDE)


def import_matplotlib() -> Any:
    """Import matplotlib, with its cache of fonts in this program's cache directory.

    Raises MissingPackageError where it is missing.
    """
    with ExitStack() as stack:
        with suppress(OSError):  # without a home folder, matplotlib takes a temporary one
            stack.enter_context(environment_variables({"MPLCONFIGDIR": str(cache_root().parent / "matplotlib")}))
        optional("matplotlib.figure", "report")
        return optional("matplotlib", "report")


def to_svg(draw: Callable[[Axes], None], size: tuple[float, float]) -> str:
    """Return what ``draw`` draws as an SVG element: no header, no URLs, no sizes but a view box."""
    matplotlib = import_matplotlib()
    with matplotlib.rc_context(_STYLE):
        figure = matplotlib.figure.Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r' id="show-([\w-]+)"', r' data-set="\1"', svg)
    svg = re.sub(r' id="(?!m[0-9a-f]{9}|p[0-9a-f]{9})[^"]*"', "", svg)
    return re.sub(r"<!--.*?-->\s*|\n\s*", lambda found: "" if found[0].startswith("<!") else "\n", svg, flags=re.DOTALL)


def with_ids(svg: str, prefix: str) -> str:
    """Prefix the ids of a plot, which equal parts of other plots share."""
    return re.sub(r'(id="|url\(#|href="#)([mp][0-9a-f]{9})', rf"\1{prefix}-\2", svg)


def _spaced_rows(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return rows of ascending values, enough to draw a curve: all, or evenly spaced ones and the last."""
    if len(values) <= _MAX_POINTS:
        return np.arange(len(values))
    rows = np.searchsorted(values, np.linspace(values[0], values[-1], _MAX_POINTS))
    return np.unique(np.append(rows, len(values) - 1))
