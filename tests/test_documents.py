"""What the documents name is there: paths, links, commands with their options, recipes, and what is imported."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from detector.cli.main import VERBS

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for pattern in ("README.md", "CONTRIBUTING.md", "docs/*.md", "configs/README.md", "data/**/README.md")
    for path in ROOT.glob(pattern)
)
MOST_README_LINES = 150
# what a user brings, as the examples call it
OWN = "data/VOC2007"

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=str)


def text_of(document: Path) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def without_urls(text: str) -> str:
    return re.sub(r"https?://\S+", "", text)


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def command_lines(text: str) -> list[list[str]]:
    """The words of every command of ours: those in shell blocks, without comments, and those between backticks."""
    shell = "\n".join(blocks(text, "sh")).replace("\\\n", " ")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line.split("  #")[0] for line in shell.splitlines()]
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]
    ours = (re.search(r"(?:^|\s)((?:spp [a-z][\w-]+|(?:\S*python )tools/\w+\.py)(?:\s.*|$))", line) for line in lines)
    words = [found[1].removeprefix(".venv/bin/").removeprefix("python ").split() for found in ours if found]
    return [[" ".join(each[:2]), *each[2:]] if each[0] == "spp" else each for each in words]


def modules_of_commands() -> dict[str, str]:
    """Return the module of each verb, by "spp VERB" and by the script of `tools/`."""
    modules = {f"spp {name}": f"detector.cli.{verb.module}" for name, verb in VERBS.items()}
    for script in (ROOT / "tools").glob("[!_]*.py"):
        found = re.search(r'run_verb\("([\w-]+)"\)', script.read_text(encoding="utf-8"))
        if found:
            modules[f"tools/{script.name}"] = modules[f"spp {found[1]}"]
    return modules


@cache
def options_of(command: str, stage: str) -> frozenset[str]:
    """The long options of a command; of a benchmark, those of its stage."""
    if command == "tools/benchmark.py":
        file = "detection" if stage == "detect" else stage.replace("-", "_")
        stated = argparse.ArgumentParser()
        import_module(f"benchmarks.{file}").add_options(stated)
        return frozenset(all_options(stated))
    parser = import_module(modules_of_commands()[command]).parser()
    return frozenset(all_options(parser))


def all_options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Those of a parser, and of its sub commands."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from all_options(each)


def anchors(document: Path) -> set[str]:
    """The places in a document that a link may lead to, as GitHub calls them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text_of(document), flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short() -> None:
    assert len(text_of(Path("README.md")).splitlines()) <= MOST_README_LINES


@every_document
def test_links_lead_somewhere(document: Path) -> None:
    for target, _, anchor in re.findall(r"\]\(([^)#\s]*)(#([^)\s]+))?\)", without_urls(text_of(document))):
        path = (ROOT / document.parent / target).resolve() if target else ROOT / document
        assert path.exists(), f"{document}: there is no {target}"
        if anchor:
            assert anchor in anchors(path.relative_to(ROOT)), f"{document}: {target}#{anchor} leads to no heading"


@every_document
def test_paths_are_there(document: Path) -> None:
    # in the drawings, files of the library are named from its folder on
    bases = (ROOT, ROOT / "detector", ROOT / document.parent)
    folders = {path.name for base in bases for path in base.iterdir() if path.is_dir()}
    text = without_urls(text_of(document))
    named = re.findall(r"(?<![\w/.:{-])((?:\.?[\w-]+/)+[\w.-]*|[\w-]+\.py)", text)
    for name in {name.rstrip(".") for name in named}:
        if name.startswith((OWN, ".venv/")) or ("/" in name and name.split("/")[0] not in folders):
            continue
        assert any((base / name).exists() for base in bases), f"{document}: there is no {name}"


@every_document
def test_commands_know_their_options(document: Path) -> None:
    for command, *words in command_lines(text_of(document)):
        assert command == "tools/benchmark.py" or command in modules_of_commands(), f"{document}: no command {command}"
        used = {word for each in words if (word := each.strip("[]().,").split("=")[0]).startswith("--")}
        known = options_of(command, words[0]) if used else used
        assert used <= known, f"{document}: {command} has no {', '.join(used - known)}"


@every_document
def test_options_alone_are_those_of_some_command(document: Path) -> None:
    alone = set(re.findall(r"`(--[\w-]+)", text_of(document)))
    known = {option for command in modules_of_commands() for option in options_of(command, "")} if alone else alone
    assert alone <= known, f"{document}: no command has {', '.join(alone - known)}"


@every_document
def test_recipes_are_there(document: Path) -> None:
    for command, *words in command_lines(text_of(document)):
        if command in ("spp train", "spp cache", "spp compare") and words:
            recipe = words[0]
            if re.fullmatch(r"\w+", recipe) and recipe.islower():
                assert (ROOT / "configs" / f"{recipe}.yaml").exists(), f"{document}: there is no recipe {recipe}"


@every_document
def test_python_imports_what_there_is(document: Path) -> None:
    for block in blocks(text_of(document), "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("detector"):
                path = ROOT / Path(*node.module.split("."))
                file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
                tree = ast.parse(file.read_text(encoding="utf-8"))
                names = {getattr(each, "name", "") for each in tree.body}
                names |= {node.id for each in tree.body for node in ast.walk(each) if isinstance(node, ast.Name)}
                for alias in node.names:
                    assert alias.name in names, f"{document}: {node.module} has no {alias.name}"
