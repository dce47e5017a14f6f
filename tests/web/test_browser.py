"""The page in a real browser: its functions, and that it asks no other host."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from tests.fakes import colored
from tests.images.encoded import encode
from tests.images.films import write_film
from tests.web.browsing import CONTRAST, boxes, set_slider, show
from tests.web.serving import serving

pytestmark = pytest.mark.all
playwright = pytest.importorskip("playwright.sync_api", reason="tests in a browser need the extra [web-test]")
WIDTHS = {"phone": (390, 844), "tablet": (834, 1112), "desktop": (1440, 900)}
RED = {"label": "red", "score": 150, "box": [0, 0, 64, 64]}
GREEN = {"label": "green", "score": 100, "box": [96, 0, 160, 64]}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving("fake_session") as (url, _):
        yield url


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("images")
    contents = {
        "squares.png": encode(colored(), "PNG"),
        "black.png": encode(colored() * 0, "PNG"),
        "squares.tif": encode(colored(), "TIFF"),
        "<b>broken.jpg": b"\xff\xd8\xff and no more",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    """The page, ready; any request of another host, error or violated policy fails the test."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    hosts: set[str] = set()
    faults: list[str] = []
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page.on("pageerror", lambda error: faults.append(str(error)))
    # a refused image is logged by the browser itself
    page.on(
        "console", lambda line: faults.append(line.text) if line.type == "error" and "400" not in line.text else None
    )
    page.goto(url)
    page.wait_for_selector("#model[data-state=ready]")
    yield page
    context.close()
    assert hosts - {""} <= {urlsplit(url).netloc}
    assert faults == []


def test_boxes_of_an_image_and_the_threshold(page: Any, files: dict[str, Path]) -> None:
    show(page, files["squares.png"])
    page.wait_for_selector(".box")
    assert boxes(page) == [RED, GREEN]
    assert page.inner_text("#count") == "2 of 2"
    assert page.inner_text("#status") == "Found in squares.png: red, green."
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    set_slider(page, "#threshold", 120)
    assert boxes(page) == [RED]
    set_slider(page, "#threshold", 150.1)
    assert boxes(page) == []
    assert page.is_visible("#nothing")
    page.click("#threshold-default")
    assert not page.is_visible("#threshold-default")
    assert page.inner_text("#threshold-value") == "0.00"
    page.click("#classes label:has-text('red')")
    assert boxes(page) == [GREEN]
    assert asked == []


def test_probabilities_of_a_calibrated_model(browser: Any, files: dict[str, Path]) -> None:
    with serving("calibrated_session") as (url, _):
        page = browser.new_page()
        page.goto(url)
        page.wait_for_selector("#model[data-state=ready]")
        show(page, files["squares.png"])
        page.wait_for_selector(".box")
        assert boxes(page) == [GREEN]
        assert page.text_content(".box text") == "green 50 %"
        assert page.inner_text("#found .number") == "50 %"
        assert page.inner_text("#threshold-label") == "Minimum probability"
        assert page.inner_text("#threshold-value") == "model's default"
        set_slider(page, "#threshold", 0.51)
        assert boxes(page) == [RED]
        assert page.inner_text("#threshold-value") == "51 %"
        page.click("#threshold-default")
        assert boxes(page) == [GREEN]
        page.close()


def test_hovering_and_explanations(page: Any, files: dict[str, Path]) -> None:
    show(page, files["squares.png"])
    page.hover(".box[data-label=red]")
    page.wait_for_selector(".heat.on")
    assert page.get_attribute(".box.lit", "data-label") == "red"
    page.mouse.move(2, 2)
    page.wait_for_selector(".heat:not(.on)", state="attached")
    page.click(".box[data-label=green]")
    page.wait_for_selector(".grid")
    assert page.inner_text("#explanation-title") == "Why green?"
    assert page.inner_text(".grid td") == "200.00"
    assert page.locator(".attributions dd").all_inner_texts() == ["\N{MINUS SIGN}100.00", "200.00", "100.00"]
    page.keyboard.press("Escape")
    assert not page.is_visible("#explanation")


def test_why_not(page: Any, files: dict[str, Path]) -> None:
    show(page, files["squares.png"])
    page.click("text=Draw a box")
    page.wait_for_selector(".box")
    place = page.locator(".sheet svg").bounding_box()
    zoom = place["width"] / 160
    page.mouse.move(place["x"] + 90 * zoom, place["y"] + 10 * zoom)
    page.mouse.down()
    page.mouse.move(place["x"] + 150 * zoom, place["y"] + 70 * zoom, steps=4)
    page.mouse.up()
    page.wait_for_selector(".sentence")
    corners = [int(page.input_value(f"[name={name}]")) for name in ("x1", "y1", "x2", "y2")]
    assert corners == pytest.approx([90, 10, 150, 70], abs=1)
    assert page.inner_text("#explanation-title") == "Why not red?"
    assert "best proposal" in page.inner_text(".sentence").lower()
    assert page.locator(".own").count() == 1
    assert page.locator(".nearest").get_attribute("x") == "96"
    # by keyboard alone
    page.fill("[name=x1]", "0")
    page.fill("[name=y1]", "96")
    page.fill("[name=y2]", "160")
    page.select_option("[name=class]", "green")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#explanation-title:has-text('Why not green?')")


