"""Exports with changed values and bytes: issues, or an error of one line, and never anything else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detector.datasets.issues import Issue
from detector.datasets.loading import load_splits
from tests.datasets.exports import IMAGES, write_export

ANNOTATIONS = (".json", ".jsonl", ".csv", ".xml", ".txt", ".yaml", ".labels", ".names", ".data", ".md")

odd_numbers = st.sampled_from([0, -1, 1e308, -1e308, 10**400, 2**63, float("nan"), float("inf"), 1e-300, 0.5])
odd_values = st.recursive(
    st.one_of(st.none(), st.booleans(), odd_numbers, st.text(max_size=8), st.sampled_from(["", " ", "../a.jpg", "\0"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=4,
)


def read(root: Path) -> None:
    """Read a dataset. Errors of more than one line, and other kinds of errors, fail the test."""
    issues: list[Issue] = []
    try:
        datasets = load_splits(root, report=issues.append, log=lambda line: None)
    except (ValueError, OSError) as error:
        assert "\n" not in str(error).strip(), error
        return
    assert all("\n" not in issue.line for issue in issues)
    for dataset in datasets.values():
        for each in dataset:
            assert (each.boxes[:, :2] < each.boxes[:, 2:]).all()
            assert (each.boxes >= 0).all()
            assert (each.boxes <= 60).all()


def places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each mapping and list with each of its keys or indices."""
    keys = content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in keys:
        yield content, key
        yield from places(content[key])


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exports")
    return {name: write_export(name, folder) for name in IMAGES}


def annotation_files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.suffix in ANNOTATIONS)


@pytest.mark.parametrize("name", IMAGES)
@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_changed_values_are_issues_or_errors(name: str, exports: dict[str, Path], data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(annotation_files(exports[name])))
    text = path.read_text()
    if path.suffix in (".json", ".jsonl"):
        lines = text.splitlines() if path.suffix == ".jsonl" else [text]
        number = data.draw(st.integers(0, len(lines) - 1))
        content = json.loads(lines[number])
        holder, key = data.draw(st.sampled_from([*places(content)]))
        holder[key] = data.draw(odd_values)
        lines[number] = json.dumps(content)
        changed = "\n".join(lines)
    else:  # one of the numbers and words
        words = [*re.finditer(r"[\w.+-]+", text)] or [*re.finditer("$", text)]
        word = data.draw(st.sampled_from(words))
        value = data.draw(st.one_of(odd_numbers.map(str), st.text(max_size=8), st.just("")))
        changed = text[: word.start()] + value + text[word.end() :]
    path.write_text(changed, encoding="utf-8", errors="replace")
    try:
        read(exports[name])
    finally:
        path.write_text(text)


@pytest.mark.parametrize("name", IMAGES)
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_changed_bytes_are_issues_or_errors(name: str, exports: dict[str, Path], data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(annotation_files(exports[name])))
    original = path.read_bytes()
    content = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        content[start : start + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    path.write_bytes(bytes(content))
    try:
        read(exports[name])
    finally:
        path.write_bytes(original)
