"""Stages against their peers: python tools/benchmark.py STAGE ..., see --help"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks are no part of what is installed

from benchmarks import (
    classify,
    classify_scratch,
    detection,
    encode,
    few,
    label_less,
    own_images,
    pooling,
    proposal_filter,
    proposals,
    rcnn,
    runtimes,
    scale,
    svm,
    tradeoff,
)
from detector.cli.console import Parser, run


def main() -> int:
    parser = Parser(description="Measure a stage and its peers in one run, on the same images.")
    stages = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")
    modules = {
        "classify": classify,
        "classify-scratch": classify_scratch,
        "detect": detection,
        "encode": encode,
        "few": few,
        "label-less": label_less,
        "own-images": own_images,
        "pooling": pooling,
        "proposals": proposals,
        "rcnn": rcnn,
        "runtimes": runtimes,
        "scale": scale,
        "proposal_filter": proposal_filter,
        "svm": svm,
        "tradeoff": tradeoff,
    }
    for name, module in modules.items():
        stage = stages.add_parser(name, description=module.__doc__, help=(module.__doc__ or "").splitlines()[0])
        module.add_options(stage)
        stage.set_defaults(measure=module.measure)
    options = parser.parse_args()
    return options.measure(options)


if __name__ == "__main__":
    run(main)
