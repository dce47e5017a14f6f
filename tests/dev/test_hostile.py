"""The hostile cases are the same for a seed, and what is out of order is noticed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from dev.hostile import runner
from dev.hostile.case import Case, put
from dev.hostile.runner import contents, faults_of_files, faults_of_json, faults_of_lines
from dev.hostile.suite import all_cases, run_suite

MIN_CASES = 500


@pytest.mark.all
def test_there_are_enough_cases_the_same_ones_every_time() -> None:
    cases = all_cases(0, 1)
    assert len(cases) >= MIN_CASES
    again = all_cases(0, 1)
    assert [(each.kind, each.words) for each in cases] == [(each.kind, each.words) for each in again]
    assert [each.words for each in all_cases(1, 1)] != [each.words for each in cases]


@pytest.mark.all
def test_hostile_input_ends_in_order() -> None:
    faults = [f"{each.kind}: {each.command}: {'; '.join(each.faults)}" for each in run_suite() if each.faults]
    assert not faults, "\n".join(faults)


@pytest.mark.all
def test_the_table_in_the_documents_is_of_these_cases() -> None:
    text = (Path(__file__).parents[2] / "docs" / "hostile.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    documented = {cells[0].removeprefix("| "): int(cells[1].split()[0]) for cells in rows if cells[1][:1].isdigit()}
    kinds = [each.kind for each in all_cases(0, 1)]
    assert documented == {kind: kinds.count(kind) for kind in kinds} | {"all": len(kinds)}


@pytest.mark.parametrize(
    ("code", "errors", "fault"),
    [
        (2, "error: a.png: is damaged\n", None),
        (2, "spp detect: argument --json: a.png is a folder; see --help\n", None),
        (2, "WARNING: a.png\nerror: something\n", "no line names 'a.png'"),
        (2, "", "said no error"),
        (1, "Traceback (most recent call last):\n", "said 'Traceback'"),
        (2, f"error: a.png {'x' * 3000}\n", "a line of 3013 characters"),
    ],
)
def test_output_of_a_command_is_checked(code: int, errors: str, fault: str | None) -> None:
    case = Case("kind", "detect", ("a.png",), named="a.png")
    assert faults_of_lines(case, code, errors)[:1] == ([fault] if fault else [])


def test_changes_of_files_are_checked(tmp_path: Path) -> None:
    put({"in": b"1", "own": b"2", "gone": b"3"})(tmp_path)
    before = contents(tmp_path)
    case = Case("kind", "detect", (), changes=("own",))
    put({"in": b"x", "own": b"x", "new.json": b"[1", ".a.tmp": b"", "folder/b": b""})(tmp_path)
    (tmp_path / "gone").unlink()
    faults = faults_of_files(case, before, contents(tmp_path))
    assert sorted(faults) == ["'.a.tmp' is left", "'gone' is gone", "'in' is changed"]
    assert faults_of_json(tmp_path, before) == ["'new.json' is not whole"]


@pytest.mark.parametrize(
    ("child", "code", "faults"),
    [
        (lambda: os._exit(0), 0, []),
        (lambda: os._exit(1), 1, ["exit code 1"]),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), -9, ["exit code -9"]),
    ],
)
def test_the_end_of_a_process_is_checked(
    child: Any, code: int, faults: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_child", lambda *_: child())
    outcome = runner.run_case(Case("kind", "detect", ()))
    assert (outcome.code, outcome.faults[: len(faults)]) == (code, faults)
    assert bool(outcome.faults) == bool(faults)
