"""Describe what a result was made with: command line, versions, machine and memory."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from detector import __version__

_PACKAGES = (
    "torch",
    "openvino",
    "numpy",
    "numba",
    "opencv-python",
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
