"""Write what is public, names, recipes and command lines, as tests/snapshots/*.json: python -m dev.snapshots

Only what the section "Interface" of the changelog names may differ from the files that are there.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import detector
from detector.cli.main import VERBS
from detector.config.classifier import ClassifierConfig
from detector.config.detector import Config
from detector.runtime.files import write_text

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tests" / "snapshots"
Snapshot = Mapping[str, str]
"""What is public, by name."""

_OPERATORS = {"__call__", "__getitem__", "__iter__", "__len__", "__contains__"}


def python_names() -> dict[str, str]:
    """Return the signature of each public name of the package, and of the public members of its classes."""
    found = {}
    for name in detector.__all__:
        value = getattr(detector, name)
        # a recipe is made of its sections, whose keys `recipe_keys` returns
        found[name] = "recipe" if value is Config else _signature(value)
        if inspect.isclass(value):
            found |= {f"{name}.{member}": text for member, text in _members(value)}
    return found


def _signature(function: Any) -> str:
    """Return a signature without the addresses of its defaults, which differ from run to run."""
    return re.sub(r"<function (\S+) at 0x\w+>", r"\1", str(inspect.signature(function)))


def _members(owner: type) -> Iterator[tuple[str, str]]:
    """Yield names and signatures of the public members that a class, or one of ours above it, defines."""
    ours = [each for each in owner.__mro__ if each.__module__.split(".")[0] == "detector"]
    annotated = {name: text for each in reversed(ours) for name, text in inspect.get_annotations(each).items()}
    defined = {name: value for each in reversed(ours) for name, value in vars(each).items()}
    for name in sorted({*annotated, *defined}):
        if name.startswith(("_", "model_")) and name not in _OPERATORS:
            continue
        value = inspect.getattr_static(owner, name, None)
        if isinstance(value, (classmethod, staticmethod)) or inspect.isfunction(value):
            yield name, _signature(getattr(owner, name))
        elif name in annotated:
            kind = annotated[name]
            yield name, f"field: {kind if isinstance(kind, str) else inspect.formatannotation(kind)}"
        else:
            yield name, "property"


def recipe_keys() -> dict[str, str]:
    """Return the default of each key of the recipes, such as "detection.nms_iou"."""
    recipes = {"": Config(), "classifier: ": ClassifierConfig()}
    return {
        f"{prefix}{section}.{key}": json.dumps(value)
        for prefix, recipe in recipes.items()
        for section, keys in recipe.model_dump(mode="json").items()
        for key, value in keys.items()
    }


def command_lines() -> dict[str, str]:
    """Return the help text of each verb and option, such as "spp detect --json"."""
    found = {}
    for verb, entry in VERBS.items():
        parser = import_module(f"detector.cli.{entry.module}").parser()
        found[f"spp {verb}"] = f"{entry.help}: {parser.description}"
        found.update(options_of(f"spp {verb}", parser))
    return found


def options_of(prefix: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Yield names and texts of the options of a parser, independent of how a version of Python lays them out."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield f"{prefix} {name}", str(command.description)
                yield from options_of(f"{prefix} {name}", command)
            continue
        name = max(action.option_strings, key=len, default=str(action.metavar or action.dest))
        values = [str(action.metavar or ""), str(action.nargs or ""), "|".join(map(str, action.choices or ()))]
        required = "required" if action.required and action.option_strings else ""
        words = [", ".join(action.option_strings), *values, required]
        yield f"{prefix} {name}", f"{' '.join(filter(None, words))}: {action.help}"


SNAPSHOTS = {"python.json": python_names, "recipes.json": recipe_keys, "commands.json": command_lines}
"""By the name of their file, in `FOLDER`."""


def interface_section(changelog: str) -> str:
    """Return the section "Interface" of the first version in a changelog; empty without one."""
    newest = re.split(r"^## ", changelog, flags=re.MULTILINE)[1]
    found = re.search(r"^Interface\n(.*?)(?=^[A-Z]|\Z)", newest, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def unnamed_changes(old: Snapshot, new: Snapshot, section: str) -> list[str]:
    """Return what was added, removed or changed though no `code` of a changelog's section names it.

    "spp detect --json" is named by itself, or for all verbs by "--json".
    """
    named = set(re.findall(r"`([^`]+)`", section))
    # a new or removed verb or class stands for all of its options or members
    owners = tuple(f"{each}{sign}" for each in named if (each in old) != (each in new) for sign in " .")
    changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return [name for name in changed if not {name, name.split(" ")[-1]} & named and not name.startswith(owners)]


def read_snapshot(name: str) -> dict[str, Any]:
    """Return a snapshot that was written; empty where there is none."""
    path = FOLDER / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def main() -> int:
    """Write the snapshots. Return 1, and write none, where the changelog does not name a change."""
    section = interface_section((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    current = {name: take() for name, take in SNAPSHOTS.items()}
    for name, new in current.items():
        if (old := read_snapshot(name)) and (missing := unnamed_changes(old, new, section)):
            print(f"{name}: name in CHANGELOG.md, under Interface: {', '.join(missing)}", file=sys.stderr)
            return 1
    for name, new in current.items():
        write_text(FOLDER / name, json.dumps(new, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
