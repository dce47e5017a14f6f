"""Output and files of `spp data`, and trainings from exports."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from detector.cli import data
from detector.cli.console import run
from detector.config.detector import Config
from detector.datasets.dataset import Annotation
from detector.datasets.loading import load_splits
from detector.datasets.writing import write_dataset
from detector.evaluation.proposal_recall import ProposalRecall
from detector.images.files import read_image, write_image
from detector.training.adaptation import Adapted
from tests.datasets.exports import draw_image
from tests.scripts import spp
from tests.synthetic import write_synthetic_voc


def outcome(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    monkeypatch.setattr("sys.argv", ["data.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        run(data.main)
    return exit_.value.code


def bolt(number: int, *box: int) -> str:
    corners = "".join(
        f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>bolt</name><bndbox>{corners}</bndbox></object>"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A set with splits: a large object, a doubled and a tiny one, one as large as the image, and an image twice."""
    root = tmp_path / "photos"
    boxes = {
        "train/a": [(11, 11, 130, 130), (10, 11, 130, 131), (150, 20, 152, 60)],
        "train/b": [(1, 1, 200, 150)],
        "valid/c": [(11, 11, 60, 60)],
    }
    for name, own in boxes.items():
        draw_image(root / f"{name}.jpg", width=200, height=150)
        objects = "".join(bolt(number, *box) for number, box in enumerate(own))
        (root / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
    image = read_image(root / "train/a.jpg")
    write_image(root / "valid/c.jpg", cv2.resize(image, (180, 135)))
    return root


def test_check_prints_all_issues(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "train/b.xml").write_text(f"<annotation>{bolt(1, 1, 1, 200, 150)}{bolt(2, 9, 9, 8, 8)}</annotation>")
    assert outcome(monkeypatch, "check", photos, "--no-forecast") == 0
    lines = capsys.readouterr().out.splitlines()
    at = photos / "train"
    assert lines[:10] == [
        "issues: 1",
        f"  {at}/b.xml: object 2: bndbox is empty: 9, 9, 8, 8 [box without area]",
        "    remedy: draw the box again, or delete it",
        "suspicious: 4",
        f"  {at}/a.xml: object 3: bolt has 3 x 41 pixels [tiny box]",
        "    remedy: delete it if it was a stray click",
        f"  {at}/a.xml: object 2: bolt covers object 1 of the same class [duplicate box]",
        "    remedy: delete one of the two",
        f"  {at}/b.xml: object 1: bolt is as large as the image [box of the whole image]",
        "    remedy: draw a box around the object, if this one labels the whole image",
    ]
    scene = f"{at}/a.jpg: looks like {photos}/valid/c.jpg; images of this scene: 1 in train, 1 in val"
    assert f"  {scene} [scene in several splits]" in lines
    assert "3 images are 2 scenes" in lines
    table = lines[lines.index("train: 2 images, 4 objects, 1 classes") + 2].split()
    # images, objects, small, medium, large, difficult
    assert table == ["bolt", "2", "4", "1", "0", "3", "0"]
    assert lines[-1] == "3 images, 5 objects, 1 classes"


def test_check_may_be_strict(photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(monkeypatch, "check", photos, "--no-forecast", "--strict") == 0  # suspicious boxes are not issues
    (photos / "train/b.jpg").write_bytes((photos / "train/b.jpg").read_bytes()[:400])
    assert outcome(monkeypatch, "check", photos, "--no-forecast", "--strict") == 2
    output, errors = capsys.readouterr()
    assert f"{photos}/train/b.jpg: the JPEG data are damaged or cut off [unreadable image]" in output
    assert errors.splitlines()[-1].endswith("found 1 x unreadable image; --strict allows no issues")


def test_images_that_links_show_are_not_written_over(
    monkeypatch: pytest.MonkeyPatch, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "target"
    assert outcome(monkeypatch, "convert", photos, target, "--format", "coco") == 0
    (image,) = target.rglob("c.jpg")
    (photos / "valid/c.jpg").unlink()
    (photos / "valid/c.jpg").symlink_to(image)
    before = image.read_bytes()
    assert outcome(monkeypatch, "convert", photos, target, "--format", "coco", "--overwrite") == 2
    assert "holds images that are read; give another folder" in capsys.readouterr().err
    assert image.read_bytes() == before


def test_convert_keeps_the_content(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new" / "yolo"
    assert outcome(monkeypatch, "convert", photos, target, "--format", "yolo") == 0
    assert capfd.readouterr().out == f"{target}: 3 images, 5 objects, 1 classes\n"
    assert {split: len(each) for split, each in load_splits(target).items()} == {"train": 2, "val": 1}
    assert outcome(monkeypatch, "convert", photos, target, "--format", "coco") == 2
    assert "exists and is not empty; see --overwrite" in capfd.readouterr().err
    assert outcome(monkeypatch, "convert", photos, target, "--format", "coco", "--overwrite") == 0
    assert not (target / "data.yaml").exists()
    for wrong in (photos, photos / "below", tmp_path):
        assert outcome(monkeypatch, "convert", photos, wrong, "--format", "coco", "--overwrite") == 2
    assert outcome(monkeypatch, "convert", photos, tmp_path / "x", "--format", "voc", "--from", "yolo") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "photos"]


def test_show_draws_a_sheet(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out" / "sheet.png"
    assert outcome(monkeypatch, "show", photos, "--output", path, "--count", 2) == 0
    assert capfd.readouterr().out == f"{path}: 2 of 3 images\n"
    sheet = read_image(path)
    orange = np.all(sheet == (230, 159, 0), axis=2)
    half = sheet.shape[1] // 2
    assert orange[:, :half].any() and orange[:, half:].any()
    assert outcome(monkeypatch, "show", photos, "--count", 0) == 2


def test_a_forecast_is_an_estimate(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"features": {"short_sides": [160], "levels": [1]}, "proposals": {"max_boxes": 50}}))
    assert outcome(monkeypatch, "check", photos, "--config", recipe) == 0
    output = capsys.readouterr().out
    assert "training: an estimate, with this machine as busy as now: " in output
    assert "\nproposals and scales: by the recipe: up to 50 proposals (fast, from 20 px), which cover " in output


@pytest.mark.parametrize(("recall", "low"), [(1.0, False), (0.5, True)])
def test_a_low_recall_of_proposals_is_named_with_what_helps(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], recall: float, low: bool
) -> None:
    asked = []

    def adapt(config: Config, images: Sequence[Annotation], *_: object) -> Adapted:
        asked.append((config.adaptation.enabled, len(images)))
        ranks = np.where(np.arange(10) < 10 * recall, 1.0, np.inf)
        changed = config.model_copy(update={"proposals": config.proposals.model_copy(update={"max_boxes": 77})})
        return Adapted(changed, ProposalRecall(np.stack([ranks, ranks], axis=1)), chosen=True, precomputed=False)

    costs: list[Config] = []

    def cost(config: Config, paths: Sequence[Path], n_images: int, n_classes: int) -> str:
        assert (len(paths), n_images, n_classes) == (3, 2, 1)  # the first image warms up
        costs.append(config)
        return "cheap"

    monkeypatch.setattr("detector.training.adaptation.adapt_recipe", adapt)
    monkeypatch.setattr("detector.runs.forecast.forecast", cost)
    assert outcome(monkeypatch, "check", photos) == 0
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if line.startswith("proposals and scales: "))
    assert f"up to 77 proposals (fast, from 20 px), which cover {100 * recall:.0f} % of the objects" in line
    following = lines[lines.index(line) + 1 :]
    if low:
        assert following.pop(0).startswith(
            "  50 % of the objects cannot be found, because no proposal covers them: search small objects in tiles"
        )
    assert following[0] == "training: cheap"
    # the recipe of own data, on the training split, and its forecast is that of the adapted recipe
    assert asked == [(True, 2)]
    assert costs[0].proposals.max_boxes == 77


