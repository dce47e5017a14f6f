"""What a training works on: its data and their place, images that it must not learn from, where features are kept."""

from __future__ import annotations

import logging
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detector.commands.options import data_source
from detector.config.detector import Config
from detector.datasets.annotation import Dataset
from detector.runtime.hashing import digest
from detector.runtime.places import cache_of

MOST_HELD_OUT = 500
_log = logging.getLogger(__name__)


def data_path(options: Namespace) -> Path:
    """Where the data of a command lie."""
    path: Path = options.data or options.voc or options.coco
    return path


def cache_directory(options: Namespace) -> Path:
    """Where a training keeps its features; a place that the user did not name is said in a line."""
    if options.cache is None:
        options.cache = cache_of(data_path(options))
        _log.info("features are kept in %s; spp-cache --clean frees the space", options.cache)
    directory: Path = options.cache
    return directory


def load_held_out(options: Namespace, dataset: Dataset) -> Dataset | None:
    """The images of the split val next to the one that is trained on, some of them if there are many; None without.

    Nor where it shares an image with the training.
    """
    from detector.datasets.check import load_checked
    from detector.datasets.voc import has_split
    from detector.images.files import image_size

    source = data_source(options)
    no_list = source["voc"] is not None and not has_split(source["voc"], "val")
    if source["coco"] is not None or source["split"] == "val" or no_list:
        return None
    source |= {"split": "val", "class_names": dataset.class_names}
    try:
        held_out = load_checked(**source, image_size=image_size, need_objects=False)
    except ValueError as error:
        _log.info("nothing is held out: %s", error)
        return None
    if {each.image_id for each in held_out} & {each.image_id for each in dataset}:
        _log.warning("%s shares images with %s: nothing is held out", held_out.name, dataset.name)
        return None
    return some_of(held_out)


def some_of(held_out: Dataset, most: int = MOST_HELD_OUT) -> Dataset:
    """So many of the images at most, drawn at random, but always the same ones."""
    if len(held_out) <= most:
        return held_out
    rows = np.sort(np.random.default_rng(0).permutation(len(held_out))[:most]).tolist()
    name = f"{held_out.name} ({most} of {len(held_out)} images)"
    return replace(held_out, annotations=tuple(held_out[row] for row in rows), name=name)


def settings_of(config: Config, options: Namespace, dataset: Dataset, held_out: Dataset | None) -> dict[str, str]:
    """Digests of all that the results of a run depend on, by name."""
    boxes = b"" if options.proposals is None else options.proposals.read_bytes()
    contents: dict[str, list[Any]] = {
        "recipe": [config.model_dump_json().encode(), repr(sorted(config.files().items())).encode()],
        "data": [repr((dataset.name, dataset.class_names)).encode(), *(each.to_bytes() for each in dataset)],
        "held-out images": [each.to_bytes() for each in held_out or ()],
        "boxes": [boxes],
    }
    return {name: digest(parts)[:16] for name, parts in contents.items()}
