"""`spp train` into a folder, with a training that takes no time."""

from __future__ import annotations

import json
import logging
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from detector.config.detector import Config, load_config
from detector.datasets.dataset import Annotation, Dataset
from detector.runs.model_card import plain
from detector.runs.training_data import sample
from tests.cli.fake_training import Fake
from tests.scripts import spp
from tests.synthetic import write_synthetic_voc

FILES = {"model.safetensors", "config.yaml", "metrics.json", "thresholds.json", "README.md", "log.txt"} | {
    "environment.json"
}


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lists train (8 images), val (4), and both, which shares images with val."""
    root = tmp_path_factory.mktemp("data") / "my shapes"
    for split, count in (("train", 8), ("val", 4)):
        write_synthetic_voc(root, count, seed=6, split=split)
    lists = root / "ImageSets" / "Main"
    (lists / "both.txt").write_text((lists / "train.txt").read_text() + (lists / "val.txt").read_text())
    return root


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path


@pytest.fixture
def train(voc: Path) -> Callable[..., str]:
    """Train with the steps given, or new ones."""

    def train(*words: str, fake: Fake | None = None, split: str = "train") -> str:
        return (fake or Fake()).run("default", "--voc", str(voc), "--split", split, *words)

    return train


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_run_holds_all_that_there_is_to_know(
    train: Callable[..., str],
    voc: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "detector")
    fake = Fake()
    line = train(fake=fake)
    assert fake.reports == [("my shapes val", True)], "with attributions"
    run = next((folder / "runs").iterdir())
    assert re.fullmatch(r"my-shapes-\d{4}-\d\d-\d\d", run.name)
    assert line == f"runs/{run.name}/model.safetensors: 3 classes from 8 images of fake"
    assert names_in(run) == FILES
    assert json.loads((run / "model.safetensors").read_text())[1] == 8
    written = load_config(run / "config.yaml")
    assert written.svm == load_config("default").for_images(8).svm and written.svm.flips
    assert not written.adaptation.enabled, "the choice for these data is written down"
    assert set(yaml.safe_load((run / "config.yaml").read_text())) == set(Config.model_fields)
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["mAP"], metrics["images"], metrics["data"]) == (1, 4, "my shapes val")
    assert metrics["trained"]["images"] == 8 and metrics["learning_curve"] is None
    assert json.loads((run / "thresholds.json").read_text()) == {
        "min_score": -1.5,
        "best_f1": None,
        "default": None,
    }
    environment = json.loads((run / "environment.json").read_text())
    assert {"spp-detector", "python", "torch", "numpy", "platform", "cores", "command"} <= set(environment)
    card = (run / "README.md").read_text()
    for part in ("# Detector of circle, square, triangle", "| circle | 100.0 |", "Apache-2.0", "## Limits"):
        assert part in card
    for command in ("spp detect photo.jpg", f"spp evaluate --voc '{voc}' --split val"):
        assert f"{command} --model runs/{run.name}\n" in card
    summary = "\n".join(capsys.readouterr().err.splitlines()[-3:])
    assert summary in re.sub(r"(?m)^\S+Z INFO: ", "", (run / "log.txt").read_text())
    assert f"features are kept in {folder}/xdg/spp-detector/features/my-shapes-" in (run / "log.txt").read_text()
    good, weak, step = summary.splitlines()[-3:]
    assert good == "how good: mAP50 100.0 ± 0.0 (100: all found, nothing else), on 4 images of my shapes val"
    assert weak.startswith("weakest: ") and weak.endswith(", AP50 100.0")
    assert step == f"next: use it: spp detect '{first_image(voc)}' --model runs/{run.name}"


def first_image(voc: Path) -> Path:
    """The first image of the split val."""
    image_id = (voc / "ImageSets" / "Main" / "val.txt").read_text().split()[0]
    (path,) = (voc / "JPEGImages").glob(f"{image_id}.*")
    return path


def test_without_held_out_images_the_cross_validation_counts(
    train: Callable[..., str], folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    fake = Fake()
    train("--output", "out", fake=fake, split="both")
    assert fake.calls == ["train 12"]
    assert "my shapes val shares images with my shapes both: it is not held out" in caplog.text
    by_itself = "the training data, by cross-validation"
    assert fake.reports == [(by_itself, False)], "SVMs of other images cannot be explained by the model"
    assert names_in(folder / "out") == FILES
    metrics = json.loads((folder / "out" / "metrics.json").read_text())
    assert (metrics["mAP"], metrics["images"], metrics["data"]) == (1, 12, by_itself)
    card = (folder / "out" / "README.md").read_text()
    assert f"on 12 images of {by_itself}" in card and "spp evaluate" not in card
    good = capsys.readouterr().err.splitlines()[-3]
    assert good.startswith("how good: mAP50 100.0 ± 0.0 ") and good.endswith(f", on 12 images of {by_itself}")
    with pytest.raises(ValueError, match="--learning-curve needs held-out images"):
        train("--output", "curve", "--learning-curve", split="both")
    assert not (folder / "curve").exists()


def test_a_part_of_a_zip_file_is_held_out(voc: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile("my export.zip", "w") as archive:
        for path in voc.rglob("*.*"):
            if "val" not in path.name and path.name != "both.txt":
                archive.write(path, path.relative_to(voc))
    fake = Fake()
    line = fake.run("default", "--data", "my export.zip", "--hold-out", "0.25")
    assert fake.calls == ["train 6", "detect 6"]
    run = folder / line.partition("/model.safetensors")[0]
    assert run.name.startswith("my-export-") and names_in(run) == {*FILES, "lists"}
    lists = [(run / "lists" / f"{split}.txt").read_text().split() for split in ("train", "val")]
    assert [len(ids) for ids in lists] == [6, 2] and not set(lists[0]) & set(lists[1])
    assert json.loads((run / "metrics.json").read_text())["images"] == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"next: use it: spp serve --model runs/{run.name}"


def test_a_learning_curve_is_measured_on_parts(
    train: Callable[..., str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = Fake()
    train("--output", "out", "--learning-curve", fake=fake)
    assert fake.calls == [f"{what} {n}" for n in (8, 2, 4) for what in ("train", "detect")]
    assert names_in(folder / "out") == FILES
    curve = json.loads((folder / "out" / "metrics.json").read_text())["learning_curve"]
    assert [point["images"] for point in curve["points"]] == [2, 4, 8]
    values = [point["mAP"] for point in curve["points"]]
    assert values == sorted(values) and values[0] < 0.5 and values[2] == 1
    assert "8 more would bring" in capsys.readouterr().err


@pytest.mark.parametrize("fails_at", [0, *(pytest.param(each, marks=pytest.mark.all) for each in range(1, 5)), 5])
def test_interrupted_at_any_step_the_same_command_goes_on(
    train: Callable[..., str], folder: Path, fails_at: int
) -> None:
    words = ("--output", "out", "--learning-curve")
    first, second = Fake(fails_at), Fake()
    with pytest.raises(KeyboardInterrupt):
        train(*words, fake=first)
    assert (folder / "out" / "unfinished.json").exists()
    train(*words, fake=second)
    trained = [call for fake in (first, second) for call in fake.calls if call.startswith("train")]
    assert trained == ["train 8", "train 2", "train 4"]  # each of them once
    assert names_in(folder / "out") == FILES
    other = Fake()
    train("--output", "at once", "--learning-curve", fake=other)
    results = [json.loads((folder / name / "metrics.json").read_text()) for name in ("out", "at once")]
    assert results[0] == results[1]


def test_other_settings_are_named_before_anything_is_trained(train: Callable[..., str], folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train("--output", "out", fake=Fake(0))
    before = (folder / "out" / "unfinished.json").read_text()
    fake = Fake()
    with pytest.raises(ValueError, match="an unfinished training with other data and held-out images: repeat its"):
        train("--output", "out", "--classes", "circle", "square", fake=fake)
    assert fake.calls == [] and (folder / "out" / "unfinished.json").read_text() == before
    train("--output", "out")
    with pytest.raises(ValueError, match="out: holds a training already: say --overwrite"):
        train("--output", "out", fake=fake)
    assert fake.calls == []
    train("--output", "out", "--overwrite", "--classes", "circle", "square", fake=fake)
    assert json.loads((folder / "out" / "model.safetensors").read_text())[0] == ["circle", "square"]
    assert names_in(folder / "out") == FILES


def test_a_training_that_cannot_be_leaves_nothing(train: Callable[..., str], folder: Path) -> None:
    with pytest.raises(ValueError, match="no object"):
        train(fake=Fake(0, ValueError("no object to learn from")))
    assert list(folder.iterdir()) == []


def test_a_full_disk_leaves_what_can_be_gone_on_with(train: Callable[..., str], folder: Path) -> None:
    with pytest.raises(OSError, match="full"):
        train("--output", "out", fake=Fake(1, OSError("full")))
    fake = Fake()
    train("--output", "out", fake=fake)
    assert fake.calls == ["load", "detect 8"]


def test_of_many_held_out_images_some_are_taken(voc: Path) -> None:
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    dataset = Dataset([Annotation(str(number), voc, *nothing) for number in range(9)], (), "v")
    some = sample(dataset, 4)
    assert [each.image_id for each in some] == [each.image_id for each in sample(dataset, 4)]
    assert (len(some), some.name) == (4, "v (4 of 9 images)")
    assert sample(dataset, 9) is dataset


def test_names_from_data_are_text_in_the_card() -> None:
    assert plain("<script>|a_b\n# c") == r"\<script\>\|a\_b \# c"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-q", "--output", "file/run"), "file is not a folder that may be written to"),
        (("--output", "file"), "file is not a folder that may be written to"),
        (("--output", "m.safetensors", "--learning-curve"), "goes with a training into a folder"),
        (("--output", "file/m.safetensors"), "file/m.safetensors cannot be written"),
        (("--output", "mine"), "mine: holds files, but no training"),
    ],
)
def test_mistakes_cost_one_line_and_nothing_is_written(
    voc: Path, folder: Path, words: tuple[str, ...], message: str
) -> None:
    (folder / "file").touch()
    (folder / "mine").mkdir()
    (folder / "mine" / "README.md").touch()
    done = spp("train", "--voc", voc, "--split", "train", *words, cwd=folder)
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, "")
    assert message in done.stderr
    assert {path.name for path in folder.rglob("*")} == {"file", "mine", "README.md"}
