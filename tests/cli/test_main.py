"""The program `spp`: its help, its version, unknown verbs, and each verb's name in its messages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from detector import __version__
from detector.cli.main import VERBS
from tests.scripts import ROOT, script, spp


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_help_lists_the_verbs_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['spp', '--help']\n"
        "from detector.cli.main import main\n"
        "try: main()\n"
        "finally: print(*{'numpy', 'cv2', 'numba', 'torch', 'pydantic', 'tqdm'} & {*sys.modules}, file=sys.stderr)"
    )
    done = python("-c", code)
    assert (done.returncode, done.stderr) == (0, "\n")
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert listed == [*VERBS]
    assert python("-m", "detector").stdout == done.stdout


@pytest.mark.parametrize(
    ("verb", "hint"), [("detct", "did you mean 'detect'?"), ("zzz", "see spp --help"), ("\t", "see spp --help")]
)
def test_an_unknown_verb_costs_one_line(verb: str, hint: str, tmp_path: Path) -> None:
    done = spp(verb, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"spp: there is no verb {verb!a}; {hint}\n"


def test_names_in_versions_and_messages(tmp_path: Path) -> None:
    assert spp("--version", cwd=tmp_path).stdout == f"spp {__version__}\n"
    assert spp("detect", "--version", cwd=tmp_path).stdout == f"spp detect {__version__}\n"
    assert spp("detect", "--nothing", cwd=tmp_path).stderr.startswith("spp detect: ")
    assert script("detect.py", "--nothing", cwd=tmp_path).stderr.startswith("detect.py: ")
    assert python("-m", "detector", "detect", "--nothing").stderr.startswith("spp detect: ")


def test_a_missing_library_of_the_system_costs_one_line(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file: No such file')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['spp', 'detect', 'a.jpg']\n"
    done = python("-c", code + "from detector.cli.main import main; main()")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "libGL.so.1" in done.stderr
    assert done.stderr.endswith("pip install --force-reinstall opencv-python-headless\n")
