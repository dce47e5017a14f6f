"""Choose the modules and lines to mutate, and the test files that should notice."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("proposals", "features", "heads", "training", "evaluation", "datasets")

_EXPORTS = "datasets/readers/test_exports.py datasets/readers/test_broken_exports.py"

# more tests of a module than those of its own package that import it, where these are too few
TESTS = {
    "proposals.mat_files": "proposals/test_sources.py",
    "heads.torch_layers": "training/end_to_end/test_fc_layers.py heads/test_proposal_filter.py",
    "heads.calibration": "heads/test_calibration_map.py training/test_calibration.py",
    "training.checkpoints": "training/test_recipe_keys.py training/test_checkpoint_names.py",
    "training.gradient_descent": "training/end_to_end/test_fc_layers.py",
    "training.svm.training": "parallel/test_processes.py",
    "evaluation.matching": "evaluation/test_voc.py evaluation/test_outcomes.py evaluation/test_error_kinds.py",
    "datasets.dataset": "datasets/readers/test_voc.py datasets/test_check.py datasets/test_hold_out.py",
    "datasets.resolving": _EXPORTS + " datasets/test_image_finder.py datasets/test_inspection.py",
    "datasets.inspection": "datasets/test_check.py runs/test_summary.py cli/test_data_command.py",
    "datasets.format_detection": _EXPORTS,
    "datasets.records": _EXPORTS,
    "datasets.readers.box_tables": _EXPORTS + " datasets/readers/test_tables.py",
    "datasets.readers.coco": _EXPORTS,
    "datasets.readers.createml": _EXPORTS + " datasets/readers/test_json_lists.py",
    "datasets.readers.cvat": _EXPORTS + " datasets/readers/test_cvat.py",
    "datasets.readers.datumaro": _EXPORTS + " datasets/readers/test_json_lists.py",
    "datasets.readers.entries": _EXPORTS + " datasets/readers/test_json_lists.py datasets/readers/test_tables.py",
    "datasets.readers.image_folder": _EXPORTS + " datasets/readers/test_tables.py",
    "datasets.readers.label_studio": _EXPORTS + " datasets/readers/test_label_studio.py",
    "datasets.readers.labelme": _EXPORTS + " datasets/readers/test_labelme.py",
    "datasets.readers.open_images": _EXPORTS,
    "datasets.readers.shapes": _EXPORTS + " datasets/readers/test_label_studio.py datasets/readers/test_cvat.py",
    "datasets.readers.via": _EXPORTS + " datasets/readers/test_via.py",
    "datasets.readers.voc": _EXPORTS,
    "datasets.readers.vott": _EXPORTS + " datasets/readers/test_json_lists.py",
    "datasets.readers.yolo": _EXPORTS,
    "datasets.unread_formats": "datasets/test_unread_formats.py",
}
_OTHERS = ("benchmarks", "classification", "cli", "report", "web")


def modules_of(packages: Iterable[str]) -> list[Path]:
    """Return the modules of packages of the library, or single modules, relative to the repository."""
    found: list[Path] = []
    for package in packages:
        place = ROOT / "detector" / package
        found += sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    for path in found:
        if not path.is_file():
            raise SystemExit(f"there is no {path.relative_to(ROOT)}")
    return [path.relative_to(ROOT) for path in found if path.name != "__init__.py"]


def name_of(module: Path) -> str:
    """Return the import name of a module, such as ``detector.features.mapping``."""
    return ".".join(module.with_suffix("").parts)


def changed_lines(since: str) -> dict[Path, set[int]]:
    """Return the lines, from 1, of each file of the library that changed since the merge base with a git revision."""
    base = _git("merge-base", since, "HEAD").strip()
    found = lines_of_diff(_git("diff", "--unified=0", base, "--", "detector"))
    for name in _git("ls-files", "--others", "--exclude-standard", "--", "detector").splitlines():
        if name.endswith(".py"):
            found[Path(name)] = set(range(1, len((ROOT / name).read_text("utf-8").splitlines()) + 1))
    return found


def lines_of_diff(diff: str) -> dict[Path, set[int]]:
    """Return the lines of each file that a diff without context adds or changes."""
    found: dict[Path, set[int]] = {}
    lines: set[int] = set()
    for line in diff.splitlines():
        if line.startswith("+++ b/"):
            lines = found.setdefault(Path(line.removeprefix("+++ b/")), set())
        elif match := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line):
            start = int(match[1])
            lines.update(range(start, start + int(match[2] or 1)))
    return found


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    return done.stdout


def files_for(module: Path) -> list[str]:
    """Return the test files of a module: core tests that import it, or those of its package and the table."""
    name = name_of(module)
    found = [path for path, names in _imports_of_tests() if name in names]
    if named := TESTS.get(name.removeprefix("detector.")):
        own = f"tests/{module.parts[1]}/"
        return sorted({f"tests/{each}" for each in named.split()} | {path for path in found if path.startswith(own)})
    return [path for path in found if path.split("/")[1] not in _OTHERS] or found


@cache
def _imports_of_tests() -> list[tuple[str, frozenset[str]]]:
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    return [(str(path.relative_to(ROOT)), imports_of(path)) for path in paths]


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Return the names of all modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # what is imported may be a module itself
            found |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
    return frozenset(found)


def recompiled(module: Path) -> set[str]:
    """Return the modules whose compiled kernels on disk would hide a mutation of ``module``: it and its importers."""
    if "kernel" not in (ROOT / module).read_text("utf-8"):
        return set()
    found = {name_of(module)}
    library = {name_of(path): path for path in (each.relative_to(ROOT) for each in (ROOT / "detector").rglob("*.py"))}
    while more := {name for name, path in library.items() if imports_of(ROOT / path) & found} - found:
        found |= more
    return found
