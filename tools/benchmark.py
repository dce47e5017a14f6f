"""Measure a step of the pipeline and its peers: python tools/benchmark.py STEP ..., see --help"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks are not installed

from benchmarks import (
    classify,
    classify_scratch,
    detection,
    encode,
    few,
    label_less,
    ladder,
    own_data,
    own_images,
    paper,
    pooling,
    proposal_filter,
    proposals,
    rcnn,
    runtimes,
    scale,
    soak,
    svm,
    teach,
    tiles,
    tradeoff,
)
from detector.cli.console import Parser, run


def main() -> int:
    parser = Parser(description="Measure a step and its peers in one run, on the same images.")
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    modules = {
        "classify": classify,
        "classify-scratch": classify_scratch,
        "detect": detection,
        "encode": encode,
        "few": few,
        "label-less": label_less,
        "ladder": ladder,
        "own-data": own_data,
        "own-images": own_images,
        "paper": paper,
        "pooling": pooling,
        "proposals": proposals,
        "rcnn": rcnn,
        "runtimes": runtimes,
        "scale": scale,
        "soak": soak,
        "proposal-filter": proposal_filter,
        "svm": svm,
        "tiles": tiles,
        "teach": teach,
        "tradeoff": tradeoff,
    }
    for name, module in modules.items():
        step = steps.add_parser(name, description=module.__doc__, help=(module.__doc__ or "").splitlines()[0])
        module.add_options(step)
        step.set_defaults(measure=module.measure)
    options = parser.parse_args()
    return options.measure(options)


if __name__ == "__main__":
    run(main)
