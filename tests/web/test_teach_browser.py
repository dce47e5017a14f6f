"""Teach a detector in a real browser: from nothing to a model, through a crash, by keys, on a phone, in the dark."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from detector.datasets.loading import load_dataset
from tests.web.browsing import CONTRAST
from tests.web.person import SUGGESTED, WAIT, Person, is_right
from tests.web.teaching import teaching, write_boards

pytestmark = pytest.mark.all
NAMELESS = "[...document.querySelectorAll('button')].filter(b => !(b.innerText || b.ariaLabel || b.title)).length"


def saved(project: Path) -> dict[str, list[tuple[str, list[float]]]]:
    content = json.loads((project / "labels.json").read_text(encoding="utf-8"))
    names = {each["id"]: each["name"] for each in content["categories"]}
    files = {each["id"]: each["file_name"] for each in content["images"]}
    found: dict[str, list[tuple[str, list[float]]]] = {name: [] for name in files.values()}
    for each in content["annotations"]:
        found[files[each["image_id"]]].append((names[each["category_id"]], each["bbox"]))
    return found


def test_twelve_images_from_nothing_through_a_crash(browser: Any, tmp_path: Path) -> None:
    pieces = write_boards(tmp_path / "boards", 12)
    project = tmp_path / "project"
    n_accepted = 0
    with ExitStack() as stack:
        url, process = stack.enter_context(teaching(tmp_path / "boards", project))
        person = Person(browser, url)
        for number in range(12):
            if number == 6:
                n_before = len(saved(project))
                process.kill()
                process.wait()
                url, process = stack.enter_context(teaching(tmp_path / "boards", project))
                person = Person(browser, url)
                assert len(saved(project)) == n_before == 6
                person.wait_for_round(6)
            if number:
                person.page.wait_for_function(SUGGESTED, timeout=WAIT)
            name = person.image
            n_accepted += person.label(pieces[name])
            if number < 11:
                person.finish()
                person.wait_for_round(number + 1)
            else:
                person.page.click("#done")
        person.wait_for_round(12)
        person.page.wait_for_selector("#ap:has-text('AP50')", timeout=WAIT)
        person.page.select_option("#export-format", "model")
        person.page.click("#export")
        person.page.wait_for_selector("#file-line:has-text('written to')", timeout=WAIT)
        person.page.select_option("#export-format", "report")
        person.page.click("#export")
        person.page.wait_for_selector("#file-line:has-text('exports/report')", timeout=WAIT)
        assert person.faults == []
    assert n_accepted >= 10  # of 36 objects
    assert (project / "exports" / "report" / "report.html").is_file()
    for name, boxes in saved(project).items():
        assert sorted(own for own, _ in boxes) == sorted(own for own, _ in pieces[name])
    assert len(load_dataset(project)) == 12
    _finds_pieces(project / "exports" / "model.safetensors", tmp_path / "boards" / "board_00.png")


def _finds_pieces(model: Path, image: Path) -> None:
    import detector

    assert len(detector.load(model).detect(image, min_score=0)) >= 1


def test_changes_are_undone_and_redone(browser: Any, tmp_path: Path) -> None:
    pieces = write_boards(tmp_path / "boards", 3)
    with teaching(tmp_path / "boards", tmp_path / "project") as (url, _):
        person = Person(browser, url)
        name = person.image
        person.draw(pieces[name][0][1])
        person.page.fill("#naming-name", "piece")
        person.page.keyboard.press("Enter")
        person.page.wait_for_selector(".box.lit")
        ((_, label, box),) = person.rows(False)
        assert label == "piece"
        assert box == pytest.approx(pieces[name][0][1], abs=2)
        person.page.keyboard.press("ArrowRight")
        person.page.keyboard.press("Shift+ArrowDown")
        assert person.rows(False)[0][2] == [box[0] + 1, box[1], box[2] + 1, box[3] + 1]
        person.page.keyboard.press("Delete")
        assert person.rows(False) == []
        for _ in range(3):
            person.page.keyboard.press("Control+z")
        assert person.rows(False)[0][2] == box
        person.page.keyboard.press("Control+y")
        assert person.rows(False)[0][2] == [box[0] + 1, box[1], box[2] + 1, box[3]]
        # a click inside an object snaps to a proposal around it
        person.page.keyboard.press("Escape")
        person.page.wait_for_selector("#easel[data-proposals]", timeout=WAIT)
        x1, y1, x2, y2 = pieces[name][1][1]
        place = person.page.locator(".paper svg").bounding_box()
        zoom = place["width"] / 320
        person.page.mouse.click(place["x"] + (x1 + x2) / 2 * zoom + 20, place["y"] + (y1 + y2) / 2 * zoom)
        assert is_right("piece", person.rows(False)[1][2], [("piece", pieces[name][1][1])])
        person.page.click("#similar")
        # images are sought again as they are read
        person.page.wait_for_selector("#similar-line:has-text('2 images, the most similar first')", timeout=WAIT)
        assert person.page.locator("#similar-list button").count() == 2
        person.page.wait_for_selector("#saved:has-text('Saved')")
        assert len(saved(tmp_path / "project")[name]) == 2
        assert person.faults == []


def test_keys_alone_a_phone_and_the_dark(browser: Any, tmp_path: Path) -> None:
    write_boards(tmp_path / "boards", 3)
    with teaching(tmp_path / "boards", tmp_path / "project") as (url, _):
        person = Person(browser, url)
        page, first = person.page, person.image
        page.focus("#easel")
        page.keyboard.press("b")
        page.keyboard.type("piece")
        page.keyboard.press("Enter")
        page.wait_for_selector(".box.lit")
        page.keyboard.press("Control+ArrowLeft")
        page.keyboard.press("Escape")
        page.keyboard.press("Tab")
        assert page.locator(".box.lit").count() == 1
        page.keyboard.press("d")
        page.wait_for_function("name => !document.querySelector('#easel').ariaLabel.startsWith(name)", arg=first)
        page.keyboard.press("0")
        page.wait_for_selector("#saved:has-text('Saved')")
        page.wait_for_function("() => document.querySelectorAll('#thumbnails .done').length === 2")
        ((_, box),) = saved(tmp_path / "project")[first]
        assert box == [118, 96, 64, 48]
        for settings in (
            {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
            {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
            {"color_scheme": "dark"},
        ):
            other = Person(browser, url, **settings)
            assert other.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
            assert other.page.evaluate(CONTRAST) == []
            assert other.page.evaluate(NAMELESS) == 0
            assert other.faults == []
        assert person.faults == []
