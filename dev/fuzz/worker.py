"""Fuzz one target in this process: python -m dev.fuzz.worker TARGET FOLDER [OPTION OF LIBFUZZER ...]"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import atheris

# compiled code cannot be instrumented; libraries are, where the files are parsed by Python
_INSTRUMENTED = ["detector.datasets", "detector.evaluation", "detector.config", "detector.web.bodies"]
_INSTRUMENTED += ["detector.model_file", "detector.runtime.array_files", "yaml", "zipfile", "tarfile", "json"]

with atheris.instrument_imports(include=_INSTRUMENTED):
    from dev.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz until libFuzzer ends the process."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    logging.getLogger("detector").setLevel(logging.CRITICAL)
    os.environ["TMPDIR"] = str(folder)  # of unpacked archives
    atheris.Setup([sys.argv[0], *sys.argv[3:]], TARGETS[name](folder))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
