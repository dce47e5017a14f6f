"""Run the cases and print a table and all faults: python -m dev.hostile [--times N] [--seed N] [--kind K]"""

from __future__ import annotations

import argparse
import sys

from dev.hostile.suite import run_suite, table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=1, help="run N times as many cases as the tests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, help="processes at a time (default: one per core, at most 4)")
    parser.add_argument("--kind", default="", help="run only kinds that begin so")
    options = parser.parse_args()
    outcomes = run_suite(options.seed, options.times, options.processes, options.kind)
    for each in outcomes:
        if each.faults:
            print(f"{each.kind}: {each.command}\n  " + "\n  ".join(each.faults), file=sys.stderr)
    print(table(outcomes))
    return int(any(each.faults for each in outcomes))


if __name__ == "__main__":
    sys.exit(main())
