"""The Python code of the documents runs."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "detector" / "web" / "static" / "samples" / "cat.jpg"


def blocks(document: str) -> list[str]:
    """The Python code of a document, block by block."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.all
def test_the_examples_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(SAMPLE, tmp_path / "dog.jpg")
    shutil.make_archive(str(tmp_path / "my_export"), "zip", ROOT / "data" / "demo")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks("python.md"):
        exec(compile(block, "docs/python.md", "exec"), names)
    assert (tmp_path / "drawn.png").is_file() and (tmp_path / "mine.safetensors").is_file()
    assert names["mine"].metrics["mAP"] > 0.5  # type: ignore[attr-defined]
    assert names["result"].mAP > 0.3  # type: ignore[attr-defined]


@pytest.mark.all
@pytest.mark.parametrize("package", ["fiftyone", "supervision"])
def test_the_examples_for_other_tools_run(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(package)
    (tmp_path / "photos").mkdir()
    for name in ("dog.jpg", "photos/dog.jpg"):
        shutil.copy(SAMPLE, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    (block,) = (each for each in blocks("labeling_tools.md") if f"import {package}" in each)
    names: dict[str, Any] = {}
    exec(compile(block, "docs/labeling_tools.md", "exec"), names)
    assert len(names["found"]) > 0


def test_the_example_for_fiftyone_gives_it_boxes_in_fractions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the package, which is large and brings a database."""
    sample = Sample(str(SAMPLE))
    dataset = SimpleNamespace(iter_samples=lambda autosave: [sample])
    stand_in: Any = ModuleType("fiftyone")
    stand_in.Dataset = SimpleNamespace(from_images_dir=lambda folder: dataset)
    stand_in.Detections = lambda detections: detections
    stand_in.Detection = dict
    monkeypatch.setitem(sys.modules, "fiftyone", stand_in)
    (block,) = (each for each in blocks("labeling_tools.md") if "import fiftyone" in each)
    exec(compile(block, "docs/labeling_tools.md", "exec"), {})
    assert sample["predictions"][0]["label"] == "cat"
    for each in sample["predictions"]:
        x, y, width, height = each["bounding_box"]
        assert 0 <= x < x + width <= 1 and 0 <= y < y + height <= 1 and 0 < each["confidence"] <= 1


class Sample(dict[str, Any]):
    """An image of a FiftyOne dataset."""

    def __init__(self, filepath: str) -> None:
        super().__init__()
        self.filepath = filepath
