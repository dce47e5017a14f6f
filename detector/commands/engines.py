"""Options of the commands that may spread their work over processes, and the engine that they name."""

from __future__ import annotations

from argparse import Namespace

from detector.commands.console import Parser
from detector.runtime.map_images import Engine, Threads
from detector.runtime.processes import Processes


def add_engine_options(parser: Parser, caches: bool = False) -> None:
    """``--workers``, ``--engine``, ``--address`` and, for what fills ``caches``, ``--own-caches``. For `engine_of`."""
    parser.add_argument(
        "--workers", type=int, metavar="N", help="work in N processes of one thread each (default: in this one)"
    )
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="of the workers: this machine, or a Ray cluster"
    )
    parser.add_argument(
        "--address", metavar="ADDRESS", help="of --engine ray: the cluster (default: RAY_ADDRESS, or this machine)"
    )
    if caches:
        parser.add_argument(
            "--own-caches",
            action="store_true",
            help="of --engine ray: --cache is a folder of each node's own, and each image stays with one worker",
        )


def engine_of(options: Namespace) -> Engine:
    """Where work is to run. Raises ValueError for options that do not go together."""
    if options.workers is not None and options.workers < 1:
        raise ValueError(f"--workers must be at least 1, but is {options.workers}")
    if options.engine == "ray":
        from detector.runtime.ray_actors import RayActors, check_ray

        check_ray()
        return RayActors(options.workers, options.address, owners=getattr(options, "own_caches", False))
    if options.address is not None:
        raise ValueError("--address goes with --engine ray")
    if getattr(options, "own_caches", False):
        raise ValueError("--own-caches goes with --engine ray")
    return Threads() if options.workers is None else Processes(options.workers)
