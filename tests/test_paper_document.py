"""The map of the paper is complete, and names functions, options and benchmarks that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

import detector
from detector.config.classifier import ClassifierConfig
from detector.config.detector import Config

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
SECTIONS = (
    *("1", "2.1", "2.2", "2.3", "3.1", "3.1.1", "3.1.2", "3.1.3", "3.1.4", "3.1.5", "3.1.6", "3.2", "3.3"),
    *("4.1", "4.2", "4.3", "4.4", "4.5", "5", "Appendix A"),
)
N_FIGURES, N_TABLES, N_PARTS = 6, 13, 5


def rows_under(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the table rows below a heading, up to the next heading of its level."""
    body = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in body.splitlines() if line.startswith("|")]
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


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == detector.__version__
    (paper,) = citation["references"]
    assert paper["identifiers"][0]["value"] == "arXiv:1406.4729"
