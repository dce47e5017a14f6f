"""A person at the page of `spp teach`: what is done with mouse and keys, and how long it would take."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

from detector.boxes import as_boxes, iou

WAIT = 60_000
SUGGESTED = """() => fetch("teach/state").then((answer) => answer.json())
    .then(({ round }) => document.querySelector("#easel").dataset.round === String(round.round))"""
"""JavaScript that checks that the suggestions in view are of the newest round."""
SECONDS = {
    "look": 3.0,
    "accept": 0.7,
    "reject": 1.5,
    "click": 1.5,
    "undo": 0.7,
    "drag": 3.0,
    "choose": 1.2,
    "name": 4.0,
    "done": 1.0,
}
"""Seconds that a person takes for an action; to accept one suggestion means to look at it."""
Pieces = list[tuple[str, list[int]]]
"""Class names and corners of the objects of an image."""


class Person:
    """A page, and what a person does on it; requests of other hosts and errors of scripts are kept."""

    def __init__(self, browser: Any, url: str, **settings: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **settings})
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.actions: Counter[str] = Counter()
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self._check(url, request.url))
        self.page.goto(url)
        self.page.wait_for_selector(".paper:not([hidden])", timeout=WAIT)
        if self.page.locator("#help[open]").count():
            self.page.click("#help-close")

    @property
    def seconds(self) -> float:
        """Time that a person would have taken so far."""
        return sum(SECONDS[action] * count for action, count in self.actions.items())

    def _check(self, own: str, asked: str) -> None:
        if urlsplit(asked).netloc != urlsplit(own).netloc:
            self.faults.append(f"asked {asked}")

    @property
    def image(self) -> str:
        return str(self.page.get_attribute("#easel", "aria-label").split(",")[0])

    def name(self, class_name: str) -> None:
        self.page.focus("#easel")
        self.page.keyboard.press("Escape")  # or the selected box gets the name
        known = self.page.locator("#classes .class", has=self.page.get_by_text(class_name, exact=True))
        if known.count():
            if known.first.get_attribute("aria-pressed") != "true":
                known.first.click()
                self.actions["choose"] += 1
        else:
            self.page.fill("#class-name", class_name)
            self.page.press("#class-name", "Enter")
            self.actions["name"] += 1

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return where a pixel of the image is in the window."""
        place = self.page.locator(".paper svg").bounding_box()
        width = float(self.page.get_attribute(".paper svg", "viewBox").split()[2])
        return place["x"] + x * place["width"] / width, place["y"] + y * place["width"] / width

    def draw(self, corners: list[int]) -> None:
        self.page.keyboard.press("Escape")
        self.page.mouse.move(*self.at(*corners[:2]))
        self.page.mouse.down()
        self.page.mouse.move(*self.at(*corners[2:]), steps=3)
        self.page.mouse.up()
        self.actions["drag"] += 1

    def snap(self, name: str, corners: list[int]) -> bool:
        """Click in the middle of an object; undo it and return False where the box does not fit it."""
        before = len(self.rows(False))
        self.page.keyboard.press("Escape")
        self.page.mouse.click(*self.at((corners[0] + corners[2]) / 2, (corners[1] + corners[3]) / 2))
        self.actions["click"] += 1
        boxes = self.rows(False)
        if len(boxes) > before and is_right(name, boxes[-1][2], [(name, corners)]):
            return True
        if len(boxes) > before:
            self.page.keyboard.press("Control+z")
            self.actions["undo"] += 1
        return False

    def rows(self, suggested: bool) -> list[tuple[int, str, list[float]]]:
        """Return number, class and corners of the boxes or suggestions on the image."""
        found = self.page.eval_on_selector_all(
            f".box[data-suggested={json.dumps(suggested)}]",
            "groups => groups.map(({dataset: {row, label, box}}) => [Number(row), label, box.split(',').map(Number)])",
        )
        return [tuple(each) for each in sorted(found)]

    def label(self, pieces: Pieces, magnet: bool = False) -> int:
        """Label an image: reject wrong suggestions, accept right ones, draw the rest; return the number accepted.

        With the ``magnet``, objects are first clicked on, and drawn where no proposal fits.
        """
        self.actions["look"] += 1
        while wrong := [row for row, name, box in self.rows(True) if not is_right(name, box, pieces)]:
            self.page.locator("#boxes li").nth(wrong[0]).locator("text=Reject").click()
            self.actions["reject"] += 1
        accepted = len(self.rows(True))
        self.actions["accept"] += accepted
        if accepted:
            self.page.click("#accept-all")
        for name, corners in sorted(pieces):
            if not any(is_right(name, corners, [(own, box)]) for _, own, box in self.rows(False)):
                self.name(name)
                if not (magnet and self.snap(name, corners)):
                    self.draw(corners)
        return accepted

    def finish(self) -> None:
        before = self.image
        self.page.click("#done")
        self.actions["done"] += 1
        self.page.wait_for_function("name => !document.querySelector('#easel').ariaLabel.startsWith(name)", arg=before)
        self.page.wait_for_selector("#saved:has-text('Saved')")

    def wait_for_round(self, n_images: int) -> None:
        noun = "image," if n_images == 1 else "images,"
        self.page.wait_for_selector(f"#model:has-text('Learned from {n_images} {noun}')", timeout=WAIT)


def is_right(name: str, corners: Any, pieces: Any) -> bool:
    truth = as_boxes([box for own, box in pieces if own == name]).reshape(-1, 4)
    return bool(len(truth) and iou(as_boxes([corners]), truth).max() > 0.6)
