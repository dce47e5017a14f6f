"""The folder of a training run: never overwritten unasked, and resumed when the training was interrupted."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.config.detector import Config
from detector.datasets.dataset import Dataset
from detector.model_file import MODEL_NAME
from detector.runtime.files import check_writable, digest, slug, write_json

if TYPE_CHECKING:
    from detector.pipeline import Detector

RUNS = Path("runs")
MARKER = "unfinished.json"
CONFIG, ENVIRONMENT, LOG = "config.yaml", "environment.json", "log.txt"
_MAX_RECORDS = 10_000
_REQUIRED = {MODEL_NAME, CONFIG, ENVIRONMENT}
_log = logging.getLogger(__name__)

Settings = Mapping[str, str]
"""Digests of all that a model depends on, by their names in error messages."""


@dataclass
class RunFolder:
    """The folder of a training, with a file that records its progress until it is finished.

    trained: file names of the models that this training wrote. fresh: whether the training starts, or is resumed.
    """

    path: Path
    settings: Settings
    trained: list[str]
    fresh: bool

    def model(self, name: str, train: Callable[[], Detector], load: Callable[[Path], Detector]) -> Detector:
        """Return the model of that file name: loaded where it is trained already, else trained and saved."""
        path = self.path / name
        if name in self.trained:
            try:
                return load(path)
            except (OSError, ValueError) as error:
                _log.warning("%s; training it again", error)
        model = train()
        model.save(path)
        self.trained.append(name)
        self._mark()
        return model

    @contextmanager
    def opened(self, log: MemoryHandler) -> Iterator[Callable[[str], None]]:
        """Make the folder, for the block to train in, and write what was and is logged to its log.txt.

        Yields a function that writes a text to that file alone. ValueError before a model was trained removes all that
        was written.
        """
        made = [each for each in (self.path, *self.path.parents) if not each.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        self._mark()
        handler = logging.FileHandler(self.path / LOG, "w" if self.fresh else "a", encoding="utf-8")
        formatter = logging.Formatter("%(asctime)s %(levelname)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        formatter.converter = time.gmtime
        handler.setFormatter(formatter)
        log.setTarget(handler)
        log.flush()
        log.flushLevel = logging.NOTSET
        try:
            yield lambda text: _write_record(handler, text)
        except ValueError:
            if self.fresh and not self.trained and not (self.path / MODEL_NAME).exists():
                for name in (MARKER, CONFIG, ENVIRONMENT, LOG):
                    (self.path / name).unlink(missing_ok=True)
                for each in made:
                    each.rmdir()
            raise
        except KeyboardInterrupt:
            _log.info("interrupted; the same command goes on in %s", self.path)
            raise
        finally:
            log.setTarget(None)
            handler.close()

    def finish(self) -> None:
        """Remove what only an unfinished training needs."""
        for name in self.trained:
            if name != MODEL_NAME:
                (self.path / name).unlink(missing_ok=True)
        (self.path / MARKER).unlink()

    def _mark(self) -> None:
        write_json(self.path / MARKER, {"settings": dict(self.settings), "trained": self.trained})


def _write_record(handler: logging.Handler, text: str) -> None:
    handler.handle(logging.makeLogRecord({"msg": text, "levelname": "INFO"}))


@contextmanager
def buffered_log() -> Iterator[MemoryHandler]:
    """Keep what is logged in the block until `RunFolder.opened` knows where to write it."""
    buffer = MemoryHandler(_MAX_RECORDS, logging.CRITICAL + 1, flushOnClose=False)
    root = logging.getLogger()
    root.addHandler(buffer)
    try:
        yield buffer
    finally:
        root.removeHandler(buffer)
        buffer.close()


def is_model_file(output: Path | None) -> bool:
    """Return whether an ``--output`` names a model file, and not the folder of a training."""
    return output is not None and output.suffix == ".safetensors" and not output.is_dir()


def choose_folder(output: Path | None, data: Path, settings: Settings, overwrite: bool) -> RunFolder:
    """Return the training to start or to resume, in ``output`` or in a folder of its own below runs/.

    An interrupted training of equal ``settings`` is resumed, also on another day. ``data``, a path, and the date name a
    new folder. Nothing is written. Raises ValueError for a folder that must not be written to.
    """
    if output is not None:
        return _run_in(output, settings, overwrite)
    unfinished = sorted(RUNS.glob(f"{slug(data)}-[0-9]*/{MARKER}"))
    for marker in reversed(unfinished):
        if _read_marker(marker)[0] == settings:
            return _run_in(marker.parent, settings, overwrite)
    name = f"{slug(data)}-{date.today().isoformat()}"
    number, folder = 1, RUNS / name
    while not overwrite and folder.exists() and not _is_free(folder):
        number, folder = number + 1, RUNS / f"{name}-{number + 1}"
    return _run_in(folder, settings, overwrite)


def _run_in(folder: Path, settings: Settings, overwrite: bool) -> RunFolder:
    check_writable(folder, folder.absolute())
    if _is_free(folder):
        return RunFolder(folder, settings, [], fresh=True)
    if (marker := folder / MARKER).exists():
        earlier, trained = _read_marker(marker)
        if earlier == settings:
            return RunFolder(folder, settings, trained, fresh=False)
        if not overwrite:
            other = " and ".join(name for name in settings if earlier.get(name) != settings[name]) or "settings"
            raise ValueError(
                f"{folder}: holds an unfinished training with other {other}: repeat its command to go on with it, "
                "or say --overwrite or another --output"
            )
    elif not all((folder / name).is_file() for name in _REQUIRED):
        raise ValueError(f"{folder}: holds files, but no training: give another --output")
    elif not overwrite:
        raise ValueError(f"{folder}: holds a training already: say --overwrite, or give another --output")
    return RunFolder(folder, settings, [], fresh=True)


def _is_free(folder: Path) -> bool:
    return not folder.exists() or not any(folder.iterdir())


def _read_marker(marker: Path) -> tuple[dict[str, str], list[str]]:
    """Return settings and trained models of an unfinished training; a damaged file has no settings."""
    try:
        content = json.loads(marker.read_text(encoding="utf-8"))
        return dict(content["settings"]), [str(name) for name in content["trained"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}, []


def settings_of(
    config: Config, dataset: Dataset, held_out: Dataset | None, proposals: Path | None, fine_tune: bool = False
) -> dict[str, str]:
    """Return digests of all that the results of a training depend on, by name; ``proposals``: a file of boxes."""
    contents: dict[str, list[Any]] = {
        "recipe": [config.model_dump_json().encode(), repr(sorted(config.files().items())).encode()],
        "data": [repr((dataset.name, dataset.class_names)).encode(), *(each.to_bytes() for each in dataset)],
        "held-out images": [each.to_bytes() for each in held_out or ()],
        "boxes": [b"" if proposals is None else proposals.read_bytes()],
        "--fine-tune": [str(fine_tune).encode()],
    }
    return {name: digest(parts)[:16] for name, parts in contents.items()}
