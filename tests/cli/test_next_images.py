"""`spp data next`: selected images and drafts of their boxes, with a fake network."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.cli import data
from detector.cli.console import run
from detector.datasets.loading import load_splits
from detector.ensemble import Ensemble
from detector.heads.calibration import PRECISIONS, Calibration
from detector.images.files import write_image
from tests.fakes import NAMES, PROPOSALS, colored, fake_detector, with_heads
from tests.scripts import ROOT, spp

Call = Callable[..., int]

# of a score of 100 (a brightness of 200) the probability is a half, and F1 is best from 20 on
CALIBRATION = Calibration(
    np.full(2, 0.1, np.float32),
    np.full(2, -10, np.float32),
    np.full(2, 20, np.float32),
    np.zeros((PRECISIONS, 2), np.float32),
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Squares: a certain red one, similar uncertain green ones, an uncertain red one, nothing."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, red, green in (("sure", 250, 0), ("green", 0, 200), ("twin", 0, 199), ("red", 198, 0), ("none", 0, 0)):
        image = colored()
        image[:64, :64, 0], image[:64, 96:, 1] = red, green
        write_image(folder / f"{name}.png", image)
    return folder


class Proposer:
    """The fake's boxes; counts its calls."""

    calls = 0

    def __call__(self, image: Any) -> Any:
        self.calls += 1
        return PROPOSALS


@pytest.fixture
def proposer() -> Proposer:
    return Proposer()


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proposer: Proposer) -> Call:
    """Run the command in a folder of its own; its exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))

    def next_images(*arguments: str | Path) -> int:
        model = Ensemble([with_heads(fake_detector(propose=proposer), calibration=CALIBRATION)])
        monkeypatch.setattr("detector.ensemble.load_ensemble", lambda *_, **settings: model)
        monkeypatch.setattr(sys, "argv", ["spp data", "next", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run(data.main)
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return next_images


def test_uncertain_and_different_images_come_first(
    call: Call, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(photos, "--count", "2", "--cache", "cache") == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    # one box of probability 0.5 of five; then one of 0.475 or less, but another color
    assert lines == [[str(photos / "green.png"), "0.200", "1"], [str(photos / "red.png"), "0.198", "1"]]
    drafts = load_splits(tmp_path / "to-label")[""]
    assert {each.image_id: each.boxes.tolist() for each in drafts} == {
        "green": [[96, 0, 160, 64]],
        "red": [[0, 0, 64, 64]],
    }


@pytest.mark.parametrize("format_name", ["voc", "coco", "yolo"])
def test_drafts_are_datasets(call: Call, photos: Path, tmp_path: Path, format_name: str) -> None:
    assert call(photos, "--count", "5", "--format", format_name, "--output", "out/drafts", "--min-score", "99") == 0
    (drafts,) = load_splits(tmp_path / "out" / "drafts").values()
    labels = {each.image_id: [drafts.class_names[label] for label in each.labels] for each in drafts}
    assert labels == {"sure": ["red"], "green": ["green"], "twin": ["green"], "red": [], "none": []}
    assert (tmp_path / "xdg" / "spp-detector" / "features" / "unlabeled").is_dir()


def test_cached_features_are_reused(
    call: Call, photos: Path, proposer: Proposer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(photos / "green.png", photos / "sure.png", "--cache", "cache") == 0
    assert proposer.calls == 2
    shutil.rmtree(tmp_path / "to-label")
    assert call(photos, "--cache", "cache") == 0
    assert proposer.calls == 5
    first = capsys.readouterr().out.splitlines()[2:]
    assert call(photos, "--cache", "cache", "--overwrite") == 0
    assert proposer.calls == 5
    assert capsys.readouterr().out.splitlines() == first


def test_bad_images_are_reported_and_the_others_processed(
    call: Call, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "bad.jpg").write_text("no image")
    assert call(photos, "--count", "1") == 2
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert [line for line in err.splitlines() if line.startswith(f"error: {photos / 'bad.jpg'}: ")]
    shutil.rmtree(tmp_path / "to-label")
    assert call(photos / "bad.jpg") == 2
    assert "none of the 1 images could be read" in capsys.readouterr().err
    assert not (tmp_path / "to-label").exists()


def test_images_are_never_replaced(
    call: Call, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for output in (photos, tmp_path):
        assert call(photos, "--output", output, "--overwrite") == 2
        assert f"{output}: must not hold images that are read" in capsys.readouterr().err
    assert len(list(photos.iterdir())) == 5


def test_labeled_images_are_not_selected_again(
    call: Call, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(photos, "--count", "2", "--output", "first") == 0
    assert call(photos, "--count", "2", "--data", "first", "--output", "second") == 0
    lines = [Path(line.split("\t")[0]).stem for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == ["green", "red"] and not {"green", "red"} & set(lines[2:])
    assert call(photos, "--count", "5", "--data", "first", "--data", "second", "--output", "third") == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == [str(photos / "none.png")]
    assert call(photos / "green.png", "--data", "first") == 2
    assert "all 1 images are labeled already; give others" in capsys.readouterr().err


@pytest.mark.all
def test_from_labels_to_drafts(tmp_path: Path) -> None:
    recipe = {"features": {"short_sides": [224], "levels": [3, 1]}, "proposals": {"max_boxes": 100, "min_side": 16}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    demo = ROOT / "data" / "demo"
    done = spp("train", "recipe.yaml", "--data", demo, "--cache", "c", "--output", "mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    words = ("next", demo / "JPEGImages", "--model", "mine", "--count", "3", "--cache", "c", "--format", "coco")
    done = spp("data", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    (drafts,) = load_splits(tmp_path / "to-label").values()
    assert sorted(each.path.name for each in drafts) == sorted(
        Path(line.split("\t")[0]).name for line in done.stdout.splitlines()
    )
    assert drafts.class_names != NAMES and any(len(each.labels) for each in drafts)
