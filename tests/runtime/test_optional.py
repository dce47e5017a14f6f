"""What an extra brings, and the line that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.runtime.optional import MissingPackageError, optional


def test_a_package_that_is_there() -> None:
    assert optional("json.decoder", "coco").JSONDecoder().decode("[1]") == [1]


def test_a_package_that_is_missing() -> None:
    with pytest.raises(MissingPackageError, match=r"^nowhere is not installed: pip install 'spp-detector\[coco\]'$"):
        optional("nowhere.below", "coco")


def test_what_an_installed_package_lacks_is_not_blamed_on_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_there.py").write_text("import nowhere")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nowhere") as error:
        optional("half_there", "coco")
    assert not isinstance(error.value, MissingPackageError)
