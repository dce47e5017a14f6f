"""A command that is called with a detector that takes no time."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from detector.cli import detect
from detector.cli.console import run
from detector.ensemble import Ensemble
from detector.heads.calibration import Calibration
from tests.cli.detecting import Call
from tests.fakes import fake_detector, with_heads


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command in an empty folder; its exit code."""
    monkeypatch.chdir(tmp_path)

    def call_detect(*arguments: str | Path, calibration: Calibration | None = None, copies: int = 1) -> int:
        model = Ensemble([with_heads(fake_detector(), calibration=calibration)] * copies)
        monkeypatch.setattr("detector.ensemble.load_ensemble", lambda *_: model)
        monkeypatch.setattr(sys, "argv", ["spp detect", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run(detect.main)
        code = ended.value.code
        assert isinstance(code, int)
        return code

    return call_detect
