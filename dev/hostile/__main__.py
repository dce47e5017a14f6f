"""python -m dev.hostile [--times N] [--seed N] [--kind K]: run the cases, and print the table and what is wrong."""

from __future__ import annotations

import argparse
import sys

from dev.hostile.suite import run_suite, table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=1, help="so many times as many cases as in the tests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, help="at a time (default: one a core, 4 at most)")
    parser.add_argument("--kind", default="", help="only kinds that begin so")
    options = parser.parse_args()
    outcomes = run_suite(options.seed, options.times, options.processes, options.kind)
    for each in outcomes:
        if each.faults:
            print(f"{each.kind}: {each.command}\n  " + "\n  ".join(each.faults), file=sys.stderr)
    print(table(outcomes))
    return int(any(each.faults for each in outcomes))


if __name__ == "__main__":
    sys.exit(main())
