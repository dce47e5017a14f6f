"""The document on Python runs from its first line to its last."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.all
def test_the_examples_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "detector" / "web" / "static" / "samples" / "cat.jpg", tmp_path / "dog.jpg")
    shutil.make_archive(str(tmp_path / "my_export"), "zip", ROOT / "data" / "demo")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), names)
    assert (tmp_path / "drawn.png").is_file() and (tmp_path / "mine.safetensors").is_file()
    assert names["mine"].metrics["mAP"] > 0.5  # type: ignore[attr-defined]
    assert names["result"].mAP > 0.3  # type: ignore[attr-defined]
