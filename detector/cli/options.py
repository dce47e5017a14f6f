"""Options that several verbs share: recipes, networks, models, workers, thresholds."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray

from detector.cli.console import Parser, console
from detector.parallel.map_images import Engine, Threads
from detector.parallel.processes import Processes
from detector.runtime.files import digest
from detector.runtime.openvino import Runtime
from detector.tiles import Tiles, parse_tiles

if TYPE_CHECKING:
    from detector.config.detector import Config
    from detector.ensemble import Ensemble
    from detector.features.cache import CacheWorkers


def add_recipe(parser: Parser, example: str = "default", required: bool = True) -> None:
    """Add the argument CONFIG, a recipe; ``example``: the name of one."""
    parser.add_argument(
        "config",
        type=Path,
        nargs=None if required else "?",
        metavar="CONFIG",
        help=f"recipe: the name of one of the package, such as {example}, or a YAML file",
    )


def add_network_options(parser: Parser) -> None:
    """Add the options of verbs that run the network of a recipe."""
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="backbone weights: general, shipped, imagenet, a file of weights, or a model file",
    )
    add_computing_options(parser)


def add_computing_options(parser: Parser) -> None:
    """Add the options that choose the runtime and device of the network."""
    parser.add_argument("--runtime", choices=get_args(Runtime), help="runtime of the network (default: the recipe's)")
    parser.add_argument("--device", default="cpu", help="torch device of the network (default: cpu)")


def model_digests(options: Namespace) -> list[str]:
    """Return digests of the model files of `add_model_options`, in order."""
    from detector.model_file import DEFAULT_MODEL, model_path

    models = [model_path(str(path)) for path in options.model or [str(DEFAULT_MODEL)]]
    return [digest([path.read_bytes()]) for path in models]


def add_model_options(parser: Parser) -> None:
    """Add the options of verbs that detect, for `ensemble.load_ensemble`."""
    parser.add_argument(
        "--model",
        type=Path,
        action="append",
        help="model file (default: the one of the package); repeat it to combine models",
    )
    add_computing_options(parser)


def load_model(
    models: Sequence[Path] | None, device: str, runtime: Runtime | None, tiles: Tiles | None = None
) -> Ensemble:
    """Load the models of `add_model_options`, to detect in ``tiles`` instead of their own."""
    from detector.ensemble import load_ensemble

    model = load_ensemble(models, device, runtime)
    return model if tiles is None else model.with_tiles(tiles)


# ---- where work runs


def add_engine_options(parser: Parser, caches: bool = False) -> None:
    """Add ``--workers``, ``--engine``, ``--address`` and, for verbs that fill ``caches``, ``--own-caches``."""
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
    """Return the engine of `add_engine_options`. Raises ValueError for options that do not go together."""
    if options.workers is not None and options.workers < 1:
        raise ValueError(f"--workers must be at least 1, but is {options.workers}")
    own_caches = getattr(options, "own_caches", False)
    if options.engine == "ray":
        from detector.parallel.ray_actors import RayActors, check_ray

        check_ray()
        return RayActors(options.workers, options.address, owners=own_caches)
    for name, given in (("--address", options.address), ("--own-caches", own_caches)):
        if given:
            raise ValueError(f"{name} goes with --engine ray")
    return Threads() if options.workers is None else Processes(options.workers)


def cache_workers(options: Namespace, config: Config, directory: Path) -> CacheWorkers | None:
    """Return the engine that fills the cache of a recipe, by `add_engine_options`; None for this process."""
    from detector.build import build_cache
    from detector.features.cache import CacheWorkers

    engine = engine_of(options)
    if isinstance(engine, Threads):
        return None
    return CacheWorkers(engine, partial(build_cache, config, directory, options.device, options.proposals))


# ---- which detections are kept


SHOWN_BY_DEFAULT = "by class, where F1 was best on held-out images, and a probability of 0.3; 0 without calibration"


def add_threshold_options(parser: Parser, default: str = SHOWN_BY_DEFAULT) -> None:
    """Add ``--min-score``, ``--min-probability`` and ``--precision``, which exclude each other."""
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--min-score", type=number, metavar="S", help=f"minimum score (default: {default})")
    one.add_argument("--min-probability", type=fraction, metavar="P", help="minimum probability, by a calibrated model")
    one.add_argument(
        "--precision", type=fraction, metavar="P", help="the model's thresholds for this precision, 0.01 to 0.99"
    )


def add_tiles_option(parser: Parser, default: str = "the model's") -> None:
    """Add ``--tiles``, see `tiles.parse_tiles`."""
    parser.add_argument(
        "--tiles",
        type=tiles,
        metavar="auto|N|WxH",
        help=f"also search N overlapping tiles, or tiles of W x H pixels, for small objects (default: {default})",
    )


def tiles(text: str) -> Tiles:
    """Parse the option that cuts images into tiles."""
    try:
        return parse_tiles(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def add_scores_option(parser: Parser) -> None:
    """Add ``--scores`` to a verb whose lines show probabilities."""
    parser.add_argument("--scores", action="store_true", help="print and draw scores next to probabilities")


def number(text: str) -> float:
    """Parse an option that takes any number but NaN."""
    try:
        value = float(text)
    except ValueError:
        raise ArgumentTypeError(f"invalid float value: {text!r}") from None
    if np.isnan(value):
        raise ArgumentTypeError(f"must be a number, but is {text}")
    return value


def fraction(text: str) -> float:
    """Parse an option that takes a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"must be in 0..1, but is {text}")
    return value


def check_thresholds(options: Namespace) -> None:
    """Raise ValueError, before a model is loaded, for a precision that no model has thresholds for."""
    if options.precision is not None and not 0.01 <= options.precision <= 0.99:
        raise ValueError(f"--precision must be in 0.01..0.99, but is {options.precision:g}")


def thresholds(options: Namespace, detector: Ensemble) -> NDArray[np.float32] | None:
    """Return the minimum scores ``(K,)`` of `add_threshold_options`; None where no option is given.

    Classes that never reached the ``--precision`` are printed. Raises ValueError where a calibration is needed.
    """
    limits = {name: getattr(options, name) for name in ("min_score", "min_probability", "precision")}
    if all(value is None for value in limits.values()):
        return None
    scores = detector.thresholds(**limits)
    unreached = [name for name, score in zip(detector.class_names, scores, strict=True) if np.isposinf(score)]
    if unreached and options.precision is not None and not console.quiet:
        names = ", ".join(unreached)
        print(f"precision {options.precision:g} was not reached, and nothing is kept, of {names}", file=sys.stderr)
    return scores
