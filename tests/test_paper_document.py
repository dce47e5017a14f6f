"""The map of the paper is complete, and names what exists; its commands, and those of the lab, have all arguments."""

from __future__ import annotations

import ast
import inspect
import os
import re
import runpy
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import detector
from detector.cli.data_options import data_source
from detector.cli.main import VERBS
from detector.cli.train import recipe_and_data
from detector.config.classifier import ClassifierConfig
from detector.config.detector import Config

ROOT = Path(__file__).parents[1]
TEXT, LAB, RESULTS = (
    (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("paper", "lab", "results")
)
SECTIONS = (
    *("1", "2.1", "2.2", "2.3", "3.1", "3.1.1", "3.1.2", "3.1.3", "3.1.4", "3.1.5", "3.1.6", "3.2", "3.3"),
    *("4.1", "4.2", "4.3", "4.4", "4.5", "5", "Appendix A"),
)
N_FIGURES, N_TABLES, N_PARTS = 6, 13, 5


def section(text: str, heading: str) -> str:
    """Return the text below a heading, up to the next heading of its level."""
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def rows_under(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the table rows below a heading, up to the next heading of its level."""
    rows = [line.strip("|").split("|") for line in section(text, heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows]


def named_functions(text: str) -> list[tuple[str, str]]:
    """Return the pairs of a file and of the name in it, "Class.method" included."""
    return re.findall(r"`((?:detector|benchmarks)/[\w/]+\.py)` `(\w+(?:\.\w+)?)`", text)


def named_keys(text: str) -> list[tuple[str, str]]:
    """Return the sections and keys of recipes between backticks, such as ("svm", "C")."""
    return re.findall(r"`([a-z_]+)\.(\w+)(?:: [^`]*)?`", text)


def names_in(tree: ast.Module | ast.ClassDef) -> set[str]:
    """Return the functions, classes and variables of a module or class, and the members of classes."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{member}" for member in names_in(node)}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def missing_functions(text: str) -> list[str]:
    """Return the named functions that no file defines."""
    missing = []
    for file, name in named_functions(text):
        path = ROOT / file
        if not path.exists() or name not in names_in(ast.parse(path.read_text(encoding="utf-8"))):
            missing.append(f"{file} {name}")
    return missing


def missing_keys(text: str) -> list[str]:
    """Return the named keys that no recipe has."""
    sections = {**dict(Config()), **dict(ClassifierConfig())}
    return [f"{name}.{key}" for name, key in named_keys(text) if not hasattr(sections.get(name), key)]


def commands(text: str) -> list[str]:
    """Return the whole commands: in shell blocks, and between backticks those with ``python`` or with arguments.

    Others between backticks, such as ``spp train`` or ``tools/benchmark.py rcnn``, are names.
    """
    fence = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
    lines = [
        line for kind, body in fence.findall(text) if kind == "sh" for line in body.replace("\\\n", " ").splitlines()
    ]
    quoted = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", fence.sub("", text))]
    lines += [code for code in quoted if not re.fullmatch(r"spp [\w-]+", code)]
    lines = [re.sub(r"^\.venv/bin/", "", line.split("  #")[0]).strip() for line in lines]
    return [line for line in lines if re.match(r"python (tools|examples)/\w+\.py|spp [a-z]|make paper\b", line)]


def parse(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse a command as the program does, and do nothing else. Raises what ends the program for wrong arguments."""
    program, *words = shlex.split(command)
    if program == "make":
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        made = ["make", "--dry-run", *words]
        printed = subprocess.run(made, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
        (command,) = re.findall(r"python (tools/benchmark\.py .*)", printed.replace("\\\n", " "))
        program, words = "python", shlex.split(command)
    if program == "spp":
        verb, *words = words
        options = import_module(f"detector.cli.{VERBS[verb].module}").parser().parse_args(words)
        if hasattr(options, "coco") and not recipe_and_data(getattr(options, "inputs", []))[1]:
            data_source(options)
        return
    names = runpy.run_path(str(ROOT / words[0]))
    if words[0].startswith("examples/"):
        inspect.signature(names["main"]).bind(*words[1:])
        return
    for each in names.values():
        if isinstance(each, ModuleType) and hasattr(each, "measure"):
            monkeypatch.setattr(each, "measure", lambda options: 0)
    monkeypatch.setattr(sys, "argv", words)
    assert names["main"]() == 0


def test_every_part_of_the_paper_has_a_row() -> None:
    assert set(SECTIONS) <= {row[0] for row in rows_under(TEXT, "Sections")}
    assert {str(number) for number in range(1, N_FIGURES + 1)} <= {row[0] for row in rows_under(TEXT, "Figures")}
    assert {str(number) for number in range(1, N_TABLES + 1)} <= {row[0] for row in rows_under(TEXT, "Tables")}
    assert [int(part) for part in re.findall(r"^\*\*(\d)\. ", TEXT, re.MULTILINE)] == [*range(1, N_PARTS + 1)]


def test_functions_and_keys_exist() -> None:
    assert len(named_functions(TEXT)) > 40
    assert missing_functions(TEXT) == []
    assert len(named_keys(TEXT)) > 30
    assert missing_keys(TEXT) == []


def test_what_does_not_exist_is_found() -> None:
    text = "`detector/boxes.py` `iou`, `detector/boxes.py` `iuo`, `detector/none.py` `iou`; `svm.C`, `svm.D: 3`, `s.C`"
    assert missing_functions(text) == ["detector/boxes.py iuo", "detector/none.py iou"]
    assert missing_keys(text) == ["svm.D", "s.C"]


@pytest.mark.parametrize("step", sorted(set(re.findall(r"`tools/benchmark\.py ([\w-]+)", TEXT))))
def test_benchmarks_exist(step: str) -> None:
    path = ROOT / "benchmarks" / f"{step.replace('-', '_')}.py"
    assert "measure" in names_in(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "command",
    [
        *dict.fromkeys(commands(TEXT) + commands(LAB)),
        *(
            each
            for part in ("The ladder from R-CNN", "The paper's tables")
            for each in commands(section(RESULTS, part))
        ),
    ],
)
def test_whole_commands_have_all_arguments(command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    parse(command, monkeypatch)


@pytest.mark.parametrize(
    ("command", "error", "message"),
    [
        ("python tools/benchmark.py ladder", SystemExit, "required: --voc, --split, --results"),
        ('python tools/benchmark.py classify-scratch --methods "30 bins"', SystemExit, "required: --voc, --split"),
        ("python tools/benchmark.py rcnn --voc V --split val --methods NAME", SystemExit, "invalid choice: 'NAME'"),
        ("python examples/classify.py", TypeError, "missing a required argument: 'model'"),
        ("make paper PAPER='--split'", SystemExit, "expected one argument"),
        ("spp classify --views whole", SystemExit, "required: IMAGE, --model"),
        ("spp evaluate --model A --model B", SystemExit, "one of the arguments --data --voc --coco is required"),
        ("spp train paper", ValueError, "a dataset is needed"),
    ],
)
def test_missing_arguments_are_found(
    command: str,
    error: type[BaseException],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert commands(f"It is `{command}`.\n\n```sh\n{command}  # so\n```\n") == [command] * 2
    with pytest.raises(error) as ended:
        parse(command, monkeypatch)
    assert message in f"{capsys.readouterr().err} {ended.value}"


def test_names_of_commands_are_no_commands() -> None:
    assert commands("`spp train`, `tools/benchmark.py rcnn`, `python`, `make test`") == []
    assert commands("```sh\nspp train\n```\n") == ["spp train"]


def test_the_quoted_layer_fails_as_the_map_says() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    with pytest.raises(RuntimeError, match="pad should be at most half of effective kernel size"):
        exec(compile(block, "docs/paper.md", "exec"), {})
    with pytest.raises(TypeError):
        exec(compile(block.replace("// 2", "/ 2"), "docs/paper.md", "exec"), {})


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == detector.__version__
    (paper,) = citation["references"]
    assert paper["identifiers"][0]["value"] == "arXiv:1406.4729"
