"""What tests ask of a page in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def boxes(page: Any) -> list[dict[str, Any]]:
    """The boxes that are drawn over the image, as the SVG has them, best first."""
    found = page.eval_on_selector_all(
        ".box",
        """groups => groups.map(group => {
            const line = group.querySelector(".line");
            const [x, y, width, height] = ["x", "y", "width", "height"].map(name => Number(line.getAttribute(name)));
            return {label: group.dataset.label, score: Number(group.dataset.score), box: [x, y, x + width, y + height]};
        })""",
    )
    return sorted(found, key=lambda each: -each["score"])


def show(page: Any, *paths: Path) -> None:
    page.set_input_files("#files", [str(path) for path in paths])


def set_slider(page: Any, name: str, value: float) -> None:
    page.eval_on_selector(
        name, "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", value
    )


CONTRAST = """() => {
    const channel = v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    const parse = text => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
    const ground = node => {
        const layers = [];
        for (; node; node = node.parentElement) layers.push(parse(getComputedStyle(node).backgroundColor));
        return layers.reverse().reduce((below, [r, g, b, a = 1]) =>
            [r, g, b].map((value, i) => value * a + below[i] * (1 - a)), [255, 255, 255]);
    };
    const texts = [...document.querySelectorAll("body *")].filter(node => node.checkVisibility()
        && !node.closest("svg, .segments input") && !node.disabled
        && [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim()));
    return texts.map(node => {
        const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => y - x);
        return [node.textContent.trim(), (a + .05) / (b + .05)];
    }).filter(([, ratio]) => ratio < 4.5);
}"""
