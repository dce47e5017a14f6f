"""Teach a detector in a real browser: from nothing to a model, through a crash, by keys, on a phone, in the dark."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from detector.boxes import as_boxes, iou
from detector.datasets.loading import load_dataset
from tests.web.browsing import CONTRAST
from tests.web.teaching import teaching, write_boards

pytestmark = pytest.mark.all
WAIT = 60_000
NAMELESS = "[...document.querySelectorAll('button')].filter(b => !(b.innerText || b.ariaLabel || b.title)).length"
SUGGESTED = """() => fetch("teach/state").then((answer) => answer.json())
    .then(({ round }) => document.querySelector("#easel").dataset.round === String(round.round))"""
Pieces = dict[str, list[tuple[str, list[int]]]]


class Person:
    """A page, and what a person does on it; requests of other hosts and errors of scripts are kept."""

    def __init__(self, browser: Any, url: str, **settings: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **settings})
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self._check(url, request.url))
        self.page.goto(url)
        self.page.wait_for_selector(".paper:not([hidden])", timeout=WAIT)
        if self.page.locator("#help[open]").count():
            self.page.click("#help-close")

    def _check(self, own: str, asked: str) -> None:
        if urlsplit(asked).netloc != urlsplit(own).netloc:
            self.faults.append(f"asked {asked}")

    @property
    def image(self) -> str:
        return str(self.page.get_attribute("#easel", "aria-label").split(",")[0])

    def name(self, class_name: str) -> None:
        self.page.focus("#easel")
        self.page.keyboard.press("Escape")  # or the selected box gets the name
        known = self.page.locator(f"#classes .class:has-text('{class_name}')")
        if known.count():
            known.click()
        else:
            self.page.fill("#class-name", class_name)
            self.page.press("#class-name", "Enter")

    def draw(self, corners: list[int]) -> None:
        place = self.page.locator(".paper svg").bounding_box()
        zoom = place["width"] / 320
        self.page.keyboard.press("Escape")
        self.page.mouse.move(place["x"] + corners[0] * zoom, place["y"] + corners[1] * zoom)
        self.page.mouse.down()
        self.page.mouse.move(place["x"] + corners[2] * zoom, place["y"] + corners[3] * zoom, steps=3)
        self.page.mouse.up()

    def rows(self, suggested: bool) -> list[tuple[int, str, list[float]]]:
        """Return number, class and corners of the boxes or suggestions on the image."""
        found = self.page.eval_on_selector_all(
            f".box[data-suggested={json.dumps(suggested)}]",
            "groups => groups.map(({dataset: {row, label, box}}) => [Number(row), label, box.split(',').map(Number)])",
        )
        return [tuple(each) for each in sorted(found)]

    def label(self, pieces: list[tuple[str, list[int]]]) -> int:
        """Label an image: reject wrong suggestions, accept right ones, draw the rest; return the number accepted."""
        while wrong := [row for row, name, box in self.rows(True) if not _is_right(name, box, pieces)]:
            self.page.locator("#boxes li").nth(wrong[0]).locator("text=Reject").click()
        accepted = len(self.rows(True))
        if accepted:
            self.page.click("#accept-all")
        for name, corners in pieces:
            if not any(_is_right(name, corners, [(own, box)]) for _, own, box in self.rows(False)):
                self.name(name)
                self.draw(corners)
        return accepted

    def finish(self) -> None:
        before = self.image
        self.page.click("#done")
        self.page.wait_for_function("name => !document.querySelector('#easel').ariaLabel.startsWith(name)", arg=before)
        self.page.wait_for_selector("#saved:has-text('Saved')")

    def wait_for_round(self, n_images: int) -> None:
        noun = "image," if n_images == 1 else "images,"
        self.page.wait_for_selector(f"#model:has-text('Learned from {n_images} {noun}')", timeout=WAIT)


def _is_right(name: str, corners: Any, pieces: Any) -> bool:
    truth = as_boxes([box for own, box in pieces if own == name]).reshape(-1, 4)
    return bool(len(truth) and iou(as_boxes([corners]), truth).max() > 0.6)


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
        assert person.faults == []
    assert n_accepted >= 10  # of 36 objects
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
        assert _is_right("piece", person.rows(False)[1][2], [("piece", pieces[name][1][1])])
        person.page.click("#similar")
        person.page.wait_for_selector("#similar-list button", timeout=WAIT)
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
