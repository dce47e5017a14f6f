"""Render the page, with all numbers, plots and images, from a template that escapes all text."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np

from detector.evaluation.calibration import ScoreBins, are_probabilities
from detector.evaluation.comparison import Comparison
from detector.evaluation.voc import METRIC_NAMES, mean_of
from detector.report import plots
from detector.report.images import Embedded
from detector.report.run import Analysis
from detector.report.samples import MAX_SAMPLES, Samples
from detector.runtime.optional import optional

IMAGES_HERE = "<!-- images -->"
"""Placeholder for `image_elements`; no escaped text can equal it."""
_STATIC = ("report.css", "report.js")


def render_page(
    analysis: Analysis,
    samples: Samples,
    attributions: Mapping[int, tuple[Embedded, str]],
    baseline: Mapping[str, Any] | None = None,
    comparison: Comparison | None = None,
    names: tuple[str, str] = ("A", "B"),
) -> str:
    """Render the page without its images, which replace `IMAGES_HERE`.

    attributions: a heat map and a line of text, by the number of a sample. names: of the runs of a ``comparison``.
    """
    jinja2: Any = optional("jinja2", "report")
    template = files("detector.report") / "report.html"
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"percent": percent, "number": number}
    style, script = ((files("detector.report") / name).read_text(encoding="utf-8") for name in _STATIC)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    page: str = environment.from_string(template.read_text(encoding="utf-8")).render(
        a=analysis,
        o=analysis.run.outcomes,
        style=jinja2.utils.markupsafe.Markup(style),
        script=jinja2.utils.markupsafe.Markup(script),
        script_digest=digest,
        data=jinja2.utils.markupsafe.Markup(to_script(_data(samples, attributions))),
        images_here=jinja2.utils.markupsafe.Markup(IMAGES_HERE),
        attributions=attributions,
        sets=samples.sets,
        summary=_summary(analysis, baseline),
        kinds=_kind_rows(analysis),
        never_found=[int((group.objects & analysis.run.outcomes.missed).sum()) for group in analysis.groups],
        plots={name: jinja2.utils.markupsafe.Markup(svg) for name, svg in _plots(analysis).items()},
        comparison=comparison and _comparison(analysis, comparison),
        names=names,
        probabilities=_probabilities(analysis),
        max_samples=MAX_SAMPLES,
    )
    return page


def image_elements(kind: str, images: Mapping[int, Embedded]) -> str:
    """Return SVG elements with ids of kind and number, to which the page's script refers."""
    return "\n".join(
        f'<image id="{kind}-{key}" x="{each.box[0]}" y="{each.box[1]}" width="{each.box[2] - each.box[0]}" '
        f'height="{each.box[3] - each.box[1]}" preserveAspectRatio="none" href="{each.url}"/>'
        for key, each in images.items()
    )


def to_script(content: Any) -> str:
    """Return JSON for a script element: nothing in it ends the element or opens another."""
    text = json.dumps(content, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def percent(value: float | None, digits: int = 1) -> str:
    """Format a fraction of 1 in percent; a dash for an unknown one."""
    return "–" if value is None or not np.isfinite(value) else f"{100 * value:.{digits}f}"  # noqa: RUF001


def number(value: float, digits: int = 2) -> str:
    """Format a number; a dash for one that is not finite."""
    # the typographic minus, and none before zero
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\u2212") if np.isfinite(value) else "–"  # noqa: RUF001


def _data(samples: Samples, attributions: Mapping[int, tuple[Embedded, str]]) -> dict[str, Any]:
    """Return the data from which the script of the page builds tiles."""
    outcomes = samples.analysis.run.outcomes
    content = samples.to_json()
    used = {record[0] for record in content["samples"]}
    sizes = samples.analysis.sizes
    return content | {
        "classes": outcomes.class_names,
        "images": {
            image: [outcomes.image_ids[image], int(sizes[image, 1]), int(sizes[image, 0])] for image in sorted(used)
        },
        "attributions": {sample: text for sample, (_, text) in attributions.items()},
    }


def _summary(analysis: Analysis, baseline: Mapping[str, Any] | None) -> dict[str, Any]:
    run, outcomes = analysis.run, analysis.run.outcomes
    mean = mean_of(analysis.precisions[run.metric])
    return {
        "mean": mean,
        "error": analysis.mean_errors[run.metric],
        "rule": METRIC_NAMES[run.metric],
        "coco": analysis.coco_AP,
        "images": len(outcomes.image_ids),
        "empty": len(outcomes.image_ids) - len(np.unique(outcomes.objects.images)),
        "objects": int(outcomes.wanted.sum()),
        "difficult": int(outcomes.objects.difficult.sum()),
        "difference": None if baseline is None else mean - baseline["mAP"],
        "baseline": baseline,
    }


def _kind_rows(analysis: Analysis) -> list[dict[str, Any]]:
    """Return error kinds with the width of their bars; the costliest has the full width."""
    lost = analysis.lost
    rows: list[dict[str, Any]] = [
        {"key": f"kind-{kind}", "name": kind, "count": count, "lost": lost[kind]}
        for kind, count in analysis.kinds.counts().items()
    ]
    for index, reason in enumerate(analysis.reasons):
        count = int(reason.objects.sum())
        rows.append({"key": f"reason-{index}", "name": reason.name, "count": count, "lost": reason.lost})
    largest = max(row["lost"] for row in rows) or 1.0
    return [row | {"width": 100 * row["lost"] / largest} for row in rows]


def _probabilities(analysis: Analysis) -> ScoreBins | None:
    """Return the bins of the calibration plot: of the model's probabilities, or of scores that may be some."""
    return analysis.run.probability_bins or (analysis.bins if are_probabilities(analysis.run.outcomes) else None)


def _plots(analysis: Analysis) -> dict[str, str]:
    coverage, wanted = analysis.run.coverage, analysis.run.outcomes.wanted
    found = {"scores": plots.plot_scores(analysis.bins), "f1": plots.plot_f1(analysis.all_classes)}
    if (bins := _probabilities(analysis)) is not None:
        found["calibration"] = plots.plot_calibration(bins)
    if coverage is not None:
        found["coverage_number"] = plots.plot_coverage_by_number(coverage, wanted)
        found["coverage_iou"] = plots.plot_coverage_by_iou(coverage, wanted)
    for label, curve in enumerate(analysis.curves):
        found[f"pr-{label}"] = plots.plot_precision_recall(analysis.run.outcomes, label)
        found[f"f1-{label}"] = plots.plot_f1(curve)
    return {name: plots.with_ids(svg, name) for name, svg in found.items()}


def _comparison(analysis: Analysis, comparison: Comparison) -> dict[str, Any]:
    outcomes = analysis.run.outcomes
    gained, lost = (
        np.bincount(outcomes.objects.images[rows], minlength=len(outcomes.image_ids))
        for rows in (comparison.gained, comparison.lost)
    )
    changed = comparison.changed_images()
    return {
        "mean": comparison.mean_difference,
        "error": comparison.mean_error,
        "classes": [
            {"name": name, "difference": difference, "error": error}
            for name, difference, error in zip(
                outcomes.class_names, comparison.differences, comparison.errors, strict=True
            )
        ],
        "gained": int(comparison.gained.sum()),
        "lost": int(comparison.lost.sum()),
        "changed": len(changed),
        "images": [
            {
                "key": f"image-{image}",
                "name": outcomes.image_ids[image],
                "gained": int(gained[image]),
                "lost": int(lost[image]),
                "before": int(comparison.false_before[image]),
                "after": int(comparison.false_after[image]),
            }
            for image in changed[:MAX_SAMPLES].tolist()
        ],
    }
