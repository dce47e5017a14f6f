"""Options of the commands that may spread their work over processes, and the engine that they name."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from detector.cli.console import Parser
from detector.cli.options import precomputed_boxes
from detector.config.detector import Config
from detector.parallel.map_images import Engine, Threads
from detector.parallel.processes import Processes

if TYPE_CHECKING:
    from detector.features.cache import FeatureCache, Where


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
        from detector.parallel.ray_actors import RayActors, check_ray

        check_ray()
        return RayActors(options.workers, options.address, owners=getattr(options, "own_caches", False))
    if options.address is not None:
        raise ValueError("--address goes with --engine ray")
    if getattr(options, "own_caches", False):
        raise ValueError("--own-caches goes with --engine ray")
    return Threads() if options.workers is None else Processes(options.workers)


@dataclass(frozen=True)
class CacheBuilding:
    """Builds the cache of a recipe in a directory, with the boxes of a file, if given, in place of proposals."""

    config: Config
    directory: Path
    device: str
    proposals: Path | None

    def __call__(self) -> FeatureCache:
        """Load the network."""
        from detector.build import build_cache

        return build_cache(self.config, self.directory, self.device, precomputed_boxes(self.proposals))


def where_of(options: Namespace, build: CacheBuilding) -> Where | None:
    """Who fills the cache by the options of `add_engine_options`; None for this process."""
    from detector.features.cache import Where

    engine = engine_of(options)
    return None if isinstance(engine, Threads) else Where(engine, build)
