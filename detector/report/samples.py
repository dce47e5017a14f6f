"""Gather the detections and objects behind each number of a report, the worst first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from detector.detections import percent
from detector.evaluation.comparison import Comparison
from detector.evaluation.error_kinds import FALSE_KINDS
from detector.evaluation.outcomes import Mask, Rows
from detector.report.run import Analysis

MAX_SAMPLES = 24
"""Maximum number of samples of a set."""
_MAX_IN_GALLERIES, _MAX_IN_CELLS = 2100, 12_000
"""Maximum numbers of samples of all classes in a gallery, and of all cells: they bound the size of the page."""

Pair = tuple[int, int]
"""Rows of a detection and of an object; -1 for none."""


class Behind(NamedTuple):
    """Pairs behind a number: the first, worst first, and their total."""

    pairs: list[Pair]
    total: int


class SampleSet(NamedTuple):
    """Samples behind a number; ``items`` are numbers of samples, of a total that may be larger."""

    title: str
    total: int
    items: list[int]


@dataclass
class Samples:
    """All sets by key, and the numbers of their pairs, which they share."""

    analysis: Analysis
    pairs: dict[Pair, int] = field(default_factory=dict)
    sets: dict[str, SampleSet] = field(default_factory=dict)

    def __post_init__(self) -> None:
        outcomes = self.analysis.run.outcomes
        self._about = np.where(outcomes.true, outcomes.nearest, self.analysis.kinds.about()[0])

    def add(self, key: str, title: str, behind: Behind, max_items: int = MAX_SAMPLES) -> None:
        """Add a set, unless it is empty."""
        if behind.pairs:
            max_items = min(max_items, max(4, _MAX_IN_GALLERIES // len(self.analysis.run.outcomes.class_names)))
            items = [self.pairs.setdefault(pair, len(self.pairs)) for pair in behind.pairs[:max_items]]
            self.sets[key] = SampleSet(title, behind.total, items)

    def detections(self, rows: Rows) -> Behind:
        """Pair rows of detections with the objects that they are about."""
        return Behind([(row, int(self._about[row])) for row in rows[:MAX_SAMPLES].tolist()], len(rows))

    def largest(self, missed: Mask) -> Behind:
        """Return missed objects, (M,) bool, the largest first."""
        rows = np.flatnonzero(missed)
        boxes = self.analysis.run.outcomes.objects.boxes[rows]
        order = np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind="stable")
        return Behind([(-1, row) for row in rows[order[:MAX_SAMPLES]].tolist()], len(rows))

    def image_of(self, pair: Pair) -> int:
        """Return the image of a sample."""
        outcomes = self.analysis.run.outcomes
        detection, target = pair
        return int(outcomes.images[detection] if detection >= 0 else outcomes.objects.images[target])

    def to_json(self) -> dict[str, Any]:
        """Return the data of the page's script.

        samples: image; box and label of the detection, and its probability or score as text; box, label and difficult
            of the object; and a note.
        sets: title, total and samples, by key.
        """
        return {
            "samples": [self._record(pair) for pair in self.pairs],
            "sets": {key: list(each) for key, each in self.sets.items()},
        }

    def _record(self, pair: Pair) -> list[Any]:
        outcomes, kinds = self.analysis.run.outcomes, self.analysis.kinds
        detection, target = pair
        found: list[Any] = [0, 0, 0]
        truth: list[Any] = [0, 0, 0]
        note = "missed"
        if detection >= 0:
            box = np.round(outcomes.boxes[detection], 1).tolist()
            probabilities = self.analysis.run.probabilities
            confidence = f"{outcomes.scores[detection]:.2f}"
            if probabilities is not None:
                confidence = percent(float(probabilities[detection]))
            found = [box, int(outcomes.labels[detection]), confidence]
            kind = int(kinds.kinds[detection])
            note = FALSE_KINDS[kind] if kind >= 0 else "true" if outcomes.true[detection] else "difficult"
        if target >= 0:
            box = np.round(outcomes.objects.boxes[target], 1).tolist()
            truth = [box, int(outcomes.objects.labels[target]), int(outcomes.objects.difficult[target])]
        return [self.image_of(pair), *found, *truth, note]


def gather_samples(analysis: Analysis, comparison: Comparison | None = None) -> Samples:
    """Gather the sets of all numbers; galleries first, since images are embedded in the order of the sets."""
    samples = Samples(analysis)
    _add_galleries(samples)
    _add_classes(samples)
    _add_kinds(samples)
    _add_cells(samples)
    _add_groups(samples)
    _add_bins(samples)
    if comparison is not None:
        _add_changes(samples, comparison)
    return samples


def _both(a: Behind, b: Behind) -> Behind:
    half = MAX_SAMPLES // 2
    return Behind(
        a.pairs[: max(half, MAX_SAMPLES - len(b.pairs))] + b.pairs[: max(half, MAX_SAMPLES - len(a.pairs))],
        a.total + b.total,
    )


def _add_galleries(samples: Samples) -> None:
    analysis = samples.analysis
    outcomes, kinds, issues = analysis.run.outcomes, analysis.kinds, analysis.label_issues
    contradictions = list(zip(issues.contradicted_by.tolist(), issues.contradicted.tolist(), strict=True))
    for label, name in enumerate(outcomes.class_names):
        rows = np.arange(len(outcomes.scores))[outcomes.of_class(label)]
        for number, kind in enumerate(FALSE_KINDS):
            of_kind = rows[kinds.kinds[rows] == number]
            samples.add(f"{kind}-{label}", f"{name}: {kind}", samples.detections(of_kind))
        missed = kinds.missed & (outcomes.objects.labels == label)
        samples.add(f"missed-{label}", f"{name}: missed", samples.largest(missed))
        suspects = [(row, -1) for row in issues.unlabeled.tolist() if outcomes.labels[row] == label]
        suspects += [pair for pair in contradictions if outcomes.labels[pair[0]] == label]
        samples.add(f"label-{label}", f"{name}: is the label right?", Behind(suspects, len(suspects)))
        best = samples.detections(rows[outcomes.true[rows]])
        samples.add(f"best-{label}", f"{name}: best hits", best)


def _add_classes(samples: Samples) -> None:
    outcomes = samples.analysis.run.outcomes
    for label, name in enumerate(outcomes.class_names):
        rows = np.arange(len(outcomes.scores))[outcomes.of_class(label)]
        above = rows[outcomes.scores[rows] >= samples.analysis.curves[label].best.threshold]
        false = samples.detections(above[outcomes.false[above]])
        found = np.zeros(len(outcomes.found_by) + 1, bool)
        found[outcomes.nearest[above[outcomes.true[above]]]] = True
        left = outcomes.wanted & (outcomes.objects.labels == label) & ~found[:-1]
        missed = samples.largest(left)
        # the least confident true detections are the most informative
        true = samples.detections(above[outcomes.true[above]][::-1])
        samples.add(f"tp-{label}", f"{name}: found, the least confident first", true)
        samples.add(f"fp-{label}", f"{name}: false above the threshold", false)
        samples.add(f"fn-{label}", f"{name}: not found above the threshold", missed)
        samples.add(f"ap-{label}", f"{name}: costliest errors", _both(false, missed))


def _add_kinds(samples: Samples) -> None:
    analysis = samples.analysis
    for number, kind in enumerate(FALSE_KINDS):
        rows = analysis.run.outcomes.best_first(np.flatnonzero(analysis.kinds.kinds == number))
        samples.add(f"kind-{kind}", f"errors of kind {kind}", samples.detections(rows))
    samples.add("kind-missed", "missed objects", samples.largest(analysis.kinds.missed))
    for number, reason in enumerate(analysis.reasons):
        samples.add(f"reason-{number}", f"missed: {reason.name}", samples.largest(reason.objects))


def _add_cells(samples: Samples) -> None:
    confusion, outcomes = samples.analysis.confusion, samples.analysis.run.outcomes
    names = [*outcomes.class_names, "background"]
    cells: dict[Pair, list[Pair]] = {}
    columns = (confusion.true_labels, confusion.predicted_labels, confusion.detections, confusion.objects)
    for true, predicted, detection, target in zip(*(column.tolist() for column in columns), strict=True):
        cells.setdefault((true, predicted), []).append((detection, target))
    max_items = min(MAX_SAMPLES, max(1, _MAX_IN_CELLS // max(len(cells), 1)))
    for (true, predicted), pairs in cells.items():
        pairs.sort(key=lambda pair: -outcomes.scores[pair[0]] if pair[0] >= 0 else 0.0)
        samples.add(
            f"cell-{true}-{predicted}",
            f"{names[true]}, predicted as {names[predicted]}",
            Behind(pairs, len(pairs)),
            max_items,
        )


def _add_groups(samples: Samples) -> None:
    missed = samples.analysis.run.outcomes.missed
    for number, group in enumerate(samples.analysis.groups):
        behind = samples.largest(group.objects & missed)
        samples.add(f"group-{number}", f"missed objects, {group.kind}: {group.name}", behind)


def _add_bins(samples: Samples) -> None:
    bins, outcomes = samples.analysis.bins, samples.analysis.run.outcomes
    for name, mask in (("true", outcomes.true), ("false", outcomes.false)):
        for number in range(len(bins.edges) - 1):
            rows = np.flatnonzero(mask & (bins.bins == number))
            title = f"{name} detections with scores from {bins.edges[number]:.2f} to {bins.edges[number + 1]:.2f}"
            samples.add(f"{name}-bin-{number}", title, samples.detections(rows))


def _add_changes(samples: Samples, comparison: Comparison) -> None:
    samples.add("gained", "objects that only the second run finds", samples.largest(comparison.gained))
    samples.add("lost", "objects that only the first run finds", samples.largest(comparison.lost))
    outcomes = samples.analysis.run.outcomes
    for image in comparison.changed_images()[:MAX_SAMPLES].tolist():
        here = (comparison.gained | comparison.lost) & (outcomes.objects.images == image)
        false = outcomes.best_first(np.flatnonzero((outcomes.images == image) & outcomes.false))
        behind = _both(samples.largest(here), samples.detections(false))
        samples.add(f"image-{image}", f"{outcomes.image_ids[image]}: changed objects, false detections", behind)
