"""A hundred wrong command lines: exit code 2, one line that names what is wrong, and nothing written."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from detector.images.files import write_image
from detector.model_file import CLASSIFIER, ModelContents, write_model
from tests.cli.wrong_lines import WRONG
from tests.scripts import script, spp
from tests.synthetic import write_synthetic_voc


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data of four images, an image, a text, a classifier, a wrong recipe, and two folders."""
    folder = tmp_path_factory.mktemp("wrong")
    write_synthetic_voc(folder / "voc", 4, seed=1, split="train")
    write_image(folder / "a.png", np.zeros((40, 60, 3), np.uint8))
    (folder / "text").write_text("neither an image nor a model")
    (folder / "text.safetensors").write_text("nor this")
    (folder / "wrong.yaml").write_text("svn: {}")
    write_model(folder / "classifier.safetensors", CLASSIFIER, ModelContents({}, (), {}, "", {}))
    for name in ("empty", "full"):
        (folder / name).mkdir()
    (folder / "full" / "detections.csv").touch()
    return folder


def listing(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def test_there_are_a_hundred_of_them() -> None:
    assert sum(map(len, WRONG.values())) >= 100


@pytest.mark.parametrize(
    ("name", "arguments", "line"), [(name, *each) for name, lines in WRONG.items() for each in lines]
)
def test_a_wrong_command_line_costs_one_line(place: Path, name: str, arguments: str, line: str) -> None:
    before = listing(place)
    done = (script if name.endswith(".py") else spp)(name, *shlex.split(arguments), cwd=place)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert line in done.stderr
    assert "Traceback" not in done.stderr
    assert listing(place) == before