def test_proposals(page: Any, files: dict[str, Path]) -> None:
    show(page, files["squares.png"])
    page.wait_for_selector(".box")
    page.click("text=All proposals")
    assert page.inner_text("#proposal-total") == "4 in all"
    set_slider(page, "#proposal-count", 2)
    assert page.get_attribute(".proposals", "d") == "M0 0H64V64H0ZM4 0H68V64H4Z"
    assert boxes(page) == []


def test_several_images_and_one_that_cannot_be_read(page: Any, files: dict[str, Path]) -> None:
    show(page, files["squares.png"], files["<b>broken.jpg"], files["black.png"])
    playwright.expect(page.locator("#thumbnails span")).to_have_text(["2", "!", "0"])
    assert page.inner_text("#error").startswith("<b>broken.jpg: The JPEG data are damaged")
    page.keyboard.press("ArrowRight")
    assert page.inner_text(".fault") == "The JPEG data are damaged or cut off"
    assert boxes(page) == []
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#count") == "0 of 0"
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".box")
    assert boxes(page) == [RED, GREEN]
    page.click("#side-by-side")
    page.click("#thumbnails li:nth-child(3) button")
    assert page.locator(".stage figcaption span:first-child").all_inner_texts() == ["black.png", "<b>broken.jpg"]


def test_an_image_that_the_browser_does_not_know(page: Any, files: dict[str, Path]) -> None:
    show(page, files["squares.tif"])
    page.wait_for_selector(".box")
    color = "canvas => [...canvas.getContext('2d').getImageData(10, 10, 1, 1).data]"
    assert page.eval_on_selector("canvas.image", color) == [250, 0, 0, 255]


def test_downloads(page: Any, files: dict[str, Path], tmp_path: Path) -> None:
    show(page, files["squares.png"])
    page.wait_for_selector(".box")
    set_slider(page, "#threshold", 120)
    with page.expect_download() as download:
        page.click("text=Save JSON")
    assert download.value.suggested_filename == "squares.json"
    records = json.loads(download.value.path().read_text())
    assert records == [{"image": "squares.png", "width": 160, "height": 160, "detections": [RED]}]
    with page.expect_download() as download:
        page.click("text=Save image")
    drawn = Image.open(download.value.path())
    assert drawn.size == (160, 160)
    assert drawn.getpixel((32, 63)) != (250, 0, 0, 255)


def test_samples_drop_and_paste(page: Any, files: dict[str, Path]) -> None:
    transfer = """([type, bytes]) => {
        const data = new DataTransfer();
        data.items.add(new File([Uint8Array.from(bytes)], "given.png", {type: "image/png"}));
        const init = type === "paste" ? {clipboardData: data} : {dataTransfer: data, bubbles: true};
        document.dispatchEvent(type === "paste" ? new ClipboardEvent(type, init) : new DragEvent(type, init));
    }"""
    for count, kind in enumerate(("drop", "paste"), 1):
        page.evaluate(transfer, [kind, list(files["squares.png"].read_bytes())])
        playwright.expect(page.locator("#thumbnails li")).to_have_count(count)
        page.wait_for_selector(".box[data-label=red]")


def test_the_samples(page: Any) -> None:
    page.click("[data-sample='coffee.jpg']")
    page.wait_for_selector("#time-total:has-text('s')")
    assert page.inner_text(".stage figcaption").startswith("coffee.jpg")


def test_a_film_is_a_row_of_frames_and_a_timeline(page: Any, tmp_path: Path) -> None:
    # two seconds, with the squares in the first and in the last frame
    show(page, write_film(tmp_path / "film.webm", 21, red_every=20))
    playwright.expect(page.locator("#thumbnails span")).to_have_text(["2", "0", "2"])
    assert page.inner_text(".stage figcaption span") == "film.webm 0:00"
    assert [each["label"] for each in boxes(page)] == ["red", "green"]
    assert page.inner_text("#timeline-count") == "3 of 3 frames"
    assert page.locator("#timeline dt").all_inner_texts() == ["red", "green"]
    row = page.locator("#timeline svg").first
    assert row.get_attribute("aria-label") == "red in 2 of 3 frames, first at 0:00"
    assert [each.get_attribute("height") for each in row.locator("rect").all()] == ["1", "0", "1"]
    place = row.bounding_box()
    row.click(position={"x": place["width"] / 2, "y": place["height"] / 2})
    assert page.inner_text(".stage figcaption span") == "film.webm 0:01"
    assert boxes(page) == []
    with page.expect_download() as download:
        page.click("text=Save JSON")
    records = json.loads(download.value.path().read_text())
    assert [(each["time"], len(each["detections"])) for each in records] == [(0, 2), (1, 0), (2, 2)]
    assert {each["image"] for each in records} == {"film.webm"}
    with page.expect_download() as download:
        page.click("text=Save image")
    assert download.value.suggested_filename == "film_0m01s_detections.png"
    # another film comes to the strip, and what is in view stays
    show(page, write_film(tmp_path / "more.webm", 3))
    playwright.expect(page.locator("#thumbnails span")).to_have_text(["2", "0", "2", "2"])
    assert page.inner_text(".stage figcaption span") == "film.webm 0:01"


