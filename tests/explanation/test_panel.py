"""The panel of a box: legible for any box, level and name, and true to its numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detector.boxes import as_boxes
from detector.explanation import panel
from detector.explanation.attribution import Attribution
from detector.explanation.explainer import explain
from detector.explanation.panel import AGAINST, FOR, Canvas, draw_panel, signed, tint
from detector.images.drawing import class_color
from tests.explanation.models import KINDS, random_detector, random_image


def attribution(kind: str) -> Attribution:
    detector, image = random_detector(1, **KINDS[kind]), random_image(1)
    return explain(detector, image, detector.detect(image))[0]


def test_a_panel_shows_every_number_once(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = Canvas.write

    def listen(self: Canvas, text: str, *place: Any, **style: Any) -> float:
        written.append(text)
        return write(self, text, *place, **style)

    monkeypatch.setattr(panel.Canvas, "write", listen)
    one = attribution("refined")
    drawn = draw_panel(random_image(1), one, class_color(0), "found: a detection covers it")
    assert drawn.shape[1:] == (1200, 3)
    assert drawn.dtype == np.uint8
    for n, grid in one.levels.items():
        assert f"{n} x {n}" in written
        for value in grid.ravel():
            assert signed(value) in written
    assert f"= bias {signed(one.bias)}" in written
    assert "found: a detection covers it" in written
    x1, _, x2, _ = one.positions[0].cells
    assert any(text.startswith(f"{x1}-{x2 - 1} of ") for text in written)


@pytest.mark.parametrize(
    "box",
    [[0, 0, 180, 120], [179, 119, 180, 120], [0, 0, 0.2, 120], [10, 10, 170, 10.4], [50, 50, 50, 50], [-9, 0, 5, 500]],
)
def test_any_box_has_a_panel(box: list[float]) -> None:
    one = replace(attribution("pooled"), box=as_boxes([box])[0], class_name="café 猫 / <b> " * 9)
    assert draw_panel(random_image(1), one, class_color(0)).ndim == 3


def test_pixels_are_tinted_by_the_sign_of_their_attribution() -> None:
    image = np.full((1, 3, 3), 255, np.uint8)
    left, middle, right = tint(image, np.array([[1.0, 0.0, -1.0]]))[0].astype(int)
    assert middle.tolist() == [255, 255, 255]
    assert np.abs(left - FOR).max() < 40
    assert np.abs(right - AGAINST).max() < 40


def test_numbers_have_signs() -> None:
    assert [signed(value) for value in (0.123, -0.126, 0.001, -0.001, 0.0, 12)] == [
        "+0.12",
        "-0.13",
        "0",
        "0",
        "0",
        "+12.00",
    ]
