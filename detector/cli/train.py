"""Train a detector on cached features, or one class of a trained detector.

python tools/train_svm.py [CONFIG] (--data PATH | --voc ROOT --split train | --coco JSON) [--output PATH]
python tools/train_svm.py [CONFIG] --data PATH --dry-run
python tools/train_svm.py --add-class NAME (--data PATH | --voc ROOT --split train | --coco JSON) --output MODEL
python tools/train_svm.py --remove-class NAME --output MODEL
"""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from detector.cli.console import Parser, progress, verbosity
from detector.cli.engines import CacheBuilding, add_engine_options, where_of
from detector.cli.options import (
    add_data_options,
    add_network_options,
    add_recipe,
    data_source,
    load_data,
    precomputed_boxes,
)
from detector.cli.outputs import OutputFile, cache_folder, is_model, output_folder, writable_file
from detector.config.detector import load_config
from detector.runs.dry_run import dry_run, lists_folder, write_held_out
from detector.runs.folder import is_model_file
from detector.runs.training_run import build_steps, cache_directory, train_in_folder

if TYPE_CHECKING:
    from detector.pipeline import Detector


def parser() -> Parser:
    parser = Parser(description="Train SVMs and box regressors on cached features; what the cache lacks is computed.")
    add_recipe(parser, required=False)
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
        "--learning-curve", action="store_true", help="also learn from a quarter and a half: would more images help?"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="read and check everything, write nothing, and tell what there is"
    )
    add_engine_options(parser, caches=True)
    change = parser.add_mutually_exclusive_group()
    change.add_argument("--add-class", metavar="NAME", help="train this class alone and add it to the model")
    change.add_argument("--remove-class", metavar="NAME", help="take this class out of the model")
    parser.add_argument("--model", type=Path, help="the model to change (default: the one that comes with the package)")
    return parser


def main() -> int:
    options = parser().parse_args()
    changes = options.add_class or options.remove_class
    check_options(options)
    if not changes:
        to_model = writes_model(options)
        options.config = options.config or Path("default")
        if options.dry_run:
            return dry_run(options)
        if not to_model:
            line = train_in_folder(options, build_steps)
            if not verbosity.quiet:
                print(line)
            return 0
    output = writable_file(options.output)
    if options.remove_class:
        detector = without_class(options)
    elif options.add_class:
        detector = with_class(options)
    else:
        detector = from_recipe(options)
    output.parent.mkdir(parents=True, exist_ok=True)
    detector.save(output)
    names, record = detector.class_names, detector.record
    source = ", ".join(names) if changes else f"from {record['images']} images of {record['trained_on']}"
    if not verbosity.quiet:
        print(f"{output}: {len(names)} classes {source}")
    return 0


def writes_model(options: Namespace) -> bool:
    """Whether --output is a model file: NAME.safetensors, or any name next to a recipe, --cache and --voc or --coco.

    The latter is the command line of before there were folders, which knew none of the options of folders.
    """
    output: Path | None = options.output
    spelled_out = options.config is not None and options.cache is not None and options.data is None
    if output is None or is_model_file(output):
        return output is not None
    of_folder = options.learning_curve or (options.overwrite and not output.is_file())
    return spelled_out and not of_folder and not output.is_dir()


class ModelOrFolder(OutputFile):
    """Type of the option that names a model file to write, or a folder."""

    def __call__(self, text: str) -> Path:
        # a model file may be there that was written under another ending
        is_file = is_model_file(Path(text)) or Path(text).is_file()
        return super().__call__(text) if is_file else output_folder(text)


def check_options(options: Namespace) -> None:
    """Raise ValueError for options that do not go together."""
    changes = options.add_class or options.remove_class
    no_data = options.data is None and options.voc is None and options.coco is None
    if bool(changes) == bool(options.config) and (changes or no_data):
        raise ValueError("give a CONFIG to train by, or data, or the class to add or remove")
    if options.model and not changes:
        raise ValueError("--model goes with --add-class and --remove-class")
    if options.tuned and changes:
        raise ValueError("--tuned goes with CONFIG: a model has its fine-tuned layers in it")
    if changes and (options.workers is not None or options.engine != "local"):
        raise ValueError("--workers and --engine go with a CONFIG to train by")
    if changes and options.dry_run:
        raise ValueError("--dry-run goes with a CONFIG to train by")
    if changes and options.output is None:
        raise ValueError("--output is needed: the model file to write")
    if (changes or is_model_file(options.output)) and options.learning_curve:
        raise ValueError("--learning-curve goes with a training into a folder")


def from_recipe(options: Namespace) -> Detector:
    config = load_config(options.config, options.weights, options.tuned, options.runtime)
    dataset = load_data(options)
    from detector.training.one_call import recorded
    from detector.training.train import train

    lists = lists_folder(options, options.output.with_name(f"{options.output.name}-lists"), dataset)
    start = time.monotonic()
    build = CacheBuilding(config, cache_directory(options), options.device, options.proposals)
    where = where_of(options, build)
    detector = recorded(train(config, dataset, dataset.class_names, build(), progress, where=where), dataset, start)
    for path in write_held_out(options, dataset, lists):
        print(path)
    return detector


def with_class(options: Namespace) -> Detector:
    data_source(options)  # options that do not fit are told before a model is loaded
    from detector.pipeline import Detector
    from detector.training.class_changes import add_classes, check_new
    from detector.training.one_call import recorded
    from detector.training.train import train

    detector = Detector.load(options.model, options.device, options.weights, options.runtime)
    check_new(detector, options.add_class)  # before it is trained
    # objects of other classes are background to this one, whether the model knows them or not
    dataset = load_data(options).only(options.add_class)
    start = time.monotonic()
    cache = detector.cache(cache_directory(options), precomputed_boxes(options.proposals))
    added = train(detector.config, dataset, dataset.class_names, cache, progress, detector.layers)
    return add_classes(detector, recorded(added, dataset, start))


def without_class(options: Namespace) -> Detector:
    from detector.pipeline import Detector
    from detector.training.class_changes import remove_class

    return remove_class(
        Detector.load(options.model, options.device, options.weights, options.runtime), options.remove_class
    )
