"""Train a detector, or add or remove a class of a trained one.

spp train [RECIPE] (DATA ... | --voc ROOT --split train | --coco JSON) [--output PATH]
spp train [RECIPE] DATA --dry-run
spp train --add-class NAME (DATA | --voc ROOT --split train | --coco JSON) --output MODEL
spp train --remove-class NAME --output MODEL
"""

from __future__ import annotations

import logging
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detector.cli.console import Parser, console, progress, progress_bars
from detector.cli.data_options import add_data_options, data_source, load_data, precomputed_boxes
from detector.cli.options import add_engine_options, add_network_options, add_tiles_option, cache_workers
from detector.cli.outputs import OutputFile, cache_folder, check_folder, is_model, output_folder, writable_file
from detector.config.detector import Config, load_config
from detector.config.recipes import recipe_names, shipped_recipes
from detector.datasets.readers.yolo import is_yolo_yaml
from detector.model_file import MODEL_NAME
from detector.results.files import ResultFolder
from detector.runs.folder import RUNS, buffered_log, choose_folder, is_model_file, settings_of
from detector.runs.training_data import check_data, describe, lists_folder, load_held_out, write_held_out
from detector.runtime.files import cache_of, check_writable
from detector.runtime.optional import optional

if TYPE_CHECKING:
    from detector.datasets.dataset import Dataset
    from detector.pipeline import Detector
    from detector.training.adaptation import Adapted

_log = logging.getLogger(__name__)


def parser() -> Parser:
    parser = Parser(description="Train SVMs and box regressors on cached features; compute what the cache lacks.")
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="DATA",
        help="exports of a labeling tool, as --data; before them a recipe, its name or YAML file (default: default)",
    )
    add_data_options(parser, required=False)
    add_network_options(parser)
    parser.add_argument(
        "--cache",
        type=cache_folder,
        metavar="DIR",
        help="folder of the cached files (default: one in the user's cache)",
    )
    parser.add_argument(
        "--output",
        type=ModelOrFolder(is_model, updates="model"),
        metavar="PATH",
        help="a model file, NAME.safetensors, or a folder for model, numbers and log (default: runs/DATA-DATE)",
    )
    parser.add_argument(
        "--learning-curve", action="store_true", help="also train on a quarter and a half: would more images help?"
    )
    parser.add_argument(
        "--fine-tune", action="store_true", help="also train the network end to end, and keep the better model"
    )
    add_tiles_option(parser, "the recipe's")
    parser.add_argument(
        "--dry-run", action="store_true", help="read and check all data, print their size, train nothing"
    )
    add_engine_options(parser, caches=True)
    change = parser.add_mutually_exclusive_group()
    change.add_argument("--add-class", metavar="NAME", help="train this class alone and add it to the model")
    change.add_argument("--remove-class", metavar="NAME", help="remove this class from the model")
    parser.add_argument("--model", type=Path, help="the model to change (default: the one that comes with the package)")
    return parser


def recipe_and_data(inputs: Sequence[str]) -> tuple[Path | None, list[Path]]:
    """Return the recipe, if the first of the arguments is one, and the paths of the data."""
    if not inputs:
        return None, []
    first = Path(inputs[0])
    # a YAML file may also describe data
    is_yaml = first.suffix.lower() in (".yaml", ".yml") and not (first.is_file() and is_yolo_yaml(first))
    # recipes are read only for the name of one
    if is_yaml or (inputs[0] in shipped_recipes() and inputs[0] in recipe_names(Config)):
        return first, [Path(each) for each in inputs[1:]]
    return None, [Path(each) for each in inputs]


class ModelOrFolder(OutputFile):
    """Type of the option that names a model file to write, or a folder."""

    def __call__(self, text: str) -> Path:
        # an existing file of any name is checked like a model file: with --add-class and --remove-class, it may be one
        is_file = is_model_file(Path(text)) or Path(text).is_file()
        return super().__call__(text) if is_file else output_folder(text)


