"""Classifiers on the command line: training, use, and wrong options."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.cli.console import run
from detector.images.files import write_image
from tests.fakes import tiny, write_stripes
from tests.scripts import spp


@pytest.mark.all
def test_scripts_train_and_classify(tmp_path: Path) -> None:
    for number, path in enumerate(write_stripes(tmp_path / "stripes", 8).paths):
        folder = tmp_path / "stripes" / ("across", "down")[number % 2]
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)
    (tmp_path / "stripes/across/cut.png").write_bytes((tmp_path / "stripes/across/0.png").read_bytes()[:-400])
    (tmp_path / "recipe.yaml").write_text(json.dumps(tiny(training={"epochs": 1}).model_dump(mode="json")))
    trained = spp(
        "train-classifier", "recipe.yaml", "--images", "stripes", "--cache", "cache", "--output", "m", cwd=tmp_path
    )
    assert (trained.returncode, trained.stdout) == (0, "m: 2 classes from 8 samples of stripes\n"), trained.stderr
    assert trained.stderr.count("cut.png") == 1 and "going on without it" in trained.stderr
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    found = spp(
        "classify", "stripes/down/1.png", "broken.jpg", "--model", "m", "--top", 1, "--json", "r.json", cwd=tmp_path
    )
    assert found.returncode == 2
    assert found.stderr.startswith("error: broken.jpg: ")
    (record,) = json.loads((tmp_path / "r.json").read_text())
    (best,) = record["classes"]
    assert found.stdout == f"stripes/down/1.png\t{best['label']}\t{best['probability']:.3f}\n"
    assert record["image"] == "stripes/down/1.png"
    assert best["probability"] >= 0.5


@pytest.mark.parametrize("objects", [True, False])
def test_scripts_take_voc_and_all_views(
    objects: bool, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from detector.cli import classify, train_classifier

    def call(tool: Any, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [tool.__name__, *map(str, arguments)])
        with pytest.raises(SystemExit, match=r"^0$"):
            run(tool.main)
        return str(capsys.readouterr().out)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(json.dumps(tiny(training={"epochs": 1}).model_dump(mode="json")))
    data = ("--voc", root, "--split", "train", "--classes", "circle", "square", *(("--objects",) if objects else ()))
    said = call(train_classifier, "recipe.yaml", *data, "--cache", "cache", "--output", "m")
    what = "objects of " if objects else ""
    assert re.fullmatch(rf"m: 2 classes from \d+ samples of {what}synthetic\d* train\n", said), said
    image = next((root / "JPEGImages").iterdir())
    found = {}
    for views in (("one",), ("ten",), ("whole",), ("multi",), ("whole", "--size", 60)):
        lines = call(classify, image, "--model", "m", "--views", *views).splitlines()
        rows = [line.split("\t") for line in lines]
        assert {row[1] for row in rows} == {"circle", "square"}
        found[views] = [float(row[2]) for row in rows]
        assert (abs(sum(found[views]) - 1) < 0.002) or not objects  # exclusive classes
    assert len({tuple(values) for values in found.values()}) > 1


def test_wrong_options_cost_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from detector.cli.main import run_verb

    (tmp_path / "r.yaml").write_text("training: {epochs: 0}")
    (tmp_path / "b.yaml").write_text("network: {backbone: nothing}")
    (tmp_path / "no.model").write_text("")
    for name in ("a", "b"):
        (tmp_path / "stripes" / name).mkdir(parents=True)
        write_image(tmp_path / "stripes" / name / "1.png", np.zeros((9, 9, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    ours = ["--cache", "c", "--output", "m"]
    cases = {
        ("train-classifier", "r.yaml", "--voc", ".", *ours): "--voc needs --split",
        ("train-classifier", "r.yaml", "--images", ".", "--objects", *ours): "--split, --objects and --classes go with",
        ("train-classifier", "r.yaml", "--images", ".", *ours): "r.yaml: training.epochs: input should be",
        ("train-classifier", "b.yaml", "--images", "stripes", *ours): "unknown backbone 'nothing'",
        ("classify", "a.jpg", "--model", "no.model"): "no.model: is damaged or not a safetensors file",
        ("classify", "a.jpg", "--model", "nowhere"): "nowhere",
        ("classify", "a.jpg", "--model", "no.model", "--top", "0"): "--top must be at least 1",
    }
    for (verb, *arguments), message in cases.items():
        monkeypatch.setattr(sys, "argv", [verb, *arguments])
        with pytest.raises(SystemExit) as exit_:
            run_verb(verb)
        error = capsys.readouterr().err
        assert exit_.value.code == 2
        assert error.startswith("error: ") and message in error and error.count("\n") == 1, error
    assert not (tmp_path / "c").exists()
