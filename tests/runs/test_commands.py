"""Commands that are printed are those that the parsers of the verbs read as what they are about."""

from __future__ import annotations

import shlex
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from detector.cli import data, detect, evaluate, serve, train
from detector.cli.data_options import data_source, format_source
from detector.datasets.loading import DataSource
from detector.runs.commands import detect_command, doubt_command, evaluate_command, serve_command, train_command

MODEL = Path("runs/it's mine")
SOURCES = [
    DataSource(Path("my export.zip")),
    DataSource(Path("a"), more=(Path("b c"), Path("d")), format_name="coco", hold_out=0.25, unlabeled="background"),
    DataSource(Path("a"), split="lists/train.txt"),
    DataSource(Path("VOC 2007"), split="trainval", shorthand="voc"),
    DataSource(Path("boxes.json"), shorthand="coco", images=Path("my images")),
]


def parsed(module: Any, command: str, n_words: int) -> Namespace:
    """Parse a command whose first words are those of the program and the verb."""
    options = module.parser().parse_args(shlex.split(command)[n_words:])
    assert isinstance(options, Namespace)
    return options


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("source", SOURCES, ids=lambda each: str(each.path))
def test_training_reads_the_data_as_before(source: DataSource) -> None:
    options = parsed(train, train_command(source), 2)
    recipe, paths = train.recipe_and_data(options.inputs)
    assert recipe is None
    if paths:
        options.data, options.more_data = paths[0], tuple(paths[1:])
    assert data_source(options) == source


@pytest.mark.parametrize("source", SOURCES, ids=lambda each: str(each.path))
def test_evaluation_reads_the_split(source: DataSource) -> None:
    options = parsed(evaluate, evaluate_command(source, "test", MODEL), 2)
    assert options.model == [MODEL]
    read = data_source(options)
    assert read.split == (None if source.shorthand == "coco" else "test")
    assert (read.path, read.more, read.images, read.hold_out) == (
        source.path,
        source.more,
        source.images,
        source.hold_out,
    )


def test_label_errors_are_looked_for_in_all_data() -> None:
    options = parsed(data, doubt_command(SOURCES[1], MODEL), 2)
    assert options.command == "doubt" and options.model == MODEL
    assert format_source(options) == SOURCES[1]


@pytest.mark.parametrize("image", ["photo.jpg", "my car.jpg", "$HOME.jpg"])
def test_images_and_models_of_any_name_are_detected_in(image: str) -> None:
    options = parsed(detect, detect_command(Path(image), MODEL), 2)
    assert ([str(each) for each in options.images], options.model) == ([image], [MODEL])


def test_the_page_is_opened_with_the_model() -> None:
    assert parsed(serve, serve_command(MODEL), 2).model == [MODEL]