def test_a_film_that_the_browser_cannot_read(page: Any, tmp_path: Path, files: dict[str, Path]) -> None:
    film = tmp_path / "<i>film.mp4"
    film.write_bytes(b"no film")
    show(page, film, files["squares.png"])
    page.wait_for_selector(".box")
    assert page.inner_text("#error") == "The browser cannot read <i>film.mp4: spp detect reads more kinds of films."
    assert not page.is_visible("#timeline-card")


def test_tiles_are_asked_for_of_images_and_explanations(page: Any, files: dict[str, Path]) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(urlsplit(request.url).query))
    show(page, files["squares.png"])
    page.wait_for_selector(".box")
    with page.expect_response(lambda response: "tiles=4" in response.url):
        page.select_option("#tiles", "4")
    page.wait_for_selector("#status:has-text('Found')")
    page.click("#found button")
    page.wait_for_selector(".grid")
    first, *others = [query for query in asked if query]
    assert "tiles" not in first and len(others) > 1 and all("tiles=4" in query for query in others)
    assert boxes(page) == [RED, GREEN]


def test_the_search_is_shown_merge_by_merge(page: Any, files: dict[str, Path]) -> None:
    show(page, files["squares.png"])
    page.wait_for_selector(".box")
    assert not page.is_visible("#search-card")
    page.click("#show-how")
    page.wait_for_selector("#merge-count:has-text('at first')")
    n_merges = int(page.get_attribute("#merges", "max"))
    color = "canvas => [...canvas.getContext('2d').getImageData(20, 20, 1, 1).data]"
    set_slider(page, "#merges", 1)
    assert page.inner_text("#merge-count").endswith("after 1 merge")
    # the red square is a region of its own until all is one
    assert page.eval_on_selector("canvas.regions.on", color) == [250, 0, 0, 255]
    set_slider(page, "#merges", n_merges)
    assert page.inner_text("#merge-count") == f"1 region after {n_merges} merges"
    mixed = page.eval_on_selector("canvas.regions.on", color)
    assert 0 < mixed[0] < 100 and 0 < mixed[1] < 100
    assert [page.get_attribute(".nearest", side) for side in ("x", "y", "width", "height")] == ["0", "0", "160", "160"]
    page.click("#show-how")
    assert not page.is_visible("#search-card") and page.locator(".regions.on").count() == 0


def test_cells_bins_and_suppressed_boxes_of_a_detection(page: Any, files: dict[str, Path]) -> None:
    show(page, files["squares.png"])
    page.wait_for_selector(".box")
    page.click("#show-how")
    page.click(".box[data-label=red]")
    page.wait_for_selector(".lost, .help:has-text('No other box lost')")
    assert page.get_attribute(".bins", "data-count") == "1"
    # one bin of 4 x 4 cells of 16 pixels
    numbers = [float(each) for each in re.findall(r"-?[\d.]+", page.get_attribute(".bins", "d"))]
    assert numbers == [0, 0, 64, 64, 0]
    assert page.locator(".lost li").count() >= 1
    page.hover(".lost li button")
    assert page.locator(".nearest").count() == 1
    page.click("#show-how")
    assert page.get_attribute(".bins", "data-count") == "0" and page.locator(".lost").count() == 0
    page.click("#show-how")
    assert page.get_attribute(".bins", "data-count") == "1"
    set_slider(page, "#merges", 1)
    assert page.get_attribute(".bins", "data-count") == "0" and not page.is_visible("#explanation")


def test_labels_and_contrast(page: Any, files: dict[str, Path]) -> None:
    """Everything that can be operated has a name, and text stands out from its ground."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        show(page, files["squares.png"])
        page.click("#show-how")
        page.click("#found button")
        page.wait_for_selector(".grid")
        unnamed = """() => [...document.querySelectorAll("button, input, select")].filter(each =>
            !each.textContent.trim() && !each.ariaLabel && !each.labels?.length).map(each => each.outerHTML)"""
        assert page.evaluate(unnamed) == []
        assert page.evaluate(CONTRAST) == []


@pytest.mark.parametrize("name", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_width(page: Any, files: dict[str, Path], tmp_path: Path, name: str, scheme: str) -> None:
    """Nothing sticks out on the side; the screenshot is there to be looked at."""
    width, height = WIDTHS[name]
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": height})
    show(page, files["squares.png"], files["black.png"])
    page.click("#found button")
    page.wait_for_selector(".grid")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shot = tmp_path / f"{name}-{scheme}.png"
    page.screenshot(path=shot, full_page=True)
    assert Image.open(shot).width == width
