"""Write a report: an HTML page with its images, and the numbers, errors and detections as files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.datasets.dataset import Dataset
from detector.detections import Detections
from detector.evaluation.calibration import ScoreBins
from detector.evaluation.coco_results import CocoIds, plain_ids, to_coco_results
from detector.evaluation.comparison import Comparison, compare
from detector.evaluation.coverage import Coverage
from detector.evaluation.error_kinds import FALSE_KINDS
from detector.evaluation.outcomes import Outcomes
from detector.evaluation.voc import Metric, default_metric
from detector.explanation.attribution import Attribution
from detector.images.files import read_image
from detector.report.images import Embedded, draw_heat, embed_images
from detector.report.page import IMAGES_HERE, image_elements, render_page
from detector.report.run import Analysis, Run, analyze, to_metrics
from detector.report.samples import Pair, Samples, gather_samples
from detector.results.files import ResultFolder
from detector.runtime.environment import command_line, peak_memory, versions
from detector.runtime.files import replacing, write_json

MAX_BYTES = 10_000_000
"""Size of the page."""
_RESERVE = 200_000
REPORT_FILES = ("report.html", "metrics.json", "metrics.csv", "errors.csv", "detections.json")
EXPLAINED_IMAGES, EXPLAINED = 20, 120
"""Maximum numbers of images, and of false detections in them, to explain: the network runs again on each image."""


Explain = Callable[[NDArray[np.uint8], Detections], Sequence[Attribution]]
"""Return the attribution of each detection in an (H, W, 3) uint8 RGB image; ValueError where it cannot."""
ERROR_COLUMNS = (
    *("kind", "image", "class", "score", "x1", "y1", "x2", "y2", "iou"),
    *("object_class", "object_x1", "object_y1", "object_x2", "object_y2"),
)


def make_report(
    folder: ResultFolder,
    outcomes: Outcomes,
    dataset: Dataset,
    metric: Metric | None = None,
    *,
    ids: CocoIds | None = None,
    coverage: Coverage | None = None,
    circumstances: Mapping[str, str] | None = None,
    baseline: Mapping[str, Any] | None = None,
    previous: Outcomes | None = None,
    names: tuple[str, str] = ("A", "B"),
    explain: Explain | None = None,
    probabilities: NDArray[np.float32] | None = None,
    probability_bins: ScoreBins | None = None,
) -> Path:
    """Analyze the outcomes of a data set, write `REPORT_FILES` into a folder, and return the path of the page.

    metric: of the headline, by default the `default_metric` of the data set.
    ids: image and category ids for detections.json, by default `plain_ids`. circumstances: names and texts for the
    last section, next to the command line, the date and the versions. previous: an earlier run on the same images to
    compare with; ``names`` are those of the two. The other arguments are those of `Run` and `write_report`.
    """
    metric = default_metric(dataset) if metric is None else metric
    for name in REPORT_FILES:
        folder.fixed(name)
    ids = plain_ids(dataset) if ids is None else ids
    made = {
        "command": command_line(),
        **(circumstances or {}),
        "date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }
    if (memory := peak_memory()) is not None:
        made["peak memory"] = f"{memory / 1e9:.1f} GB"
    paths = tuple(each.path for each in dataset)
    analysis = analyze(Run(outcomes, metric, dataset.name, paths, ids, coverage, made, probabilities, probability_bins))
    comparison = None if previous is None else compare(previous, outcomes, metric)
    return write_report(folder.folder, analysis, explain, baseline, comparison, names)


def write_report(
    directory: Path,
    analysis: Analysis,
    explain: Explain | None = None,
    baseline: Mapping[str, Any] | None = None,
    comparison: Comparison | None = None,
    names: tuple[str, str] = ("A", "B"),
) -> Path:
    """Write `REPORT_FILES` into a directory, which is created if missing; return the path of the page.

    explain: attributes the scores of the false detections that are shown. baseline: content of another metrics.json.
    comparison: of an earlier run with this one; ``names`` are those of the two.
    """
    directory.mkdir(parents=True, exist_ok=True)
    samples = gather_samples(analysis, comparison)
    attributions = {} if explain is None else explain_samples(samples, explain)

    page = render_page(analysis, samples, attributions, baseline, comparison, names)
    heat = image_elements("attribution", {number: each for number, (each, _) in attributions.items()})
    budget = MAX_BYTES - _RESERVE - len(page.encode("utf-8", "replace")) - len(heat)
    images = image_elements("image", embed_images(analysis.run.paths, images_in_turn(samples), budget))
    path = directory / "report.html"
    with replacing(path) as temporary:
        temporary.write_text(page.replace(IMAGES_HERE, f"{images}\n{heat}"), encoding="utf-8", errors="replace")
    write_tables(directory, analysis)
    return path


def images_in_turn(samples: Samples) -> list[int]:
    """Return the images of all samples, each once: of the first sample of every set, then of the second, and so on."""
    numbers = list(samples.pairs)
    longest = max((len(each.items) for each in samples.sets.values()), default=0)
    turns = (each.items[turn] for turn in range(longest) for each in samples.sets.values() if turn < len(each.items))
    return list(dict.fromkeys(samples.image_of(numbers[item]) for item in turns))


def explain_samples(samples: Samples, explain: Explain) -> dict[int, tuple[Embedded, str]]:
    """Draw a heat map, with a line of text, of false detections by the number of their sample, worst first."""
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
        rows = outcomes.best_first(np.array([detection for detection, _ in pairs]))
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
            continue  # such as for detections of another model
        of_row = dict(zip(rows.tolist(), parts, strict=True))
        for pair in pairs:
            each = of_row[pair[0]]
            heat = draw_heat(image, each.heat_map(), outcomes.boxes[pair[0]])
            found[samples.pairs[pair]] = heat, describe(each)
    return found


def describe(attribution: Attribution) -> str:
    """Summarize an attribution in a line."""
    values = np.concatenate([np.asarray(level).ravel() for level in attribution.levels.values()])
    for_it, against = values[values > 0].sum(), -values[values < 0].sum()
    return f"cells for it {for_it:.2f}, against it {against:.2f}, bias {attribution.bias:+.2f}"


def read_baseline(path: Path, metric: str, n_images: int) -> dict[str, Any]:
    """Read the metrics.json of a report, or a file of ``spp evaluate --json``.

    Raises OSError for a file that cannot be read and ValueError, with its name, for other content, another metric or
    another number of images.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable JSON file ({error})") from error
    known = isinstance(content, dict) and isinstance(content.get("AP"), dict)
    if not known or not isinstance(content.get("mAP"), int | float):
        raise ValueError(f"{path}: not the numbers of a run: mAP and AP are missing")
    for key, value in (("metric", metric), ("images", n_images)):
        if content.get(key) != value:
            raise ValueError(f"{path}: {key} must be {value}, as in this run, but is {content.get(key)!r}")
    return content


