"""Options of the commands that may spread their work over processes, and the engine that they name."""

from __future__ import annotations

from argparse import Namespace

from detector.commands.console import Parser
from detector.runtime.map_images import Engine, Threads
from detector.runtime.processes import Processes

ENGINES = ("local", "ray")


def add_engine_options(parser: Parser) -> None:
    """``--workers``, ``--engine`` and ``--address``; `engine_of` reads them."""
    parser.add_argument(
        "--workers", type=int, metavar="N", help="work in N processes of one thread each (default: in this one)"
    )


def engine_of(options: Namespace) -> Engine:
    """Where work is to run. Raises ValueError for options that do not go together."""
    if options.workers is None:
        return Threads()
    if options.workers < 1:
        raise ValueError(f"--workers must be at least 1, but is {options.workers}")
    return Processes(options.workers)
