"""Train a classifier of images of any size.

spp train-classifier CONFIG --images ROOT --cache DIR --output MODEL
spp train-classifier CONFIG --voc ROOT --split train [--objects] --cache DIR --output MODEL
"""

from __future__ import annotations

import time
from argparse import Namespace
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from detector.cli.console import Parser, progress
from detector.cli.options import add_recipe
from detector.cli.outputs import cache_folder, check_outputs, output_model
from detector.datasets.check import load_checked
from detector.datasets.image_classes import LabeledImages, labeled_images, labeled_objects, load_folders
from detector.datasets.loading import DataSource


def parser() -> Parser:
    parser = Parser(description="Train a classifier: convolutions, spatial pyramid, fully connected layers.")
    add_recipe(parser, "classifier")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, metavar="ROOT", help="folder with one folder of images per class")
    source.add_argument("--voc", type=Path, metavar="ROOT", help="VOC folder, or a devkit above it")
    parser.add_argument("--split", help="of --voc: a list in ImageSets/Main, such as train")
    parser.add_argument("--objects", action="store_true", help="of --voc: train on objects cropped from the images")
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="of --voc: the classes (default: all)")
    parser.add_argument("--strict", action="store_true", help="treat any data issue as an error")
    parser.add_argument(
        "--cache",
        type=cache_folder,
        required=True,
        metavar="DIR",
        help="directory of resized images and checkpoints",
    )
    parser.add_argument("--output", type=output_model, required=True, metavar="MODEL", help="model file to write")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights of the backbone, instead of the recipe's")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    return parser


def main() -> int:
    options = parser().parse_args()
    check_source(options)
    from detector.config.classifier import load_classifier_config

    config = load_classifier_config(options.config, options.weights)
    samples = load_samples(options)
    check_outputs(options, samples.paths)
    from detector.classification.samples import ResizedImages
    from detector.classification.training import train_classifier, untrained_classifier

    untrained_classifier(config, samples, options.device)  # finds mistakes before the long work
    start = time.monotonic()
    samples = samples.take(ResizedImages(samples, config.images.short_side, options.cache).fill(progress))
    classifier = train_classifier(config, samples, options.cache, progress, options.device)
    record = {
        "trained_on": samples.name,
        "samples": len(samples),
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(time.monotonic() - start),
    }
    replace(classifier, record=record).save(options.output)
    print(f"{options.output}: {len(samples.class_names)} classes from {len(samples)} samples of {samples.name}")
    return 0


def check_source(options: Namespace) -> None:
    """Raise ValueError for options that cannot be combined."""
    if options.voc is not None and options.split is None:
        raise ValueError("--voc needs --split, the name of a list in ImageSets/Main")
    if options.images is not None and (options.split or options.objects or options.classes):
        raise ValueError("--split, --objects and --classes go with --voc: a folder's classes are its folders")


def load_samples(options: Namespace) -> LabeledImages:
    """Load the images that the options name, without unreadable ones."""
    if options.images is not None:
        return load_folders(options.images, options.strict)
    source = DataSource(options.voc, options.split, shorthand="voc")
    dataset = load_checked(source, class_names=options.classes, strict=options.strict)
    return labeled_objects(dataset) if options.objects else labeled_images(dataset)
