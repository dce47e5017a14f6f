"""A real browser for the tests of pages, and a Label Studio that is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # it imports torch, which not every test here needs
    from tests.web.label_studios import FakeLabelStudio


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="tests in a browser need the extra [web-test]")
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        # its sandbox does not work for root, as in containers
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def studio() -> Iterator[FakeLabelStudio]:
    from tests.web.label_studios import fake_label_studio

    with fake_label_studio() as studio:
        yield studio
