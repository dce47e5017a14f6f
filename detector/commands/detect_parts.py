"""Detection in any number of images, its results in parts: a run that was killed goes on after the last of them."""

from __future__ import annotations

from argparse import Namespace
from importlib.util import find_spec
from itertools import islice
from typing import Any

from detector.commands.console import USAGE_ERROR, Parser, progress, report
from detector.commands.detecting import Detecting, detections, record_of
from detector.commands.image_names import ImageNames
from detector.commands.options import model_digests
from detector.commands.outputs import output_folder
from detector.commands.telling import verbosity
from detector.results.parts import WRITERS, open_parts
from detector.runtime.map_images import Engine, Failure


def add_parts_options(parser: Parser) -> None:
    """``--parts`` and what goes with it."""
    parser.add_argument(
        "--parts",
        type=output_folder,
        metavar="DIR",
        help="write all detections to DIR in numbered parts; goes on where it was",
    )
    parser.add_argument("--part-size", type=int, metavar="N", help="of --parts: images a part (default: 500)")
    parser.add_argument(
        "--part-format", choices=tuple(WRITERS), help="of --parts: JSON lines (default), or Parquet, an extra"
    )


def check_parts_options(options: Namespace) -> None:
    """Raise ValueError for options that do not go together, MissingPackageError without what Parquet needs."""
    if options.parts is None and (options.part_size is not None or options.part_format is not None):
        raise ValueError("--part-size and --part-format go with --parts")
    if options.parts is not None and (options.json is not None or options.format or options.profile):
        raise ValueError("--parts goes without --json, --format and --profile")
    if options.part_size is not None and options.part_size < 1:
        raise ValueError(f"--part-size must be at least 1, but is {options.part_size}")
    if options.part_format == "parquet":
        from detector.results.parquet import check_parquet

        check_parquet()


def detect_parts(options: Namespace, names: ImageNames, engine: Engine) -> int:
    """Detect in all images whose parts are not there yet; return the exit code."""
    settings, size = settings_of(options, names), options.part_size or 500
    with open_parts(options.parts, settings, size, options.part_format or "jsonl", options.overwrite) as parts:
        done = parts.manifest.count("images")
        if done and not verbosity.quiet:
            print(f"{options.parts}: {done} of {len(names)} images are there already")
        if not parts.manifest.complete:
            results = detections(Detecting(options), islice(names, done, None), engine)
            for _, (name, found) in zip(progress(range(done, len(names)), "detect"), results, strict=False):
                if isinstance(found, Failure):
                    report(ValueError(found.message))
                    parts.add({"image": name, "error": found.message})
                else:
                    parts.add(record_of(name, found))
            parts.finish()
        if not verbosity.quiet:
            print(f"{options.parts}: {parts.manifest}")
        return USAGE_ERROR if parts.manifest.count("failed") else 0


def settings_of(options: Namespace, names: ImageNames) -> dict[str, Any]:
    """Everything that the records depend on."""
    kept = ("device", "runtime", "mirror", "min_score", "min_probability", "precision", "max_detections")
    return {
        "images": {"count": len(names), "sha256": names.digest},
        "models": model_digests(options),
        **{name: getattr(options, name) for name in kept},
        "openvino": find_spec("openvino") is not None,
    }
