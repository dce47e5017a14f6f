"""The environment of a process: what a result was made with, and variables that libraries and children read."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from detector import __version__

_PACKAGES = (
    "torch",
    "openvino",
    "numpy",
    "numba",
    "opencv-python-headless",
    "safetensors",
    "scikit-learn",
    "timm",
    "torchvision",
)


def command_line() -> str:
    """Return the command line of this process, quoted for a shell."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def versions() -> dict[str, str]:
    """Return the versions of the program, of Python and of the installed packages that compute results."""
    found = {"spp-detector": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def peak_memory() -> int | None:
    """Return the peak memory of this process in bytes; None where the system does not say it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    # bytes on macOS, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1000)


def describe_environment() -> dict[str, Any]:
    """Return versions, machine and command as JSON-able values."""
    return {
        **versions(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "command": command_line(),
    }


class SetupError(ValueError):
    """A variable, a device or a lack of memory stops the work; no file that is read is at fault."""


SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""Variable of a Python process that is to import nothing from its working directory."""


@contextmanager
def environment_variables(changes: Mapping[str, str]) -> Iterator[None]:
    """Set variables inside the block, for libraries that read them on import and for processes that it starts."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
