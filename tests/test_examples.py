"""The examples run, and find what there is to find."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from detector.images.files import read_image
from detector.images.film import film_writer
from tests.synthetic import SYNTHETIC_CLASSES

pytestmark = pytest.mark.all

ROOT = Path(__file__).parents[1]
CAT = str(files("skimage") / "data" / "chelsea.png")


def example(name: str, *arguments: object, cwd: Path) -> str:
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run() -> None:
    names = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert names == set(re.findall(r'example\("(\w+\.py)"', Path(__file__).read_text(encoding="utf-8")))


def test_detect_and_draw(tmp_path: Path) -> None:
    assert example("detect_and_draw.py", CAT, "drawn.png", cwd=tmp_path).startswith("cat ")
    assert (read_image(tmp_path / "drawn.png") != read_image(CAT)).any()


def test_own_proposals(tmp_path: Path) -> None:
    assert "\ncat " in example("own_proposals.py", CAT, cwd=tmp_path)


def test_train_on_demo_and_two_models(tmp_path: Path) -> None:
    said = example("train_on_demo.py", "demo.safetensors", "cache", cwd=tmp_path)
    (value,) = re.findall(r"mAP ([\d.]+) on 4 images", said)
    assert float(value) > 80
    image = ROOT / "data" / "demo" / "JPEGImages" / "val_0002.jpg"
    said = example("two_models.py", image, "demo.safetensors", cwd=tmp_path)
    assert said.startswith("23 classes\n")
    assert set(SYNTHETIC_CLASSES) <= set(re.findall(r"^(\w+) ", said, re.MULTILINE))


def test_track(tmp_path: Path) -> None:
    pytest.importorskip("trackers")
    cat = read_image(CAT)
    with film_writer(tmp_path / "cat.mp4", 5) as add:
        for _ in range(5):
            add(cat)
    lines = example("track.py", "cat.mp4", cwd=tmp_path).splitlines()
    # one cat, which keeps its number
    assert len(lines) >= 3 and {line.split()[2] for line in lines} == {"cat"}
    assert len({line.split()[3] for line in lines}) == 1


def test_classify(tmp_path: Path) -> None:
    lines = re.findall(r"^(\w+): (\w+) ", example("classify.py", "classifier.safetensors", cwd=tmp_path), re.MULTILINE)
    assert len(lines) == 4
    assert all(truth == found for truth, found in lines)
