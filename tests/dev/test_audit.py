"""The audit: licenses that are refused, the bill of materials, and that there are no findings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dev.audit import BILL, LOCK, forbidden, main, with_licenses


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("MIT License", True),
        ("Apache-2.0 WITH LLVM-exception AND BSD-3-Clause", True),
        ("Mozilla Public License 2.0 (MPL 2.0)", True),
        ("GNU General Public License v3 (GPLv3)", False),
        ("MIT AND LGPL-2.1-or-later", False),
        ("AGPL-3.0", False),
        ("Creative Commons, non-commercial", False),
        ("UNKNOWN", False),
        ("SUMMIT", False),
        ("", False),
    ],
)
def test_licenses_that_are_allowed(text: str, allowed: bool) -> None:
    found = forbidden({"fine": "MIT", "each": text})
    assert (found == []) == allowed
    assert allowed or found[0].startswith(f"each: license {text!r} is not allowed")


def test_a_bill_takes_licenses_by_normalized_name() -> None:
    bill = {"version": 1, "components": [{"name": "Types_PyYAML"}, {"name": "absent"}]}
    licenses = [{"license": {"name": "Apache"}}]
    filled = with_licenses(bill, {"types-pyyaml": "Apache"})
    assert filled == {"version": 1, "components": [{"name": "Types_PyYAML", "licenses": licenses}, {"name": "absent"}]}


@pytest.mark.all
def test_there_are_no_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("bandit", "cyclonedx_py", "piplicenses"):
        pytest.importorskip(package)
    assert main([str(tmp_path)]) == 0, capsys.readouterr().out
    locked = set(re.findall(r"^([\w.-]+)==(\S+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE))
    bill = json.loads((tmp_path / BILL).read_text(encoding="utf-8"))
    assert bill["bomFormat"] == "CycloneDX"
    assert {(each["name"], each["version"]) for each in bill["components"]} == locked
    for each in bill["components"]:
        hashes = [one for reference in each["externalReferences"] for one in reference.get("hashes", ())]
        assert hashes and all(one["alg"] == "SHA-256" for one in hashes)
