"""Who may import whom in the library, read from the imports of every module, those inside functions included."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

LIBRARY = Path(__file__).parents[1] / "detector"
TESTS = Path(__file__).parent

# From the ground up: a room, and the rooms that it may import besides itself, all of which stand above it here. What
# is missing is forbidden on purpose: stages know no recipe (config), detection needs no training.
ROOMS = {
    "runtime": "",
    "boxes": "",
    "images": "runtime boxes",
    "datasets": "runtime boxes images",
    "detections": "runtime boxes images",
    "results": "runtime boxes images datasets detections",
    "proposals": "runtime boxes images",
    "backbones": "runtime images",
    "features": "runtime boxes images datasets backbones",
    "heads": "runtime boxes detections features",
    "config": "runtime features",
    "model_file": "runtime",
    "stages": "boxes proposals backbones features heads config model_file",
    "joint_detection": "runtime boxes images detections features heads config stages",
    "explanation": "boxes images detections backbones features heads joint_detection",
    "pipeline": "runtime boxes images datasets detections features heads config model_file stages joint_detection "
    "explanation",
    "ensemble": "runtime boxes images datasets detections features heads joint_detection explanation pipeline",
    "evaluation": "runtime boxes datasets detections",
    "report": "runtime boxes images datasets detections evaluation",
    "training": "runtime boxes images datasets detections backbones features heads config stages pipeline evaluation",
    "classification": "runtime boxes images backbones features config model_file training",
    "web": "runtime boxes images detections features pipeline ensemble explanation",
    "commands": "runtime boxes images datasets detections results proposals features config model_file stages pipeline "
    "ensemble training evaluation explanation classification report web",
}

# What takes long to import, or is not installed everywhere, and the rooms that may do so before a function needs it.
AT_TOP = {
    "torch": "backbones features heads training explanation classification",
    "openvino": "",
    "pycocotools": "",
    "matplotlib": "",
    "jinja2": "",
    "sklearn": "",
    "timm": "",
    "torchvision": "",
    "ray": "",
    "starlette": "web",
    "skimage": "",
}
MOST_LINES = 250
MOST_ENTRIES = 9


class Import(NamedTuple):
    """A line of ``module`` that imports ``name``; ``at_top``: when the module itself is imported."""

    module: str
    name: str
    at_top: bool

    def __str__(self) -> str:
        return f"{self.module} imports {self.name}"


def read_library() -> dict[str, str]:
    """The source of every module by its name, such as "features.encoder"; packages' own are left out."""
    paths = (path for path in LIBRARY.rglob("*.py") if path.name != "__init__.py")
    return {".".join(path.relative_to(LIBRARY).with_suffix("").parts): path.read_text("utf-8") for path in paths}


