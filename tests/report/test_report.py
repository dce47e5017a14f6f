"""The report: a page without other resources, in which names stay text, and files with the same numbers."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.datasets.dataset import Annotation
from detector.detections import Detections
from detector.evaluation.calibration import bin_scores
from detector.evaluation.coco import CocoIds
from detector.evaluation.comparison import compare
from detector.evaluation.coverage import image_coverage, join_coverage
from detector.evaluation.outcomes import gather_outcomes
from detector.images.files import write_image
from detector.report import images
from detector.report.page import to_script
from detector.report.run import Analysis, Run, analyze
from detector.report.write import MAX_BYTES, write_report

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>$\\frac$ & \"' \ud800"
NAMES = ("cat", HOSTILE)
BOXES = np.array([[10, 10, 60, 60], [70, 20, 110, 70]], np.float32)


class Page(HTMLParser):
    """What is in a page: elements with their attributes, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "script":
            self.scripts.append(data)
        self.words.append(data)

    def all(self, name: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(name)) is not None]


def analysis_of(
    folder: Path, detections: Sequence[Detections] | None = None, image_names: Sequence[str] = "123"
) -> Analysis:
    """Of three images, the last one without objects."""
    folder.mkdir(exist_ok=True)
    truths = []
    for number, name in enumerate(image_names):
        path = folder / f"{number}.png"
        write_image(path, np.random.default_rng(number).integers(0, 255, (90, 120, 3)).astype(np.uint8))
        count = 0 if number == 2 else 2
        truths.append(Annotation(name, path, BOXES[:count], np.arange(2)[:count], np.zeros(count, np.bool_)))
    if detections is None:
        one = Detections(BOXES, np.array([0, 1]), np.array([0.9, 0.4], np.float32), NAMES)
        two = Detections(
            np.add(BOXES, [[0, 20, 0, 20], [0, 0, 0, 0]]), np.array([0, 0]), np.array([0.3, 0.7], np.float32), NAMES
        )
        detections = [one, two, Detections(BOXES[:1], np.array([1]), np.array([0.2], np.float32), NAMES)]
    outcomes = gather_outcomes(detections, truths, NAMES)
    coverage = join_coverage([image_coverage(BOXES[:1], each.boxes) for each in truths])
    ids = CocoIds({name: number for number, name in enumerate(image_names, 1)}, (7, 9))
    paths = tuple(each.path for each in truths)
    return analyze(Run(outcomes, "voc07", HOSTILE, paths, ids, coverage, {"command": HOSTILE}), resamples=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def analysis(folder: Path) -> Analysis:
    return analysis_of(folder, image_names=(HOSTILE, "two", "three"))


@pytest.fixture(scope="module")
def text(folder: Path, analysis: Analysis) -> str:
    baseline = {"mAP": 0.25, "AP": {"cat": 0.5, HOSTILE: None}}
    path = write_report(
        folder / "out",
        analysis,
        explain,
        baseline,
        compare(analysis.run.outcomes, analysis.run.outcomes, "voc07", 5),
        (HOSTILE, "B"),
    )
    assert path.stat().st_size < MAX_BYTES
    return path.read_text(encoding="utf-8")


class FakeAttribution:
    bias = -0.5
    levels = {1: np.array([[0.75]]), 2: np.array([[0.5, -0.25], [0, 0]])}  # noqa: RUF012

    def heat_map(self) -> NDArray[np.float32]:
        return np.linspace(-1, 1, 90 * 120, dtype=np.float32).reshape(90, 120)


def explain(image: NDArray[np.uint8], detections: Detections) -> list[Any]:
    assert image.shape == (90, 120, 3)
    return [FakeAttribution() for _ in detections.scores]


def test_nothing_comes_from_elsewhere(text: str) -> None:
    page = Page(text)
    without_images = re.sub(r'"data:image/jpeg;base64,[\w+/=]*"', "", text)
    assert not re.search(r"https?:|@import|url\([^#]|[\"'(]//", without_images)
    assert [name for name, _ in page.elements if name in ("link", "iframe", "base", "object")] == []
    for link in page.all("href") + page.all("src") + page.all("xlink:href"):
        assert link.startswith(("#", "data:image/jpeg;base64,")), link


def test_all_links_and_sets_lead_somewhere(text: str) -> None:
    page = Page(text)
    known = page.all("id")
    assert len(known) == len(set(known))
    assert {link[1:] for link in page.all("href") + page.all("xlink:href") if link.startswith("#")} <= set(known)
    assert {found for found in re.findall(r"url\(#([^)]+)\)", text)} <= set(known)
    (data,) = [json.loads(each) for each in page.scripts if each.startswith("{")]
    assert set(page.all("data-set") + page.all("data-preview")) <= set(data["sets"])
    samples = {item for _, _, items in data["sets"].values() for item in items}
    assert samples == set(range(len(data["samples"])))
    assert {f"image-{each[0]}" for each in data["samples"]} <= set(known)
    assert {f"attribution-{number}" for number in data["attributions"]} <= set(known)
    assert set(data["attributions"].values()) == {"cells for it 1.25, against it 0.25, bias -0.50"}


def test_hostile_names_stay_text(text: str) -> None:
    page = Page(text)
    assert [name for name, _ in page.elements].count("script") == 2
    assert not any("onerror" in attributes for _, attributes in page.elements)
    shown = HOSTILE.replace("\ud800", "?")
    assert any(shown in words for words in page.words)
    (policy,) = [attributes["content"] for _, attributes in page.elements if "http-equiv" in attributes]
    assert policy is not None and "default-src 'none'" in policy and "script-src 'sha256-" in policy
    assert json.loads(to_script(HOSTILE)) == HOSTILE
    assert not set("<>&") & set(to_script(HOSTILE))


def test_sections_are_in_order(text: str) -> None:
    sections = [attributes["id"] for name, attributes in Page(text).elements if name in ("section", "header")]
    assert sections == [
        *("summary", "classes", "curves", "thresholds", "errors", "confusion"),
        *("galleries", "proposals", "scores", "made", "changes"),
    ]
    assert "no proposal covered it" in text and "covered, but scored low" in text


def test_files_hold_the_numbers(folder: Path, text: str) -> None:
    out = folder / "out"
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["images"] == 3 and metrics["images_without_objects"] == 1 and metrics["objects"] == 4
    assert metrics["AP"] == {"cat": pytest.approx(6 / 11), HOSTILE: pytest.approx(6 / 11)}
    assert metrics["errors"]["class"]["count"] == 1
    assert metrics["errors"]["location"]["count"] == 1
    assert metrics["errors"]["background"]["count"] == 1
    rows = list(csv.DictReader((out / "errors.csv").open(encoding="utf-8")))
    assert sorted(row["kind"] for row in rows) == ["background", "class", "location"]
    wrong = next(row for row in rows if row["kind"] == "class")
    assert (wrong["class"], wrong["iou"], wrong["image"]) == ("cat", "1.0", "two")
    classes = list(csv.DictReader((out / "metrics.csv").open(encoding="utf-8")))
    assert [row["objects"] for row in classes] == ["2", "2"]
    found = json.loads((out / "detections.json").read_text())
    assert len(found) == 5
    assert found[0] == {"image_id": 1, "category_id": 7, "bbox": [10, 10, 50, 50], "score": pytest.approx(0.9)}


def test_nothing_detected_and_images_that_are_gone(tmp_path: Path) -> None:
    nothing = [Detections.empty(NAMES)] * 3
    analysis = analysis_of(tmp_path / "images", nothing)
    for path in analysis.run.paths[1:]:
        path.unlink()
    page = Page(write_report(tmp_path / "out", analysis).read_text())
    assert [key for key in page.all("id") if key.startswith("image-")] == ["image-0"]
    metrics: dict[str, Any] = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["mAP"] == 0 and metrics["errors"]["missed"] == {"count": 4, "mAP_lost": 1.0}
    assert metrics["missed_because"]["no proposal covered it"]["count"] == 2
    assert metrics["threshold"] is None


def test_images_become_small_and_then_few_to_fit(tmp_path: Path) -> None:
    paths = []
    for number in range(4):
        paths.append(tmp_path / f"{number}.png")
        write_image(paths[-1], np.random.default_rng(number).integers(0, 255, (400, 600, 3)).astype(np.uint8))
    plenty = images.embed_images(paths, [3, 1, 0], 10_000_000)
    assert list(plenty) == [3, 1, 0]
    assert plenty[3].box == (0, 0, 600, 400)
    one = len(plenty[3].url)
    tight = images.embed_images(paths, [3, 1, 0], one)
    assert list(tight) == [3, 1, 0] and sum(len(each.url) for each in tight.values()) <= one
    smallest = len(images.to_url(images.shrink(images.read_image(paths[3]), images.LONG_SIDES[-1])))
    assert list(images.embed_images(paths, [3, 1, 0], smallest + 10)) == [3]


@pytest.mark.all
def test_calibration_is_shown_where_there_are_probabilities(tmp_path: Path) -> None:
    analysis = analysis_of(tmp_path / "images")
    page = write_report(tmp_path / "scores", analysis).read_text()
    assert f"expected error {100 * analysis.bins.calibration_error:.1f}" in page  # all scores are in 0..1
    margins = [Detections(BOXES, np.array([0, 1]), np.array([1.9, -0.4], np.float32), NAMES)] * 3
    analysis = analysis_of(tmp_path / "images", margins)
    assert "Scores are margins, not probabilities" in write_report(tmp_path / "margins", analysis).read_text()
    outcomes = analysis.run.outcomes
    bins = bin_scores(replace(outcomes, scores=1 / (1 + np.exp(-outcomes.scores))), 15)
    chances = np.full(len(outcomes.scores), 0.876, np.float32)
    analysis = replace(analysis, run=replace(analysis.run, probability_bins=bins, probabilities=chances))
    page = write_report(tmp_path / "probabilities", analysis).read_text()
    assert '"88 %"' in page and '"1.90"' not in page and '"1.90"' in (tmp_path / "margins" / "report.html").read_text()
    assert f"expected error {100 * bins.calibration_error:.1f}" in page


def test_a_cell_is_no_formula(tmp_path: Path) -> None:
    analysis = analysis_of(tmp_path / "images", image_names=("1", "=cmd()", "3"))
    write_report(tmp_path / "out", analysis)
    rows = list(csv.DictReader((tmp_path / "out" / "errors.csv").open(encoding="utf-8")))
    assert {row["image"] for row in rows} == {"'=cmd()", "3"}
