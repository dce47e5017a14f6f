"""The commands that calibrate and evaluate, and training in one call, with a detector that takes no time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import detector as spp
from detector.cli import calibrate, console, evaluate
from detector.config.detector import Config
from detector.datasets.dataset import Annotation, Dataset
from detector.ensemble import Ensemble
from detector.heads.calibration import PRECISIONS, Calibration
from detector.images.files import write_image
from detector.pipeline import Detector
from tests.fakes import NAMES, coco_of, colored, fake_detector, with_heads

Call = Callable[..., int]


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Three images, each with a red and a green square; the green one of the last is not labeled."""
    boxes = np.array([[0, 0, 64, 64], [96, 0, 160, 64]], np.float32)
    annotations = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        write_image(path, colored())
        kept = slice(0, 1 if number == 2 else 2)
        labels = np.array([0, 1])[kept]
        annotations.append(Annotation(str(number), path, boxes[kept], labels, np.zeros(len(labels), np.bool_)))
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(coco_of(Dataset(annotations, NAMES, "squares"))))
    return file


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    def run(main: Callable[[], int], *arguments: str | Path, model: Detector | None = None) -> int:
        model = model or fake_detector()
        monkeypatch.setattr("detector.ensemble.load_ensemble", lambda *_: Ensemble([model]))
        monkeypatch.setattr(Detector, "load", lambda *_: model)
        monkeypatch.setattr(sys, "argv", ["spp", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            console.run(main)
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return run


def test_a_model_is_calibrated_without_training(
    call: Call, coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pycocotools")
    saved: list[Detector] = []
    monkeypatch.setattr(Detector, "save", lambda self, path: saved.append(self))
    assert call(calibrate.main, "model.safetensors", "--coco", coco, "--output", tmp_path / "new" / "model") == 0
    (made,) = saved
    assert made.heads.calibration is not None
    # red ones, at 150, are all true, and two of three green ones, at 100; so few borrow from each other
    assert made.heads.calibration.best_f1.tolist() == [100, 100]
    assert made.detect(colored()).probabilities is not None
    out = capsys.readouterr().out
    assert re.search(r"^red          shown from \d\d %, a score of 100\.00$", out, re.MULTILINE)
    assert f"{tmp_path / 'new' / 'model'}: expected calibration error 0." in out
    assert call(calibrate.main, "model", "--coco", coco, "--output", tmp_path / "x", "--classes", "red") == 2
    assert "leave out --classes" in capsys.readouterr().err


CALIBRATION = Calibration(
    np.array([0.01, 0.1]), np.array([0, -5]), np.array([120, 101]), np.full((PRECISIONS, 2), [140.0, np.inf])
)


def test_evaluation_prints_the_calibration_error(
    call: Call, coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pycocotools")
    result = tmp_path / "result.json"
    model = with_heads(fake_detector(), calibration=CALIBRATION)

    def numbers(*options: str) -> dict[str, object]:
        assert call(evaluate.main, "--coco", coco, "--json", result, *options, model=model) == 0
        found: dict[str, object] = json.loads(result.read_text())
        return found

    # three true red ones at 1 / (1 + e^-1.5), and two of three green ones at 1 / (1 + e^-5)
    red, green = 1 / (1 + np.exp(-1.5)), 1 / (1 + np.exp(-5))
    expected = (3 * (1 - red) + 3 * (green - 2 / 3)) / 6
    everything = numbers("--min-score", "0")
    assert everything["calibration_error"] == pytest.approx(expected, abs=1e-6)
    assert "expected calibration error 0." in capsys.readouterr().out
    assert numbers("--precision", "0.9")["AP"] == {"red": 1, "green": 0}
    assert numbers("--min-probability", "0.9")["AP"] == {"red": 0, "green": 1}
    coco_numbers = numbers("--metric", "coco")
    assert coco_numbers["metric"] == "coco" and coco_numbers["AP"] == {"red": 1, "green": 1}
    assert coco_numbers["AP_medium"] == 1 and coco_numbers["AP_small"] is None
    assert "AP75         100.0\n" in capsys.readouterr().out
    uncalibrated = ("--coco", coco, "--json", result)
    assert call(evaluate.main, *uncalibrated) == 0
    assert "calibration_error" not in json.loads(result.read_text())
    assert call(evaluate.main, *uncalibrated, "--precision", "0.9") == 2
    assert call(evaluate.main, *uncalibrated, "--detections", tmp_path, "--min-score", "0") == 2
    err = capsys.readouterr().err
    assert "precision needs one model with a calibration" in err
    assert "thresholds do not go with --detections" in err


def test_training_in_one_call(coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pycocotools")
    from detector.training import train_on as module

    called: list[tuple[Config, Dataset, object]] = []

    def train(config: Config, dataset: Dataset, cache: object, *_: object, **__: object) -> Detector:
        called.append((config, dataset, cache))
        return module.with_record(fake_detector(), dataset, 1.0)

    monkeypatch.setattr(module, "train_recorded", train)
    monkeypatch.setattr(module, "build_cache", lambda config, folder, device: folder)
    made = spp.train(coco, cache=tmp_path / "cache")
    ((config, dataset, cache),) = called
    assert not config.adaptation.enabled, "it is adapted before"
    assert (dataset.class_names, len(dataset), cache) == (NAMES, 3, tmp_path / "cache")
    assert made.record["images"] == 3 and made.record["trained_on"] == dataset.name
    spp.train(dataset)
    assert called[-1][1] is dataset and not Path(str(called[-1][2])).exists()
    with pytest.raises(ValueError, match="there is no split 'val'"):
        spp.train(coco, split="val")
    with pytest.raises(ValueError, match="there is no such recipe"):
        spp.train(coco, "nope")


def test_the_package_brings_what_users_ask_for_first() -> None:
    assert spp.Detector is Detector
    assert {"Detector", "Detections", "load", "train"} <= set(dir(spp))
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        spp.Nothing  # noqa: B018
    loaded = "print([*{'torch', 'numba', 'cv2', 'numpy'} & {*sys.modules}])"
    code = f"import sys, detector; detector.load, detector.train; {loaded}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
