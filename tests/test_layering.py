"""Direction of imports in the library, read from every module, imports inside functions included."""

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

# From the ground up: a package or module, and those that it may import, all of which are listed above it. A missing
# entry is forbidden on purpose: below `build`, only `training` knows recipes, and detection needs no training.
PACKAGES = {
    "runtime": "",
    "parallel": "runtime",
    "boxes": "",
    "tiles": "boxes",
    "images": "runtime boxes",
    "datasets": "runtime boxes tiles images",
    "detections": "runtime boxes images",
    "results": "runtime boxes images datasets detections",
    "proposals": "runtime boxes images",
    "model_file": "runtime",
    "backbones": "runtime images model_file",
    "features": "runtime parallel boxes tiles images datasets backbones",
    "heads": "runtime boxes tiles detections features",
    "config": "runtime tiles features model_file",
    "build": "boxes proposals backbones features heads config model_file",
    "thresholds": "tiles detections heads",
    "detection_model": "boxes tiles images detections heads thresholds",
    "scoring": "runtime boxes tiles images datasets detections features heads config build thresholds",
    "pipeline": "runtime boxes tiles images datasets detections features heads model_file build scoring thresholds "
    "detection_model",
    "ensemble": "runtime boxes tiles images datasets detections features heads thresholds scoring detection_model "
    "pipeline",
    "explanation": "boxes tiles images datasets detections backbones features heads thresholds scoring pipeline "
    "ensemble",
    "evaluation": "runtime boxes datasets detections",
    "report": "runtime boxes images datasets detections results explanation evaluation",
    "training": "runtime parallel boxes tiles images datasets detections backbones features heads config model_file "
    "build scoring pipeline evaluation",
    "classification": "runtime boxes images datasets backbones features config model_file training",
    "runs": "runtime parallel boxes tiles images datasets detections results proposals features config model_file "
    "build thresholds scoring pipeline ensemble explanation evaluation report training",
    "teaching": "runtime boxes images datasets detections features heads config model_file build pipeline evaluation "
    "training runs",
    "web": "runtime parallel boxes tiles images detections proposals features thresholds pipeline ensemble explanation "
    "teaching",
    "cli": "runtime parallel boxes tiles images datasets detections results proposals features config model_file build "
    "thresholds pipeline ensemble explanation evaluation report training classification runs teaching web",
    "__main__": "cli",
}