def main() -> int:
    options = parser().parse_args()
    options.config, data = recipe_and_data(options.inputs)
    if options.config is None and data and not data[0].exists():
        names = ", ".join(recipe_names(Config))
        raise ValueError(f"{data[0]}: there are no such data, and no such recipe; recipes are {names}")
    if data and (options.voc or options.coco):
        raise ValueError(f"give either {data[0]} or --voc or --coco")
    if data:
        named = [] if options.data is None else [options.data]
        options.data, options.more_data = data[0], (*data[1:], *named, *options.more_data)
    check_options(options)
    if options.add_class or options.remove_class:
        output = writable_file(options.output)
        detector = with_class(options) if options.add_class else without_class(options)
        return save(detector, output, ", ".join(detector.class_names))
    options.config = options.config or Path("default")
    if options.dry_run:
        return dry_run(options)
    if not is_model_file(options.output):
        return train_into_folder(options)
    detector = train_model(options)
    return save(detector, options.output, f"from {detector.record['images']} images of {detector.record['trained_on']}")


def check_options(options: Namespace) -> None:
    """Raise ValueError for options that do not go together."""
    changes = options.add_class or options.remove_class
    no_data = options.data is None and options.voc is None and options.coco is None
    if bool(changes) == bool(options.config) and (changes or no_data):
        raise ValueError("give a CONFIG to train by, or data, or the class to add or remove")
    if options.model and not changes:
        raise ValueError("--model goes with --add-class and --remove-class")
    if changes and (options.workers is not None or options.engine != "local"):
        raise ValueError("--workers and --engine go with a CONFIG to train by")
    if changes and options.dry_run:
        raise ValueError("--dry-run goes with a CONFIG to train by")
    if changes and options.tiles is not None:
        raise ValueError("--tiles goes with a CONFIG to train by: an added class is trained in the tiles of the model")
    if changes and options.output is None:
        raise ValueError("--output is needed: the model file to write")
    if (changes or is_model_file(options.output)) and options.learning_curve:
        raise ValueError("--learning-curve goes with a training into a folder")
    if options.fine_tune:
        if changes:
            raise ValueError("--fine-tune goes with a CONFIG to train by")
        if options.learning_curve:
            raise ValueError("give either --fine-tune or --learning-curve")
        optional("torch", "torch")


def save(detector: Detector, output: Path, source: str) -> int:
    """Write a model file, and print what it holds."""
    output.parent.mkdir(parents=True, exist_ok=True)
    detector.save(output)
    if not console.quiet:
        print(f"{output}: {len(detector.class_names)} classes {source}")
    return 0


def dry_run(options: Namespace) -> int:
    """Check recipe, network and data; print the size of each split and, last, ``N images, M objects, K classes``."""
    datasets = check_data(
        load_config(options.config, options.weights, options.runtime, options.tiles),
        data_source(options),
        class_names=options.classes,
        strict=options.strict,
        boxes=precomputed_boxes(options.proposals),
        cache=options.cache,
        device=options.device,
        progress=progress,
    )
    for dataset in datasets:
        print(f"{dataset.name}: {describe([dataset])}")
    print(describe(datasets))
    return 0


def train_into_folder(options: Namespace) -> int:
    """Train into a folder with model, numbers and log, or resume there; print a summary."""
    output = options.output or RUNS
    check_writable(output, output.absolute())
    with buffered_log() as log:
        config = load_config(options.config, options.weights, options.runtime, options.tiles)
        source, dataset = data_source(options), load_data(options)
        split = load_held_out(source, dataset, options.strict)
        if options.learning_curve and split is None:
            raise ValueError("--learning-curve needs held-out images: with --data, --hold-out 0.2 makes some")
        settings = settings_of(config, dataset, split and split.dataset, options.proposals, options.fine_tune)
        folder = choose_folder(options.output, source.path, settings, options.overwrite)
        if folder.fresh:
            check_folder(options, folder.path, [each.path for each in dataset])
        from detector.build import build_cache
        from detector.runs.training_run import TrainingRun, train_in_folder

        # the parts of a learning curve are trained on as the whole is
        adapted = adapt_to(dataset, config, options)
        config = adapted.config
        directory = cache_directory(options)
        cache = build_cache(config, directory, options.device, options.proposals)
        workers = cache_workers(options, config, directory)
        run = TrainingRun(
            config,
            dataset,
            source,
            split,
            cache,
            workers,
            options.device,
            options.runtime,
            adapted,
            options.fine_tune,
        )
        with folder.opened(log) as note:
            if not folder.fresh:
                _log.info("going on with the training in %s", folder.path)
            detector, summary = train_in_folder(run, folder, progress_bars, options.learning_curve)
            if source.hold_out is not None:
                lists = ResultFolder(folder.path / "lists", (), overwrite=True)
                write_held_out(lists, source, options.classes, dataset)
            note(summary)
            folder.finish()
    if not console.quiet:
        print(summary, file=sys.stderr)
        record, model = detector.record, folder.path / MODEL_NAME
        print(f"{model}: {len(detector.class_names)} classes from {record['images']} images of {record['trained_on']}")
    return 0


