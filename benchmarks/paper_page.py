"""Page of paper.py: a section per table of the paper, with its numbers beside those measured here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import classify, classify_scratch

Numbers = Mapping[str, Any]
TABLE_9 = {
    "pooled": ("43.0", "44.9", "44.2"),
    "fc6": ("52.3", "53.7", "53.1"),
    "fc7": ("54.5", "55.2", "54.2"),
    "fc7, regression": ("58.0", "59.2", "58.5"),
}
"""mAP at one scale, at five scales, and of R-CNN."""
TABLE_10 = (
    ("mAP", "54.5", "55.2", "55.1"),
    ("convolution, s", "0.053", "0.293", "14.37"),
    ("R-CNN takes, convolution", "270", "49", "1"),
    ("with fc6 and fc7, s", "0.142", "0.382", "14.46"),
    ("R-CNN takes, with fc6 and fc7", "102", "38", "1"),
)
TABLE_11 = (
    *(68.6, 69.7, 57.1, 41.2, 40.5, 66.3, 71.3, 72.5, 34.4, 67.3),
    *(61.7, 63.1, 71.0, 69.8, 57.6, 29.7, 59.0, 50.2, 65.2, 68.0),
)
"""AP of VOC's classes in alphabetical order, fc7 with regression at five scales."""
NOT_IN_KIND = {
    5: "ILSVRC 2014, classification: its test server and 1,000 classes are not available. Paper: 8.06 % top-5 error.",
    7: "Caltech101: its images are not available. Paper: 93.42 % accuracy.",
    13: "ILSVRC 2014, detection: its test server and 200 classes are not available. Paper: 35.11 % mAP.",
}


def page(found: Mapping[str, Numbers], facts: Numbers) -> str:
    """Return the page as Markdown, from the numbers of the steps of paper.py and facts about the run."""
    parts = [
        "# The paper's tables, in kind",
        f"{facts['machine']}. Trained on {facts['train']} images of VOC2007 *train*, tested on {facts['test']} of "
        f"*val*: {100 * facts['fraction']:g} % of a whole run. The network is {facts['backbone']}; table 12 adds "
        f"{facts['second']}.",
        "The paper trained on the 5,011 images of *trainval* and tested on the 4,952 of *test*, with ZF-5 and fc "
        "layers of ImageNet, on a GPU. Compare orders and ratios, not single numbers. ± is a standard error.",
    ]
    sections: dict[int, str] = {number: f"Not measured. {reason}" for number, reason in NOT_IN_KIND.items()}
    for step, tables in _STEPS.items():
        for number, render in tables.items():
            if step not in found:
                sections[number] = "Not measured in this run."
            elif "reason" in found[step]:
                sections[number] = f"Not measured: {found[step]['reason']}"
            else:
                sections[number] = render(found[step])
    for number in sorted(sections):
        parts += [f"## Table {number}: {TITLES[number]}", sections[number]]
    return "\n\n".join(parts) + "\n"


TITLES = {
    1: "architectures",
    2: "pyramids and sizes, ten views",
    3: "one crop and the whole image",
    4: "more views",
    5: "ILSVRC 2014, classification",
    6: "VOC2007, classification",
    7: "Caltech101",
    8: "classification, the best of tables 6 and 7",
    9: "VOC2007, detection",
    10: "against R-CNN with the same network",
    11: "average precision by class",
    12: "two networks combined",
    13: "ILSVRC 2014, detection",
}


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _mean(result: Numbers) -> str:
    error = result["standard_error"]["mAP"]
    return f"{100 * result['mAP']:.1f} ± " + ("?" if error is None else f"{100 * error:.1f}")


def _architectures(numbers: Numbers) -> str:
    rows = [
        [
            name,
            str(each["channels"]),
            f"{each['sides'][0]}, {each['sides'][1]}",
            str(each["stride"]),
            f"{each['offset']:g}",
        ]
        for name, each in numbers["networks"].items()
    ]
    rows.append(["paper: ZF-5", "256", "13, 10", "16", ""])
    return _table(["network", "channels of the last map", "cells a side at 224, 180 px", "stride", "offset"], rows)


