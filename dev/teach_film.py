"""Teach a detector in a browser as a person would: python -m dev.teach_film DATA OUTPUT.jpg [--images N].

DATA is a data set with the splits train and test, whose labels the person knows. Prints the actions, the time that they
would take a person, and AP50 (area) on test; OUTPUT is a film of screenshots.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import sync_playwright

import detector
from benchmarks.machine import machine
from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.loading import DataSource, load_splits
from detector.evaluation.held_out import measure_held_out
from detector.images.files import write_image
from tests.web.conftest import CHROMIUM
from tests.web.person import SUGGESTED, WAIT, Person, Pieces
from tests.web.teaching import teaching

FRAME_WIDTH, CAPTION_HEIGHT, COLUMNS = 720, 36, 2
CAPTIONS = {0: "the first image", 2: "suggestions after two images"}
"""Titles of screenshots, by the number of labeled images."""
Frames = list[tuple[str, NDArray[np.uint8]]]


def main() -> None:
    """Label images in a browser, and measure the exported model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--images", type=int, default=20)
    options = parser.parse_args()
    splits = load_splits(DataSource(options.data), report=lambda issue: None)
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        photos, project = Path(folder) / "photos", Path(folder) / "project"
        photos.mkdir()
        for each in splits["train"]:
            (photos / each.path.name).symlink_to(each.path.resolve())
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        with teaching(photos, project) as (url, _):
            person = Person(browser, url)
            frames = film(person, splits["train"], options.images)
            export(person)
        browser.close()
        print(", ".join(f"{count} x {action}" for action, count in person.actions.most_common()))
        print(f"{options.images} images: {person.seconds / 60:.1f} minutes of a person's time")
        print(f"AP50 on test: {precision(project / 'exports' / 'model.safetensors', splits['test']):.1f}")
    write_image(options.output, montage(frames))


def film(person: Person, truth: Dataset, count: int) -> Frames:
    """Label ``count`` images; return captions and screenshots."""
    known = {each.path.name: each for each in truth}
    frames: Frames = []
    for number in range(count):
        if number:
            person.page.wait_for_function(SUGGESTED, timeout=WAIT)
        else:
            person.page.wait_for_selector("#easel[data-proposals]", timeout=WAIT)
        if number in CAPTIONS:
            frames.append(shot(person, CAPTIONS[number]))
        person.label(pieces(known[person.image], truth.class_names), magnet=True)
        if number == 0:
            frames.append(shot(person, "labeled by clicks and boxes"))
        person.finish()
        person.wait_for_round(number + 1)
    person.page.wait_for_selector("#ap:has-text('AP50')", timeout=WAIT)
    frames.append(shot(person, f"after {count} images"))
    return frames


def pieces(annotation: Annotation, class_names: tuple[str, ...]) -> Pieces:
    """Return the objects of an image as the person knows them."""
    corners: list[Any] = annotation.boxes.round().astype(int).tolist()
    return [(class_names[label], box) for label, box in zip(annotation.labels, corners, strict=True)]


def export(person: Person) -> None:
    """Write the model to the project folder."""
    person.page.select_option("#export-format", "model")
    person.page.click("#export")
    person.page.wait_for_selector("#file-line:has-text('written to')", timeout=WAIT)


def precision(model: Path, test: Dataset) -> float:
    """Return AP50 by area, in percent."""
    loaded = detector.load(model)
    found = [loaded.detect(each.path, min_score=-1.0) for each in test]
    return 100 * measure_held_out(found, test, "area").mAP


def shot(person: Person, caption: str) -> tuple[str, NDArray[np.uint8]]:
    """Return a screenshot, and its caption with the time of the person so far."""
    minutes, seconds = divmod(round(person.seconds), 60)
    content = np.frombuffer(person.page.screenshot(), np.uint8)
    return f"{minutes}:{seconds:02}  {caption}", cv2.cvtColor(
        cv2.imdecode(content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
    )


def montage(frames: Frames) -> NDArray[np.uint8]:
    """Return captions and screenshots in rows, from left to right."""
    tiles = []
    for caption, image in frames:
        height = round(image.shape[0] * FRAME_WIDTH / image.shape[1])
        tile = Image.new("RGB", (FRAME_WIDTH, height + CAPTION_HEIGHT), "white")
        tile.paste(Image.fromarray(image).resize((FRAME_WIDTH, height), Image.Resampling.LANCZOS), (0, CAPTION_HEIGHT))
        ImageDraw.Draw(tile).text((8, 6), caption, fill="black", font=ImageFont.load_default(20))
        tiles.append(np.asarray(tile))
    while len(tiles) % COLUMNS:
        tiles.append(np.full_like(tiles[-1], 255))
    rows = [np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]
    return np.vstack(rows)


if __name__ == "__main__":
    main()
