"""The folder of a training: never overwritten unasked, and gone on with when the training was interrupted."""

from __future__ import annotations

import json
import logging
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from detector.cli.options import data_source
from detector.cli.outputs import check_writable
from detector.config.detector import Config
from detector.datasets.dataset import Dataset
from detector.model_file import MODEL_NAME
from detector.runtime.files import cache_of, digest, slug, write_json

RUNS = Path("runs")
MARKER = "unfinished.json"
CONFIG, ENVIRONMENT, LOG = "config.yaml", "environment.json", "log.txt"
_MOST_RECORDS = 10_000
_OF_RUN = {MODEL_NAME, CONFIG, ENVIRONMENT}
_log = logging.getLogger(__name__)

Settings = Mapping[str, str]
"""Digests of all that the model depends on, by what error messages call it."""


class Saved(Protocol):
    """A model that can be written."""

    def save(self, path: Path) -> None: ...


Model = TypeVar("Model", bound=Saved)


@dataclass
class Run:
    """A training into a folder, with a file that says how far it is until it is finished.

    trained: the models of the folder that this training wrote, not an earlier one. fresh: whether it begins.
    """

    folder: Path
    settings: Settings
    trained: list[str]
    fresh: bool

    def model(self, name: str, train: Callable[[], Model], load: Callable[[Path], Model]) -> Model:
        """The model of that file name: loaded where it was trained before an interruption, else trained and saved."""
        path = self.folder / name
        if name in self.trained:
            try:
                return load(path)
            except (OSError, ValueError) as error:
                _log.warning("%s; training it again", error)
        model = train()
        model.save(path)
        self.trained.append(name)
        self.note()
        return model

    def note(self) -> None:
        """Write how far the training is."""
        write_json(self.folder / MARKER, {"settings": dict(self.settings), "trained": self.trained})

    def finish(self) -> None:
        """Everything is written: nothing is left but the results."""
        for name in self.trained:
            if name != MODEL_NAME:
                (self.folder / name).unlink(missing_ok=True)
        (self.folder / MARKER).unlink()

    def withdraw(self) -> None:
        """Take back what was written of a training that cannot be."""
        for name in (MARKER, CONFIG, ENVIRONMENT, LOG):
            (self.folder / name).unlink(missing_ok=True)


def is_model_file(output: Path | None) -> bool:
    """Whether an ``--output`` names a model file, and not the folder of a training."""
    return output is not None and output.suffix == ".safetensors" and not output.is_dir()


def choose_run(output: Path | None, data: Path, settings: Settings, overwrite: bool) -> Run:
    """The training to begin or go on with, in ``output`` or in a folder of its own below runs/. Nothing is written.

    data: the path that names the folder, with the date. A training of equal ``settings`` that was interrupted goes on,
    that of another day, too. Raises ValueError for a folder that is not to be written to.
    """
    if output is not None:
        return _run_in(output, settings, overwrite)
    unfinished = sorted(RUNS.glob(f"{slug(data)}-[0-9]*/{MARKER}"))
    for marker in reversed(unfinished):
        if _read(marker)[0] == settings:
            return _run_in(marker.parent, settings, overwrite)
    name = f"{slug(data)}-{date.today().isoformat()}"
    number, folder = 1, RUNS / name
    while not overwrite and folder.exists() and not _is_free(folder):
        number, folder = number + 1, RUNS / f"{name}-{number + 1}"
    return _run_in(folder, settings, overwrite)


def _run_in(folder: Path, settings: Settings, overwrite: bool) -> Run:
    check_writable(folder, folder.absolute())
    if _is_free(folder):
        return Run(folder, settings, [], fresh=True)
    if (marker := folder / MARKER).exists():
        earlier, trained = _read(marker)
        if earlier == settings:
            return Run(folder, settings, trained, fresh=False)
        if not overwrite:
            other = " and ".join(name for name in settings if earlier.get(name) != settings[name]) or "settings"
            raise ValueError(
                f"{folder}: holds an unfinished training with other {other}: repeat its command to go on with it, "
                "or say --overwrite or another --output"
            )
    elif not all((folder / name).is_file() for name in _OF_RUN):
        raise ValueError(f"{folder}: holds files, but no training: give another --output")
    elif not overwrite:
        raise ValueError(f"{folder}: holds a training already: say --overwrite, or give another --output")
    return Run(folder, settings, [], fresh=True)


def _is_free(folder: Path) -> bool:
    return not folder.exists() or not any(folder.iterdir())


def _read(marker: Path) -> tuple[dict[str, str], list[str]]:
    try:
        content = json.loads(marker.read_text(encoding="utf-8"))
        return dict(content["settings"]), [str(name) for name in content["trained"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}, []  # damaged: equal to no settings


@contextmanager
def remembered() -> Iterator[MemoryHandler]:
    """Keep all that is logged in the block, until it is known where to write it; see `started`."""
    memory = MemoryHandler(_MOST_RECORDS, logging.CRITICAL + 1, flushOnClose=False)
    root = logging.getLogger()
    root.addHandler(memory)
    try:
        yield memory
    finally:
        root.removeHandler(memory)
        memory.close()


@contextmanager
def started(run: Run, memory: MemoryHandler) -> Iterator[Callable[[str], None]]:
    """Make the folder, for the block to train in, and write all that was and is logged to its log.txt.

    Gives a function that notes a text there alone. ValueError, before any model was trained, leaves no trace of it.
    """
    made = [each for each in (run.folder, *run.folder.parents) if not each.exists()]
    run.folder.mkdir(parents=True, exist_ok=True)
    run.note()
    handler = logging.FileHandler(run.folder / LOG, "w" if run.fresh else "a", encoding="utf-8")
    formatter = logging.Formatter("%(asctime)s %(levelname)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    memory.setTarget(handler)
    memory.flush()
    memory.flushLevel = logging.NOTSET

    def note(text: str) -> None:
        handler.handle(logging.makeLogRecord({"msg": text, "levelname": "INFO"}))

    try:
        yield note
    except ValueError:
        if run.fresh and not run.trained and not (run.folder / MODEL_NAME).exists():
            run.withdraw()
            for each in made:
                each.rmdir()
        raise
    except KeyboardInterrupt:
        _log.info("interrupted; the same command goes on in %s", run.folder)
        raise
    finally:
        memory.setTarget(None)
        handler.close()


MOST_HELD_OUT = 500


def data_path(options: Namespace) -> Path:
    """Where the data of a command lie."""
    path: Path = options.data or options.voc or options.coco
    return path


def cache_directory(options: Namespace) -> Path:
    """Where a training keeps its features; a place that the user did not name is said in a line."""
    if options.cache is None:
        options.cache = cache_of(data_path(options))
        _log.info("features are kept in %s; spp cache --clean frees the space", options.cache)
    directory: Path = options.cache
    return directory


def load_held_out(options: Namespace, dataset: Dataset) -> Dataset | None:
    """The images of the split val next to the one that is trained on, some of them if there are many; None without.

    Nor where it shares an image with the training.
    """
    from detector.datasets.check import load_checked
    from detector.datasets.readers.voc import has_split
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
