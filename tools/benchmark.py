"""Stages against their peers: python tools/benchmark.py proposals|detect --voc ROOT --split val"""

from __future__ import annotations

import benchmark_detect  # type: ignore[import-not-found]  # a script finds its neighbours, mypy does not
import benchmark_proposals  # type: ignore[import-not-found]

from detector.console import Parser, run


def main() -> int:
    parser = Parser(description="Measure a stage and its peers in one run, on the same pictures.")
    stages = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")
    for name, module in {"proposals": benchmark_proposals, "detect": benchmark_detect}.items():
        stage = stages.add_parser(name, description=module.__doc__, help=(module.__doc__ or "").splitlines()[0])
        module.add_options(stage)
        stage.set_defaults(measure=module.measure)
    options = parser.parse_args()
    return options.measure(options)


if __name__ == "__main__":
    run(main)