def write_tables(directory: Path, analysis: Analysis) -> None:
    """Write the files but the page, each whole or not at all."""
    metrics = to_metrics(analysis)
    write_json(directory / "metrics.json", metrics)
    rows = ({"class": name, **values} for name, values in metrics["classes"].items())
    columns = ["class", *(next(iter(metrics["classes"].values())) if metrics["classes"] else ())]
    _write_csv(directory / "metrics.csv", columns, ([row[column] for column in columns] for row in rows))
    _write_csv(directory / "errors.csv", ERROR_COLUMNS, _error_rows(analysis))
    with replacing(directory / "detections.json") as temporary:
        found = to_coco_results(analysis.run.outcomes, analysis.run.ids)
        temporary.write_text(json.dumps(found) + "\n", encoding="utf-8")


def _write_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", errors="replace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Any) -> Any:
    # spreadsheets take a text with such a beginning for a formula
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _error_rows(analysis: Analysis) -> Iterator[list[Any]]:
    """Yield false detections, class by class and best first, then missed objects, image by image."""
    outcomes, kinds = analysis.run.outcomes, analysis.kinds
    objects, names, image_ids = outcomes.objects, outcomes.class_names, outcomes.image_ids
    rows = np.flatnonzero(outcomes.false)
    targets, overlaps = (column[rows].tolist() for column in kinds.about())
    boxes, object_boxes = np.round(outcomes.boxes[rows], 2).tolist(), objects.boxes.tolist()
    object_names = [names[label] for label in objects.labels]
    columns = (column[rows].tolist() for column in (kinds.kinds, outcomes.images, outcomes.labels, outcomes.scores))
    for kind, image, label, score, box, target, overlap in zip(*columns, boxes, targets, overlaps, strict=True):
        about = [object_names[target], *object_boxes[target]] if target >= 0 else [""] * 5
        yield [FALSE_KINDS[kind], image_ids[image], names[label], score, *box, round(overlap, 4), *about]
    for row in np.flatnonzero(kinds.missed).tolist():
        yield ["missed", image_ids[objects.images[row]], *[""] * 7, object_names[row], *object_boxes[row]]