# Packages that are slow to import or optional, and the packages of the library that may import them at module level.
AT_TOP = {
    "torch": "backbones features heads training classification",
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
# Modules and packages whose import may import torch; everything else must work without it.
NEEDS_TORCH = (
    *("backbones.loading", "backbones.networks", "backbones.splitting", "backbones.torch_backbone"),
    *("backbones.tracing", "backbones.truncation", "classification.", "features.pyramid_layer", "heads.torch_layers"),
    *("training.end_to_end.", "training.gradient_descent"),
)
MAX_LINES = 400
MAX_MODULES = 246
MAX_ENTRIES = {"training": 25, "cli": 25}


class Import(NamedTuple):
    """Import of ``name`` in ``module``; ``at_top``: executed when the module is imported."""

    module: str
    name: str
    at_top: bool

    def __str__(self) -> str:
        return f"{self.module} imports {self.name}"


def read_library() -> dict[str, str]:
    """Return the source of every module by name, such as "features.encoder", without ``__init__`` modules."""
    paths = (path for path in LIBRARY.rglob("*.py") if path.name != "__init__.py")
    return {".".join(path.relative_to(LIBRARY).with_suffix("").parts): path.read_text("utf-8") for path in paths}


@cache
def imports_of(module: str, source: str) -> tuple[Import, ...]:
    """Return the imports of a module: names in the library ("features.encoder") or of packages ("torch.nn")."""
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
    """Return whether the body of a node runs after the import of the module, or never."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def inside(modules: Mapping[str, str]) -> list[Import]:
    """Return the imports between modules of the library, imports of types included."""
    found = []
    for module, source in modules.items():
        for each in imports_of(module, source):
            name = each.name if each.name in modules else each.name.rpartition(".")[0]
            if name in modules and name != module:
                found.append(each._replace(name=name))
    return found


def package_of(module: str) -> str:
    return module.partition(".")[0]


def forbidden(modules: Mapping[str, str]) -> list[str]:
    """Return the imports that the table does not allow."""
    return [
        str(each)
        for each in inside(modules)
        if package_of(each.name) != package_of(each.module)
        and package_of(each.name) not in PACKAGES[package_of(each.module)].split()
    ]


def circle(modules: Mapping[str, str]) -> list[str]:
    """Return modules that import each other, the first one again at the end; none without such a circle."""
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
    """Return the module-level imports of packages that must be imported where they are used."""
    return [
        str(each)
        for module, source in modules.items()
        for each in imports_of(module, source)
        if each.at_top
        and package_of(each.name) in AT_TOP
        and package_of(module) not in AT_TOP[package_of(each.name)].split()
    ]


def loads(modules: Mapping[str, str], package: str) -> set[str]:
    """Return the modules whose import imports a package, directly or indirectly."""
    found = {
        module
        for module, source in modules.items()
        if any(each.at_top and package_of(each.name) == package for each in imports_of(module, source))
    }
    importers = [each for each in inside(modules) if each.at_top]
    while more := {each.module for each in importers if each.name in found} - found:
        found |= more
    return found


@pytest.fixture(scope="module")
def library() -> dict[str, str]:
    return read_library()


def test_the_table_leads_from_the_ground_up(library: dict[str, str]) -> None:
    order = list(PACKAGES)
    for name, allowed in PACKAGES.items():
        assert set(allowed.split()) <= set(order[: order.index(name)]), name
    assert {package_of(module) for module in library} <= set(PACKAGES)


def test_nothing_is_imported_that_the_table_does_not_allow(library: dict[str, str]) -> None:
    assert forbidden(library) == []


def test_no_modules_import_each_other(library: dict[str, str]) -> None:
    assert circle(library) == []


def test_what_takes_long_is_imported_where_it_is_used(library: dict[str, str]) -> None:
    assert too_early(library) == []
    # a wrong option is reported at once
    commands = {module for module in library if package_of(module) == "cli"}
    for package in ("torch", "pycocotools", "sklearn", "skimage", "starlette"):
        assert commands & loads(library, package) == set(), package


def test_torch_is_imported_only_where_it_is_needed(library: dict[str, str]) -> None:
    assert [module for module in loads(library, "torch") if not module.startswith(NEEDS_TORCH)] == []
    assert all(any(module.startswith(name) for module in library) for name in NEEDS_TORCH)


def test_modules_are_few_and_short(library: dict[str, str]) -> None:
    lengths = {module: source.count("\n") for module, source in library.items()}
    assert {module: n for module, n in lengths.items() if n > MAX_LINES} == {}
    assert len([*LIBRARY.rglob("*.py")]) <= MAX_MODULES
    for package, limit in MAX_ENTRIES.items():
        assert len([path for path in (LIBRARY / package).iterdir() if path.name != "__pycache__"]) <= limit, package


def test_no_test_module_imports_another() -> None:
    modules = {str(path.relative_to(TESTS)): path.read_text("utf-8") for path in TESTS.rglob("*.py")}
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
        "cli.c": "import detector.heads.d\ndef g():\n    import torch",
        "heads.d": "import torch.nn",
        "proposals.e": "from skimage.segmentation import felzenszwalb\nimport torch",
    }
    assert forbidden(modules) == ["cli.c imports heads.d"]
    assert set(circle(modules)) == {"images.a", "images.b"}
    assert too_early(modules) == ["proposals.e imports skimage.segmentation.felzenszwalb", "proposals.e imports torch"]
    assert loads(modules, "torch") == {"cli.c", "heads.d", "proposals.e"}
