"""Data options of verbs, and the issues that they report."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest

from detector.cli import console, train
from tests.fakes import coco_of
from tests.scripts import spp
from tests.synthetic import SYNTHETIC_CLASSES, write_synthetic_voc

CONFIG = {
    "features": {"short_sides": [224], "levels": [1]},
    "proposals": {"max_boxes": 40, "min_side": 16},
    "svm": {"C": 0.01},
}


def test_data_are_joined_in_the_order_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which labels of an image count depends on it."""
    seen: list[tuple[str, ...]] = []

    def note(options: Namespace) -> None:
        seen.append(tuple(path.name for path in (options.data, *options.more_data)))
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    for name in "abcd":
        (tmp_path / name).mkdir()
    monkeypatch.setattr(train, "dry_run", note)
    for words in (("a", "b", "c"), ("default", "c", "a"), ("b", "d", "--data", "a", "--data", "c"), ("--data", "d")):
        monkeypatch.setattr("sys.argv", ["spp train", *words, "--dry-run"])
        with pytest.raises(SystemExit):
            console.run(train.main)
    assert seen == [("a", "b", "c"), ("c", "a"), ("b", "d", "a", "c"), ("d",)]


@pytest.mark.all
def test_verbs_take_coco_files_and_report_their_issues(tmp_path: Path) -> None:
    dataset = write_synthetic_voc(tmp_path / "drawn", 8, seed=4)
    content = coco_of(dataset, extra_category="shapes")
    images = tmp_path / "drawn" / "JPEGImages"
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    (tmp_path / "recipe.yaml").write_text(json.dumps(CONFIG))
    dataset[0].path.unlink()
    data = ("--coco", "boxes.json", "--images", images, "--cache", "cache")
    training = ("train", "recipe.yaml", *data, "--output", "model")
    done = spp(*training, "--strict", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"WARNING: boxes.json: there is no image '{dataset[0].path.name}' below {images}",
        f"WARNING: {tmp_path.name} boxes: no object of class 'shapes'",
        f"error: {tmp_path.name} boxes: found 1 x missing image, 1 x class without objects; --strict allows no issues",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boxes.json", "drawn", "recipe.yaml"]
    done = spp("cache", "recipe.yaml", *data, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"7 images of {tmp_path.name} boxes: ")
    done = spp(*training, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"3 classes from 7 images of {tmp_path.name} boxes" in done.stdout
    evaluation = ("evaluate", *data, "--model", "model", "--save-detections", "found", "--json", "-")
    done = spp(*evaluation, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["images"] == 7
    assert set(result["AP"]) == set(SYNTHETIC_CLASSES)
    assert (tmp_path / "found" / "comp4_det_boxes_circle.txt").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "one of the arguments --data --voc --coco is required"),
        (("--voc", "a", "--coco", "b"), "argument --coco: not allowed with argument --voc"),
        (("--voc", "a"), "--voc needs --split"),
        (("--voc", "a", "--split", "b", "--images", "c"), "--images goes with --coco"),
        (("--coco", "a", "--split", "b"), "--split goes with --voc"),
        (("--coco", "nowhere.json"), "nowhere.json: no such file"),
    ],
)
def test_conflicting_options_are_one_line_errors(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = spp("evaluate", *arguments, "--detections", "d", cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