def adapt_to(dataset: Dataset, config: Config, options: Namespace) -> Adapted:
    """Adapt a recipe to the data, and log the choice; a network that cannot be loaded ends it before any work."""
    from detector.build import build_encoder
    from detector.training.adaptation import adapt_recipe

    build_encoder(config.features, options.device)
    adapted = adapt_recipe(config, dataset, progress, precomputed_boxes(options.proposals))
    _log.info("%s", adapted)
    return adapted


def cache_directory(options: Namespace) -> Path:
    """Return the cache directory; log the default one."""
    if options.cache is None:
        options.cache = cache_of(data_source(options).path)
        _log.info("features are kept in %s; spp cache --clean frees the space", options.cache)
    directory: Path = options.cache
    return directory


def train_model(options: Namespace) -> Detector:
    """Train by a recipe; write and print the lists of what was held out."""
    config = load_config(options.config, options.weights, options.runtime, options.tiles)
    source, dataset = data_source(options), load_data(options)
    lists = None
    if source.hold_out is not None:
        folder = options.output.with_name(f"{options.output.name}-lists")
        check_writable(folder, folder.absolute())
        lists = lists_folder(folder, dataset, options.overwrite)
    from detector.build import build_cache
    from detector.training.train_on import train_recorded

    config = adapt_to(dataset, config, options).config
    directory = cache_directory(options)
    cache = build_cache(config, directory, options.device, options.proposals)
    workers = cache_workers(options, config, directory)
    detector = train_recorded(config, dataset, cache, progress, workers, fine_tune=options.fine_tune)
    log_accuracy(detector)
    for path in write_held_out(lists, source, options.classes, dataset) if lists is not None else ():
        print(path)
    return detector


def log_accuracy(detector: Detector) -> None:
    """Log the cross-validated accuracy of a detector that was just trained, if it has one."""
    from detector.evaluation.held_out import HeldOutResult
    from detector.runs.summary import how_good
    from detector.training.train import CROSS_VALIDATION

    if found := detector.record.get(CROSS_VALIDATION):
        _log.info("how good: %s", how_good(HeldOutResult.from_json(found)))


def with_class(options: Namespace) -> Detector:
    """Train one class on the features of a model, and add it."""
    data_source(options)  # options that do not fit are reported before a model is loaded
    from detector.pipeline import Detector
    from detector.training.class_changes import add_classes, check_new, train_class
    from detector.training.train import with_record

    detector = Detector.load(options.model, options.device, options.runtime)
    check_new(detector, options.add_class)  # before it is trained
    # objects of other classes are background to this one, whether the model knows them or not
    dataset = load_data(options).only(options.add_class)
    start = time.monotonic()
    cache = detector.cache(cache_directory(options), precomputed_boxes(options.proposals))
    added = train_class(detector, dataset, cache, progress)
    log_accuracy(added)
    return add_classes(detector, with_record(added, dataset, time.monotonic() - start))


def without_class(options: Namespace) -> Detector:
    """Remove a class from a model."""
    from detector.pipeline import Detector
    from detector.training.class_changes import remove_class

    return remove_class(Detector.load(options.model, options.device, options.runtime), options.remove_class)
