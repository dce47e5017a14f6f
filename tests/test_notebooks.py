"""The notebooks run offline, are stored without outputs, and have exercises whose answers are checked."""

from __future__ import annotations

import ast
import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from tests.scripts import ROOT

FOLDER = ROOT / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
N_EXERCISES = 3

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells_of(path: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return cells


def tagged(path: Path, tag: str) -> list[str]:
    """Return the sources of the code cells with a tag."""
    return ["".join(cell["source"]) for cell in cells_of(path) if tag in cell["metadata"].get("tags", [])]


def test_there_are_six() -> None:
    assert [path.name[0] for path in NOTEBOOKS] == [*"123456"]


@every_notebook
def test_notebooks_are_stored_without_outputs(path: Path) -> None:
    code = [cell for cell in cells_of(path) if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    ids = [cell["id"] for cell in cells_of(path)]
    assert len(set(ids)) == len(ids)


@every_notebook
def test_every_exercise_has_an_answer_of_the_same_arguments(path: Path) -> None:
    answers = ast.parse((FOLDER / "answers" / f"{path.stem[2:]}.py").read_text(encoding="utf-8"))
    functions = [node for node in answers.body if isinstance(node, ast.FunctionDef)]
    stubs = [ast.parse(source).body[0] for source in tagged(path, "exercise")]
    assert len(stubs) == len(tagged(path, "check")) == N_EXERCISES
    for number, (stub, answer) in enumerate(zip(stubs, functions, strict=True), start=1):
        assert isinstance(stub, ast.FunctionDef)
        assert stub.name == answer.name == f"answer_{number}"
        assert [each.arg for each in stub.args.args] == [each.arg for each in answer.args.args]


@pytest.mark.parametrize(
    ("answer", "expected", "said"),
    [
        (None, 3, "not answered yet"),
        (3, 3, "correct"),
        (3.0001, 3, "correct"),
        (4, 3, "not correct, got 4. Count them."),
        ([3], 3, "not correct, got [3]. Count them."),
        ([[1], [2, 3]], [1, 2], "not correct, got [[1], [2, 3]]. Count them."),
        ("three", 3, "not correct, got 'three'. Count them."),
        ([1, 2], [1, 2], "correct"),
    ],
)
def test_answers_are_checked(answer: object, expected: Any, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(FOLDER / "lab.py"))["check"](1, answer, expected, "Count them.")
    assert capsys.readouterr().out == f"Exercise 1: {said}\n"


@pytest.mark.all
@every_notebook
def test_notebooks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All cells run as they are stored, where no check finds an answer; then the checks accept the answers."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    manager = pytest.importorskip("jupyter_client.manager").AsyncKernelManager(kernel_name="python3", transport="ipc")
    manager.connection_file = str(tmp_path / "kernel.json")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    notebook = nbformat.read(path, 4)
    answers = f"from answers.{path.stem[2:]} import answer_1, answer_2, answer_3"
    checks = [nbformat.v4.new_code_cell(source) for source in (answers, *tagged(path, "check"))]
    notebook.cells += checks
    nbclient.NotebookClient(notebook, km=manager, timeout=240, resources={"metadata": {"path": str(FOLDER)}}).execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    for number in range(1, N_EXERCISES + 1):
        said = [line for line in printed.splitlines() if line.startswith(f"Exercise {number}: ")]
        assert said == [f"Exercise {number}: not answered yet", f"Exercise {number}: correct"]
