"""Documents name existing paths, links, commands, options, recipes and imports."""

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
    for pattern in ("*.md", "docs/*.md", "configs/README.md", "data/**/README.md")
    for path in ROOT.glob(pattern)
)
MAX_README_LINES = 130
OWN_DATA = "data/VOC2007"  # in examples, brought by the user

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=str)


def text_of(document: Path) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def without_urls(text: str) -> str:
    return re.sub(r"https?://\S+", "", text)


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def command_lines(text: str) -> list[list[str]]:
    """Return the words of each command of the project, in shell blocks (without comments) and between backticks."""
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
    """Return the long options of a command, or of one benchmark."""
    if command == "tools/benchmark.py":
        file = "detection" if stage == "detect" else stage.replace("-", "_")
        parser = argparse.ArgumentParser()
        import_module(f"benchmarks.{file}").add_options(parser)
        return frozenset(all_options(parser))
    parser = import_module(modules_of_commands()[command]).parser()
    return frozenset(all_options(parser))


def all_options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the options of a parser and of its subcommands."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from all_options(each)


def anchors(document: Path) -> set[str]:
    """Return the anchors of the headings of a document, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text_of(document), flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_readme_is_short() -> None:
    assert len(text_of(Path("README.md")).splitlines()) <= MAX_README_LINES


@every_document
def test_links_have_targets(document: Path) -> None:
    for target, _, anchor in re.findall(r"\]\(([^)#\s]*)(#([^)\s]+))?\)", without_urls(text_of(document))):
        path = (ROOT / document.parent / target).resolve() if target else ROOT / document
        assert path.exists(), f"{document}: there is no {target}"
        if anchor:
            assert anchor in anchors(path.relative_to(ROOT)), f"{document}: {target}#{anchor} leads to no heading"


@every_document
def test_paths_exist(document: Path) -> None:
    # drawings name files of the library relative to its folder
    bases = (ROOT, ROOT / "detector", ROOT / document.parent)
    folders = {path.name for base in bases for path in base.iterdir() if path.is_dir()}
    text = without_urls(text_of(document))
    named = re.findall(r"(?<![\w/.:{-])((?:\.?[\w-]+/)+[\w.-]*|[\w-]+\.py\b)", text)
    for name in {name.rstrip(".") for name in named}:
        if name.startswith((OWN_DATA, ".venv/")) or ("/" in name and name.split("/")[0] not in folders):
            continue
        assert any((base / name).exists() for base in bases), f"{document}: there is no {name}"


@every_document
def test_commands_have_the_named_options(document: Path) -> None:
    for command, *words in command_lines(text_of(document)):
        assert command == "tools/benchmark.py" or command in modules_of_commands(), f"{document}: no command {command}"
        used = {word for each in words if (word := each.strip("[]().,").split("=")[0]).startswith("--")}
        known = options_of(command, words[0]) if used else used
        assert used <= known, f"{document}: {command} has no {', '.join(used - known)}"


@every_document
def test_options_without_a_command_exist(document: Path) -> None:
    alone = set(re.findall(r"`(--[\w-]+)", text_of(document)))
    known = {option for command in modules_of_commands() for option in options_of(command, "")} if alone else alone
    assert alone <= known, f"{document}: no command has {', '.join(alone - known)}"


@every_document
def test_recipes_exist(document: Path) -> None:
    for command, *words in command_lines(text_of(document)):
        if command in ("spp train", "spp cache", "spp compare") and words:
            recipe = words[0]
            if re.fullmatch(r"\w+", recipe) and recipe.islower():
                assert (ROOT / "configs" / f"{recipe}.yaml").exists(), f"{document}: there is no recipe {recipe}"


@every_document
def test_imports_in_examples_exist(document: Path) -> None:
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
