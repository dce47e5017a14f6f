"""Write a report: the page and its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from detector.detections import Detections
from detector.evaluation.comparison import Comparison
from detector.images.files import read_image
from detector.report.images import Embedded, draw_heat, embed_images
from detector.report.page import IMAGES_HERE, image_elements, render_page
from detector.report.run import Analysis
from detector.report.samples import Pair, Samples, gather_samples
from detector.report.tables import write_tables
from detector.runtime.files import replacing

MOST_BYTES = 10_000_000
_RESERVE = 200_000
REPORT_FILES = ("report.html", "metrics.json", "metrics.csv", "errors.csv", "detections.json")
EXPLAINED_IMAGES, EXPLAINED = 20, 120
"""Images, and false detections in them, whose evidence is in a report: the network has to run again on each image."""


class Evidence(Protocol):
    """Why a detection scores what it does: a bias and shares of cells by level, which add up to the score."""

    @property
    def bias(self) -> float: ...

    @property
    def levels(self) -> Mapping[int, NDArray[np.float64]]: ...

    def heat_map(self) -> NDArray[np.float32]:
        """Shares spread over the image, (H, W)."""


Explain = Callable[[NDArray[np.uint8], Detections], Sequence[Evidence]]
"""The evidence of each of the detections in an (H, W, 3) uint8 RGB image; ValueError where there is none."""


def write_report(
    directory: Path,
    analysis: Analysis,
    explain: Explain | None = None,
    baseline: Mapping[str, Any] | None = None,
    comparison: Comparison | None = None,
    names: tuple[str, str] = ("A", "B"),
) -> Path:
    """Write `REPORT_FILES`; the page's path.

    explain: gives evidence of the false detections that are shown. baseline: the content of another metrics.json.
    comparison: of an earlier run to this one, called ``names``. The folder is made where it is missing.
    """
    directory.mkdir(parents=True, exist_ok=True)
    samples = gather_samples(analysis, comparison)
    evidence = {} if explain is None else explain_samples(samples, explain)

    page = render_page(analysis, samples, evidence, baseline, comparison, names)
    heat = image_elements("evidence", {number: each for number, (each, _) in evidence.items()})
    budget = MOST_BYTES - _RESERVE - len(page.encode("utf-8", "replace")) - len(heat)
    images = image_elements("image", embed_images(analysis.run.paths, images_in_turn(samples), budget))
    path = directory / "report.html"
    with replacing(path) as temporary:
        temporary.write_text(page.replace(IMAGES_HERE, f"{images}\n{heat}"), encoding="utf-8", errors="replace")
    write_tables(directory, analysis)
    return path


def images_in_turn(samples: Samples) -> list[int]:
    """Images of all samples, each once: the first sample of every set, then the second one of each."""
    numbers = list(samples.pairs)
    longest = max((len(each.items) for each in samples.sets.values()), default=0)
    turns = (each.items[turn] for turn in range(longest) for each in samples.sets.values() if turn < len(each.items))
    return list(dict.fromkeys(samples.image_of(numbers[item]) for item in turns))


def explain_samples(samples: Samples, explain: Explain) -> dict[int, tuple[Embedded, str]]:
    """Heat maps, with a line, of false detections by the number of their sample, the worst of every class in turn."""
    outcomes = samples.analysis.run.outcomes
    false = [pair for pair in samples.pairs if pair[0] >= 0 and outcomes.false[pair[0]]]
    ranks = {pair[0]: pair[0] - outcomes.of_class(int(outcomes.labels[pair[0]])).start for pair in false}
    by_image: dict[int, list[Pair]] = {}
    for pair in sorted(false, key=lambda pair: ranks[pair[0]]):
        if samples.image_of(pair) in by_image or len(by_image) < EXPLAINED_IMAGES:
            by_image.setdefault(samples.image_of(pair), []).append(pair)
            if sum(map(len, by_image.values())) == EXPLAINED:
                break
    found = {}
    for image_number, pairs in by_image.items():
        rows = np.array([detection for detection, _ in pairs])
        rows = rows[np.argsort(-outcomes.scores[rows], kind="stable")]
        detections = Detections(
            outcomes.boxes[rows].astype(np.float32),
            outcomes.labels[rows],
            outcomes.scores[rows].astype(np.float32),
            outcomes.class_names,
        )
        try:
            image = read_image(samples.analysis.run.paths[image_number])
            parts = explain(image, detections)
        except (OSError, ValueError):
            continue  # such as detections that another model made
        of_row = dict(zip(rows.tolist(), parts, strict=True))
        for pair in pairs:
            each = of_row[pair[0]]
            heat = draw_heat(image, each.heat_map(), outcomes.boxes[pair[0]])
            found[samples.pairs[pair]] = heat, describe(each)
    return found


def describe(evidence: Evidence) -> str:
    """The sum of a score in a line."""
    shares = np.concatenate([np.asarray(level).ravel() for level in evidence.levels.values()])
    for_it, against = shares[shares > 0].sum(), -shares[shares < 0].sum()
    return f"cells for it {for_it:.2f}, against it {against:.2f}, bias {evidence.bias:+.2f}"
