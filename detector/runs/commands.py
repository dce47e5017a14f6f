"""Command lines for the data and the model of a run, to be pasted into a shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from detector.datasets.loading import DataSource


def train_command(source: DataSource) -> str:
    """Return the command that trains on a data set."""
    if source.shorthand is not None:
        return _joined(["spp train", *_data_options(source, source.split)])
    split = [] if source.split is None else ["--split", source.split]
    return _joined(["spp train", *_paths(source), *split, *_reading(source)])


def evaluate_command(source: DataSource, split: str, model: Path) -> str:
    """Return the command that evaluates a model on a split of a data set."""
    return _joined(["spp evaluate", *_data_options(source, split), "--model", model])


def doubt_command(source: DataSource, model: Path) -> str:
    """Return the command that finds the likeliest label errors of a data set."""
    return _joined(["spp data doubt", *_paths(source), *_reading(source), "--model", model])


def detect_command(image: Path, model: Path) -> str:
    """Return the command that detects in an image."""
    return _joined(["spp detect", image, "--model", model])


def serve_command(model: Path) -> str:
    """Return the command that opens the page of a model."""
    return _joined(["spp serve", "--model", model])


def _data_options(source: DataSource, split: str | None) -> list[str | Path]:
    """Return the data options of verbs, with their values."""
    if source.shorthand == "coco":
        coco: list[str | Path] = ["--coco", source.path]
        return coco if source.images is None else [*coco, "--images", source.images]
    if source.shorthand == "voc":
        return ["--voc", source.path, "--split", split or ""]
    paths: list[str | Path] = [word for path in _paths(source) for word in ("--data", path)]
    return [*paths, *([] if split is None else ["--split", split]), *_reading(source)]


def _paths(source: DataSource) -> list[Path]:
    return [source.path, *source.more]


def _reading(source: DataSource) -> list[str]:
    """Return the options that say how data are read."""
    words = [] if source.format_name is None else ["--format", source.format_name]
    words += [] if source.hold_out is None else ["--hold-out", f"{source.hold_out:g}"]
    return [*words, *([] if source.unlabeled == "skip" else ["--unlabeled", source.unlabeled])]


def _joined(words: Iterable[str | Path]) -> str:
    command, *rest = words
    return " ".join([str(command), *(shlex.quote(str(word)) for word in rest)])
