"""Stages against their peers: python tools/benchmark.py STAGE ..., see --help"""

from __future__ import annotations

import benchmark_classify  # type: ignore[import-not-found]  # a script finds its neighbours, mypy does not
import benchmark_detect  # type: ignore[import-not-found]
import benchmark_encode  # type: ignore[import-not-found]
import benchmark_pooling  # type: ignore[import-not-found]
import benchmark_proposals  # type: ignore[import-not-found]
import benchmark_rcnn  # type: ignore[import-not-found]
import benchmark_scratch  # type: ignore[import-not-found]
import benchmark_svm  # type: ignore[import-not-found]

from detector.console import Parser, run


def main() -> int:
    parser = Parser(description="Measure a stage and its peers in one run, on the same pictures.")
    stages = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")
    modules = {
        "classify": benchmark_classify,
        "classify-scratch": benchmark_scratch,
        "detect": benchmark_detect,
        "encode": benchmark_encode,
        "pooling": benchmark_pooling,
        "proposals": benchmark_proposals,
        "rcnn": benchmark_rcnn,
        "svm": benchmark_svm,
    }
    for name, module in modules.items():
        stage = stages.add_parser(name, description=module.__doc__, help=(module.__doc__ or "").splitlines()[0])
        module.add_options(stage)
        stage.set_defaults(measure=module.measure)
    options = parser.parse_args()
    return options.measure(options)


if __name__ == "__main__":
    run(main)