@cache
def imports_of(module: str, source: str) -> tuple[Import, ...]:
    """Names are those of modules of the library ("features.encoder", "boxes") or of packages ("torch.nn")."""
    tree, found = ast.parse(source), []
    later = {node for each in ast.walk(tree) if is_later(each) for node in ast.walk(each)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports are not read"
            # what is imported may be a module itself
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found += [Import(module, name.removeprefix("detector."), node not in later) for name in names]
    return tuple(found)


def is_later(node: ast.AST) -> bool:
    """Whether what is inside runs after the import of the module, or never."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def inside(modules: Mapping[str, str]) -> list[Import]:
    """Imports of modules of the library by others, types included: who knows a type knows its room."""
    found = []
    for module, source in modules.items():
        for each in imports_of(module, source):
            name = each.name if each.name in modules else each.name.rpartition(".")[0]
            if name in modules and name != module:
                found.append(each._replace(name=name))
    return found


def room(module: str) -> str:
    return module.partition(".")[0]


def forbidden(modules: Mapping[str, str]) -> list[str]:
    """Imports that the table does not allow."""
    return [
        str(each)
        for each in inside(modules)
        if room(each.name) != room(each.module) and room(each.name) not in ROOMS[room(each.module)].split()
    ]


def circle(modules: Mapping[str, str]) -> list[str]:
    """Modules that import each other, the first one again at the end; none if there is no such circle."""
    graph: dict[str, set[str]] = {}
    for each in inside(modules):
        graph.setdefault(each.module, set()).add(each.name)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def too_early(modules: Mapping[str, str]) -> list[str]:
    """Imports at module level of packages that are to be imported where they are used."""
    return [
        str(each)
        for module, source in modules.items()
        for each in imports_of(module, source)
        if each.at_top and room(each.name) in AT_TOP and room(module) not in AT_TOP[room(each.name)].split()
    ]


def loads(modules: Mapping[str, str], package: str) -> set[str]:
    """Modules whose import imports a package, by themselves or by what they import."""
    found = {
        module
        for module, source in modules.items()
        if any(each.at_top and room(each.name) == package for each in imports_of(module, source))
    }
    importers = [each for each in inside(modules) if each.at_top]
    while more := {each.module for each in importers if each.name in found} - found:
        found |= more
    return found


@pytest.fixture(scope="module")
def library() -> dict[str, str]:
    return read_library()


def test_the_table_leads_from_the_ground_up(library: dict[str, str]) -> None:
    order = list(ROOMS)
    for name, allowed in ROOMS.items():
        assert set(allowed.split()) <= set(order[: order.index(name)]), name
    assert {room(module) for module in library} <= set(ROOMS)


def test_nothing_is_imported_that_the_table_does_not_allow(library: dict[str, str]) -> None:
    assert forbidden(library) == []


def test_no_modules_import_each_other(library: dict[str, str]) -> None:
    assert circle(library) == []


def test_what_takes_long_is_imported_where_it_is_used(library: dict[str, str]) -> None:
    assert too_early(library) == []
    # a mistake in an option is told at once
    commands = {module for module in library if room(module) == "commands"}
    for package in ("torch", "pycocotools", "sklearn", "skimage", "starlette"):
        assert commands & loads(library, package) == set(), package


def test_detection_by_openvino_imports_no_torch(library: dict[str, str]) -> None:
    assert {"pipeline", "ensemble", "features.feature_cache", "backbones.runtimes"} & loads(library, "torch") == set()


def test_files_are_short_and_few_stand_at_the_top(library: dict[str, str]) -> None:
    lengths = {module: source.count("\n") for module, source in library.items()}
    assert {module: n for module, n in lengths.items() if n > MOST_LINES} == {}
    top = [path.name for path in LIBRARY.iterdir() if path.is_file() and not path.name.startswith(".")]
    assert len(top) <= MOST_ENTRIES, sorted(top)


def test_tests_are_short_and_none_imports_another() -> None:
    modules = {str(path.relative_to(TESTS)): path.read_text("utf-8") for path in TESTS.rglob("*.py")}
    assert {module: n for module, each in modules.items() if (n := each.count("\n")) > MOST_LINES} == {}
    found = [each for module, source in modules.items() for each in imports_of(module, source)]
    assert [each for each in found if re.match(r"tests\..*\btest_", each.name)] == []


@pytest.mark.parametrize(
    "line",
    [
        "from detector.pipeline import Detector",
        "from detector import pipeline",
        "import detector.pipeline",
        "def f():\n    from detector.pipeline import Detector",
        "if TYPE_CHECKING:\n    from detector.pipeline import Detector",
    ],
)
def test_an_import_upwards_is_found_wherever_it_stands(library: dict[str, str], line: str) -> None:
    changed = {**library, "features.mapping": f"{library['features.mapping']}\n{line}\n"}
    assert forbidden(changed) == ["features.mapping imports pipeline"]
    assert {"features.mapping", "pipeline"} <= set(circle(changed))


def test_circles_inside_a_room_and_early_imports_are_found() -> None:
    modules = {
        "images.a": "def f():\n    from detector.images import b",
        "images.b": "from detector.images.a import f",
        "commands.c": "import detector.heads.d\ndef g():\n    import torch",
        "heads.d": "import torch.nn",
        "proposals.e": "from skimage.segmentation import felzenszwalb\nimport torch",
    }
    assert forbidden(modules) == ["commands.c imports heads.d"]
    assert set(circle(modules)) == {"images.a", "images.b"}
    assert too_early(modules) == ["proposals.e imports skimage.segmentation.felzenszwalb", "proposals.e imports torch"]
    assert loads(modules, "torch") == {"commands.c", "heads.d", "proposals.e"}