@pytest.mark.all
def test_a_zip_file_trains_and_is_evaluated_on_held_out_images(tmp_path: Path) -> None:
    drawn = write_synthetic_voc(tmp_path / "drawn", 8, seed=4)
    write_dataset({"": drawn}, tmp_path / "export", "yolo")
    shutil.make_archive(str(tmp_path / "mine"), "zip", tmp_path / "export")
    recipe = {"features": {"short_sides": [224], "levels": [1]}, "proposals": {"max_boxes": 40, "min_side": 16}}
    (tmp_path / "recipe.yaml").write_text(json.dumps({**recipe, "svm": {"C": 0.01}}))
    files = {path.name for path in tmp_path.iterdir()}
    source = ("--data", "mine.zip", "--hold-out", "0.25")
    n_objects = sum(len(each.labels) for each in drawn)
    done = spp("train", "recipe.yaml", *source, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"8 images, {n_objects} objects, 3 classes"
    assert {path.name for path in tmp_path.iterdir()} == files
    done = spp("train", "recipe.yaml", *source, "--cache", "cache", "--output", "model.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 classes from 6 images of mine train" in done.stdout
    lists = tmp_path / "model.safetensors-lists"
    assert len((lists / "val.txt").read_text().split()) == 2
    found = []
    for held_out in (("--hold-out", "0.25"), ("--split", lists / "val.txt")):
        source = ("--data", "mine.zip", *held_out)
        done = spp("evaluate", *source, "--model", "model.safetensors", "--json", "-", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert found[0] == found[1]
    assert found[0]["images"] == 2
