"""`spp data doubt`: lines and a sheet of likely label errors, with a fake network."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from detector.cli import data
from detector.cli.console import run
from detector.ensemble import Ensemble
from detector.images.files import read_image, write_image
from detector.model_file import MODEL_NAME
from tests.fakes import colored, fake_detector

Call = Callable[..., int]


@pytest.fixture
def labeled(tmp_path: Path) -> Path:
    """Two images with a red and a green square: one labeled as it is, of the other the green one is called red."""
    root = tmp_path / "own"
    root.mkdir()
    for name, second in (("right", "green"), ("wrong", "red")):
        image = colored()
        image[:64, :64, 0], image[:64, 96:, 1] = 200, 200
        write_image(root / f"{name}.png", image)
        objects = "".join(
            f"<object><name>{label}</name><bndbox><xmin>{x1}</xmin><ymin>1</ymin><xmax>{x2}</xmax><ymax>64</ymax>"
            "</bndbox></object>"
            for label, x1, x2 in (("red", 1, 64), (second, 97, 160))
        )
        (root / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
    return root


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command in a folder of its own; its exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))

    def doubt(*arguments: str | Path) -> int:
        model = Ensemble([fake_detector()])
        monkeypatch.setattr("detector.ensemble.load_ensemble", lambda *_, **settings: model)
        monkeypatch.setattr(sys, "argv", ["spp data", "doubt", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run(data.main)
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return doubt


def test_doubts_are_printed_and_drawn(
    call: Call, labeled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(labeled, "--output", "sheets/doubts.png", "--count", "1") == 0
    out, err = capsys.readouterr()
    number, path, kind, line = out.rstrip("\n").split("\t")
    assert (number, path, kind) == ("1", str(labeled / "wrong.png"), "other class")
    assert line.startswith("labeled red: green ")
    assert read_image(tmp_path / "sheets/doubts.png").shape[0] > 100
    assert "sheets/doubts.png: 1 of " in err


def test_the_newest_run_is_the_default_model(
    call: Call, labeled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(labeled) == 0
    assert "compared with the detections of the model of the package" in capsys.readouterr().err
    run_folder = tmp_path / "runs" / "own-2026-01-01"
    run_folder.mkdir(parents=True)
    (run_folder / MODEL_NAME).touch()
    assert call(labeled) == 0
    assert f"compared with the detections of runs/own-2026-01-01/{MODEL_NAME}" in capsys.readouterr().err


def test_wrong_use_is_one_line(call: Call, labeled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in labeled.glob("*.xml"):
        path.write_text(path.read_text().replace(">red<", ">dog<").replace(">green<", ">cat<"))
    assert call(labeled) == 2
    assert "detects none of the classes cat, dog; train on the data first" in capsys.readouterr().err
    assert call(labeled, "--count", "0") == 2
    assert call(labeled, "--output", labeled / "right.png") == 2
    assert read_image(labeled / "right.png").shape == colored().shape
