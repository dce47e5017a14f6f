"""What is public changes only with a line in the changelog."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import pytest

from dev.snapshots import (
    SNAPSHOTS,
    command_lines,
    interface_section,
    options_of,
    python_names,
    read_snapshot,
    unnamed_changes,
)

CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_the_changelog_names_what_changed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # signatures show the level of a logger that is a default, and commands in this process set it
    monkeypatch.setattr(logging.getLogger("detector"), "level", logging.NOTSET)
    missing = unnamed_changes(
        read_snapshot(name), SNAPSHOTS[name](), interface_section(CHANGELOG.read_text(encoding="utf-8"))
    )
    assert not missing, f"name in CHANGELOG.md, under Interface of the newest version: {', '.join(missing)}"


def test_signatures_members_and_help_texts_are_taken() -> None:
    names, commands = python_names(), command_lines()
    assert names["load"].startswith("(path: 'str | Path | None' = None, device: 'str' = 'cpu', ")
    assert names["Detections.top"] == "(self, n: 'int') -> 'Detections'"
    assert names["Detections.boxes"] == "field: Boxes" and names["Detector.metrics"] == "property"
    assert not any("._" in name.replace(".__", "") for name in names)
    assert commands["spp detect --json"] == "--json FILE: write all detections to FILE; - is stdout"
    assert commands["spp detect --engine"].startswith("--engine local|ray: ")
    assert commands["spp train-classifier --output"].startswith("--output MODEL required: ")
    assert commands["spp data check --all"]


OLD = {"load": "(path)", "Model": "()", "Model.score": "()", "spp detect --json": "--json FILE", "spp go": "go"}


@pytest.mark.parametrize(
    ("change", "section", "unnamed"),
    [
        ({}, "", []),
        ({"load": "(path, device)"}, "", ["load"]),
        ({"load": "(path, device)"}, "- `load` takes `device`.", []),
        ({"load": "(path, device)"}, "- load takes a device.", ["load"]),
        ({"load": "(path, device)"}, "- `loader` and `load_more`", ["load"]),
        ({"load": None}, "", ["load"]),
        ({"load": None}, "- `load` is gone.", []),
        ({"spp detect --json": "--json PATH"}, "- `--json` says PATH.", []),
        ({"spp detect --json": "--json PATH"}, "- `spp detect --json` says PATH.", []),
        ({"spp detect --json": "--json PATH"}, "- `spp detect`", ["spp detect --json"]),
        ({"spp fly": "fly", "spp fly --high": "--high"}, "- `spp fly` flies.", []),
        ({"spp fly": "fly", "spp flyer": "flyer"}, "- `spp fly` flies.", ["spp flyer"]),
        ({"Model": None, "Model.score": None}, "- `Model` is gone.", []),
        ({"Model.score": "(n)"}, "- `Model`", ["Model.score"]),
    ],
)
def test_changes_that_are_not_named(change: dict[str, str | None], section: str, unnamed: list[str]) -> None:
    new = {name: text for name, text in {**OLD, **change}.items() if text is not None}
    assert unnamed_changes(OLD, new, section) == unnamed


def test_only_the_section_of_the_newest_version_counts() -> None:
    newest = "## 2 (unreleased)\n\nDetection\n\n- `a`\n\nInterface\n\n- `b`\n- `c`\n\nTraining\n\n- `d`\n"
    assert interface_section(f"# Changelog\n\n{newest}") == "\n- `b`\n- `c`\n\n"
    assert interface_section(f"# Changelog\n\n## 3\n\nDetection\n\n- `a`\n\n{newest}") == ""


def test_help_is_taken_from_subcommands_and_positional_arguments() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    command = parser.add_subparsers().add_parser("run", description="Run it.", add_help=False)
    command.add_argument("FILES", nargs="*", metavar="FILE", help="files")
    assert dict(options_of("p", parser)) == {"p run": "Run it.", "p run FILE": "FILE *: files"}
