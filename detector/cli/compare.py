"""Compare variants of a recipe: train each on one part of a split and measure mAP on the rest.

spp compare CONFIG --voc ROOT --split train --cache DIR --results FILE \
    --try svm.C=0.003 --try svm.C=0.003,detection.box_refinements=0

A variant that differs from the previous one only in ``detection`` is not trained again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from detector.cli.console import Parser, progress, write_json
from detector.cli.data_options import add_data_options, load_data
from detector.cli.options import add_engine_options, add_network_options, cache_workers
from detector.cli.outputs import OutputFile, cache_folder
from detector.config.detector import CalibrationConfig, Config, load_config, parse_config
from detector.config.recipes import load_yaml
from detector.datasets.dataset import Dataset
from detector.evaluation.voc import METRIC_NAMES, default_metric, evaluate_voc
from detector.runtime.files import digest

if TYPE_CHECKING:
    from detector.pipeline import Detector


def parser() -> Parser:
    parser = Parser(description="Train variants of a recipe on part of a data set and measure mAP on the rest.")
    parser.add_argument("config", type=Path, metavar="CONFIG", help="base recipe, name or file; it is measured, too")
    add_data_options(parser)
    add_network_options(parser)
    parser.add_argument("--cache", type=cache_folder, required=True, metavar="DIR", help="folder of cached features")
    parser.add_argument(
        "--try",
        dest="variants",
        action="append",
        default=[],
        metavar="KEY=VALUE,...",
        help="a variant; repeatable",
    )
    parser.add_argument("--max-images", type=int, metavar="N", help="use only the first N images")
    parser.add_argument("--score-every", type=int, default=5, metavar="N", help="score every Nth image (default: 5)")
    parser.add_argument(
        "--results",
        type=OutputFile(is_results),
        metavar="FILE",
        help="store the numbers in FILE; stored variants are not trained again",
    )
    add_engine_options(parser, caches=True)
    return parser


def main() -> int:
    options = parser().parse_args()
    if options.score_every < 2:
        raise ValueError(f"--score-every must be at least 2, but is {options.score_every}")
    if options.max_images is not None and options.max_images < 1:
        raise ValueError(f"--max-images must be at least 1, but is {options.max_images}")
    base = load_config(options.config, options.weights, options.runtime)
    variants = {name: changed(base, name) for name in ["", *options.variants]}
    results = read_results(options.results)
    dataset = load_data(options)
    fit, held_out = parts(dataset, options.max_images, options.score_every)
    numbers = f"{options.config}: trained on {len(fit)}, scored on {len(held_out)} other images of {dataset.name}"
    print(f"{numbers} by {METRIC_NAMES[default_metric(dataset)]}")
    data = data_digest((fit, held_out), options.proposals)
    detector = None
    for name, config in variants.items():
        key = f"{config.model_dump_json()} {data} {config.files()}"
        if key not in results:
            detector, results[key] = measure(config, fit, held_out, options, detector)
            if options.results is not None:
                write_json(options.results, results)
        result = results[key]
        print(f"{name or 'as it is':<50} mAP {100 * result['mAP']:5.1f}   {result['seconds']:6.0f} s", flush=True)
    return 0


def read_results(path: Path | None) -> dict[str, Any]:
    """Read the numbers of earlier runs; none without a file, or with one of other content, which is replaced."""
    if path is None or not path.is_file() or not is_results(path):
        return {}
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8") or "{}")
    return results


def is_results(path: Path) -> bool:
    """Return True for an empty file, and one with results of this command."""
    try:
        content = json.loads(path.read_text(encoding="utf-8") or "{}")
    except (ValueError, RecursionError):
        return False
    rows = content.values() if isinstance(content, dict) else [None]
    return all(isinstance(each, dict) and {*each} == {"mAP", "seconds"} for each in rows)


def changed(base: Config, changes: str) -> Config:
    """Return the recipe with changes such as "svm.C=0.003,features.power=0.5"; values are YAML."""
    content = base.model_dump(mode="json")
    try:
        # in YAML, a comma inside brackets belongs to a list
        parsed = load_yaml(f"{{{changes.replace('=', ': ')}}}")
    except yaml.YAMLError:
        raise ValueError(f"--try {changes}: must be KEY=VALUE,...") from None
    for key, value in parsed.items():
        section, _, name = str(key).partition(".")
        if section not in content or name not in content[section]:
            raise ValueError(f"--try {changes}: there is no key {key!r} in a recipe")
        content[section][name] = value
    return parse_config(content, f"--try {changes}")


def parts(dataset: Dataset, limit: int | None, every: int) -> tuple[Dataset, Dataset]:
    """Split a data set into images to train on, and every nth image to score."""
    annotations = dataset.annotations[:limit]
    held_out = annotations[every - 1 :: every]
    if not held_out:
        raise ValueError(f"there are {len(annotations)} images: none is left to score with --score-every {every}")
    fit = tuple(each for index, each in enumerate(annotations) if (index + 1) % every)
    return replace(dataset, annotations=fit), replace(dataset, annotations=held_out)


def data_digest(parts: Iterable[Dataset], proposals: Path | None) -> str:
    """Return the digest of what results depend on, except the recipe: classes, images, objects and boxes."""
    contents = [b"" if proposals is None else proposals.read_bytes()]
    for part in parts:
        contents += [repr(part.class_names).encode(), *(each.to_bytes() for each in part)]
    return digest(contents)[:16]


def measure(
    config: Config, fit: Dataset, held_out: Dataset, options: Any, last: Detector | None
) -> tuple[Detector, dict[str, float]]:
    """Train a detector without calibration, and measure its mAP and the seconds of training.

    ``last`` is reused where only its detection settings differ.
    """
    from detector.build import build_cache
    from detector.features.cache import fill_cache
    from detector.training.train import train

    config = config.model_copy(update={"calibration": CalibrationConfig(enabled=False)})
    cache = build_cache(config, options.cache, options.device, options.proposals)
    workers = cache_workers(options, config, options.cache)
    start = time.monotonic()
    if last is not None and config == last.config.model_copy(update={"detection": config.detection}):
        detector = replace(last, config=config)
    else:
        detector = train(config, fit, fit.class_names, cache, progress, workers=workers)
    seconds = time.monotonic() - start
    # the detector's own cache: end-to-end training changes the backbone, which workers do not have
    own = detector.cache(cache.directory, cache.precomputed)
    readable = fill_cache(own, held_out, progress, workers=None if config.end_to_end.enabled else workers)
    found = [detector.detect_cached(own, each) for each in progress(readable, "detect")]
    return detector, {
        "mAP": evaluate_voc(found, readable, held_out.class_names, default_metric(held_out)).mAP,
        "seconds": seconds,
    }