def _scratch(numbers: Numbers, views: Sequence[str]) -> str:
    """Return a row per method and view: its accuracy here, and that of the paper on ImageNet."""
    rows = []
    for view in views:
        for method, runs in numbers["results"].items():
            values = [run[view] for run in runs if view in run]
            if values:
                known = classify_scratch.PAPER.get(view, {}).get(method)
                paper = "" if known is None else f"{known:.1f}"
                rows.append([method, view, classify_scratch.spread(values).replace("+-", "±"), paper])
    note = "Accuracy, %, on objects of VOC, mean and standard deviation of seeds; the paper's is top-1 on ImageNet."
    return f"{note}\n\n" + _table(["training", "views", "here", "paper, ZF-5"], rows)


def _frozen(numbers: Numbers) -> str:
    (rows,) = numbers["networks"].values()
    paper = dict(zip(rows, classify.PAPER[2][1:5], strict=True))
    table = [[name, f"{100 * each['mAP']:.1f}", paper[name]] for name, each in rows.items()]
    return _table(["features, view", "mAP here", "paper, ZF-5, pool5"], table)


def _best(numbers: Numbers) -> str:
    (rows,) = numbers["networks"].values()
    best = max(each["mAP"] for each in rows.values())
    return _table(
        ["data", "here", "paper"], [["VOC2007, mAP", f"{100 * best:.1f}", "82.44"], ["Caltech101", "-", "93.42"]]
    )


def _detection(numbers: Numbers) -> str:
    rows = [
        [name, *(_mean(numbers["rows"][name][scales]) for scales in ("1", "5")), *paper]
        for name, paper in TABLE_9.items()
    ]
    header = ["features", "here, 1 scale", "here, 5 scales", "paper, 1 scale", "paper, 5 scales", "paper, R-CNN"]
    return _table(header, rows) + "\n\nOf these, pooled features alone do not come from fine-tuned layers."


def _rcnn(numbers: Numbers) -> str:
    (methods,) = numbers["mAP"].values()
    medians = numbers["times"]["medians"]
    names = list(methods)
    slowest = medians["R-CNN"]["features"]
    rows = [
        ["mAP, pool5, here", *(f"{100 * methods[name]['mAP']:.1f}" for name in names)],
        ["features, s, here", *(f"{medians[name]['features']:.3f}" for name in names)],
        ["R-CNN takes, here", *(f"{slowest / medians[name]['features']:.0f}" for name in names)],
        *([f"{name}, paper", *values] for name, *values in TABLE_10),
    ]
    note = (
        f"On {numbers['evaluated_on']}, trained on {numbers['trained_on']}; the paper's mAP is that of fine-tuned fc7. "
        "Features here are up to pool5: compare their time with the paper's convolution."
    )
    return f"{note}\n\n" + _table(["", *names], rows)


def _classes(numbers: Numbers) -> str:
    precisions = numbers["rows"]["fc7, regression"]["5"]["AP"]
    paper = dict(zip(sorted(precisions), TABLE_11, strict=True))
    rows = [
        [name, "-" if value is None else f"{100 * value:.1f}", f"{paper[name]:.1f}"]
        for name, value in precisions.items()
    ]
    here = np.array([np.nan if value is None else value for value in precisions.values()])
    known = np.isfinite(here)
    note = ""
    if known.sum() > 2:
        correlation = np.corrcoef(here[known], np.array([paper[name] for name in precisions])[known])[0, 1]
        note = f"\n\nCorrelation of the two columns: {correlation:.2f}."
    return _table(["class", "AP here", "paper"], rows) + note


def _combination(numbers: Numbers) -> str:
    rows = [[name, _mean(each)] for name, each in numbers["rows"].items()]
    paper = "Paper: 59.2 and 59.1 alone, 60.9 together; two networks of one architecture, trained twice."
    return _table(["network", "mAP, one scale, fc7, regression"], rows) + f"\n\n{paper}"


_STEPS: dict[str, dict[int, Callable[[Numbers], str]]] = {
    "architectures": {1: _architectures},
    "from-scratch": {
        2: lambda numbers: _scratch(numbers, ("ten",)),
        3: lambda numbers: _scratch(numbers, ("one", "whole")),
        4: lambda numbers: _scratch(
            {"results": {"multi-size": numbers["results"]["multi-size"]}}, ("one", "ten", "whole")
        ),
    },
    "frozen-features": {6: _frozen, 8: _best},
    "detection": {9: _detection, 11: _classes},
    "rcnn": {10: _rcnn},
    "combination": {12: _combination},
}
