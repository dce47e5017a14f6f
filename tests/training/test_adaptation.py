"""Proposals and scales chosen from labeled boxes: scales, sizes and numbers by hand, with fake proposers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.boxes import Boxes, as_boxes
from detector.config.detector import Config, ProposalConfig, load_config, parse_config
from detector.datasets.dataset import Annotation
from detector.images.files import write_image
from detector.training import adaptation
from detector.training.adaptation import adapt_recipe

DEFAULT = load_config("default")
FAR = (900.0, 900.0, 910.0, 910.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


def labeled(folder: Path, width: int, height: int, *sizes: tuple[float, float]) -> Annotation:
    """An image with objects of these widths and heights at its top left."""
    path = folder / f"{width}x{height}.png"
    if not path.exists():
        write_image(path, np.zeros((height, width, 3), np.uint8))
    boxes = np.array([(0, 0, *size) for size in sizes], np.float32).reshape(-1, 4)
    return Annotation(path.name, path, boxes, np.zeros(len(boxes), np.int64), np.zeros(len(boxes), np.bool_))


def short_sides(*annotations: Annotation) -> tuple[int, ...]:
    """Return the scales for images whose proposals are given."""
    return adapt_recipe(DEFAULT, annotations, precomputed={}).config.features.short_sides


@pytest.mark.parametrize(
    ("width", "height", "sizes", "expected"),
    [
        # a side of 256 of 400 pixels becomes 512 at 800, in both orientations
        (800, 400, [(256, 256)], (800,)),
        (400, 800, [(128, 512)], (800,)),
        # 400 and 1200, less a tenth at each end, are 480 and 1120; as these differ by more than a factor of 2, the root
        # of their product lies between them
        (600, 400, [(512, 512), (512 / 3, 512 / 3)], (480, 733, 1120)),
        # 512 and 512: a scale is named once
        (500, 400, [(400, 400), (400, 400)], (512,)),
        (1000, 1000, [(900, 900)], (569,)),
        # 17,067 pixels are too many
        (1500, 1000, [(30, 30)], (1400,)),
        # an image of 4 to 1 would have more than 3 megapixels at 866, one of 200 pixels no more detail at 800
        (1600, 400, [(30, 30)], (866,)),
        (240, 200, [(10, 10)], (800,)),
        # the smallest scale
        (60, 50, [(10, 10)], (400,)),
        (1000, 500, [(1000, 500)], (400,)),
    ],
)
def test_scales_bring_objects_to_the_target(
    folder: Path, width: int, height: int, sizes: list[tuple[float, float]], expected: tuple[int, ...]
) -> None:
    assert short_sides(labeled(folder, width, height, *sizes)) == expected


def test_scales_are_those_of_most_objects(folder: Path) -> None:
    typical = [labeled(folder, 800, 400, *[(256, 256)] * 20)]
    assert short_sides(*typical, labeled(folder, 800, 400, (10, 10))) == (800,)


def test_images_without_objects_or_that_cannot_be_read_do_not_count(folder: Path) -> None:
    assert short_sides() == short_sides(labeled(folder, 800, 400)) == (700,)
    missing = replace(labeled(folder, 800, 400, (20, 20)), path=folder / "none.png")
    assert short_sides(missing, labeled(folder, 800, 400, (256, 256))) == (800,)


@given(
    st.lists(st.tuples(st.floats(0.5, 4000), st.floats(0.5, 4000)), min_size=1, max_size=5),
    st.sampled_from([(800, 400), (400, 800), (60, 50), (3000, 40), (1, 1)]),
)
def test_scales_ascend_within_the_limits(folder: Path, sizes: list[tuple[float, float]], size: tuple[int, int]) -> None:
    sides = short_sides(labeled(folder, *size, *sizes))
    assert 1 <= len(sides) <= 3
    assert list(sides) == sorted(set(sides))
    assert sides[0] >= 400 and sides[-1] <= 1400
    assert all(second / first <= 2.01 for first, second in pairwise(sides))


Proposals = Callable[[ProposalConfig], Sequence[tuple[float, ...]]]


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> Callable[[Proposals], list[ProposalConfig]]:
    """Replace the search for proposals by a function of its settings; return a list of the settings asked for."""

    def replace_by(proposals: Proposals) -> list[ProposalConfig]:
        asked: list[ProposalConfig] = []

        def build_proposer(config: ProposalConfig) -> Callable[[NDArray[np.uint8]], Boxes]:
            asked.append(config)
            return lambda image: as_boxes(proposals(config))

        monkeypatch.setattr(adaptation, "build_proposer", build_proposer)
        return asked

    return replace_by


@pytest.mark.parametrize(
    ("width", "height", "sizes", "expected"),
    [
        (100, 100, [(60, 40)], 20),
        (100, 100, [(60, 39)], 19),
        (100, 100, [(12, 60), (50, 50)], 6),
        (100, 100, [(2, 2)], 4),
        # of 2 megapixels, one is searched
        (2000, 1000, [(40, 60)], 14),
        (100, 100, [], 20),
    ],
)
def test_boxes_from_half_the_smallest_side_are_proposed(
    folder: Path, searches: Any, width: int, height: int, sizes: list[tuple[float, float]], expected: int
) -> None:
    asked = searches(lambda config: [(0, 0, *size) for size in sizes])
    found = adapt_recipe(DEFAULT, [labeled(folder, width, height, *sizes)]).config.proposals
    assert found.min_side == expected
    assert [(each.min_side, each.mode, each.max_boxes) for each in asked] == [(expected, "fast", 8000)]


@pytest.mark.parametrize(
    ("rank", "count", "recall"), [(1, 2000, 1), (2000, 2000, 1), (2001, 5000, 1), (5001, 8000, 1), (8001, 2000, 0)]
)
def test_as_many_boxes_are_proposed_as_cover_the_objects(
    folder: Path, searches: Any, rank: int, count: int, recall: float
) -> None:
    searches(lambda config: [*[FAR] * (rank - 1), (0, 0, 50, 50)][: config.max_boxes])
    found = adapt_recipe(DEFAULT, [labeled(folder, 100, 100, (50, 50))])
    assert found.config.proposals.max_boxes == count
    assert found.recall.at(0.5) == found.recall.at(0.7) == recall


def test_a_few_tight_boxes_more_are_no_reason_for_many(folder: Path, searches: Any) -> None:
    """Of 200 objects, one is covered by the last box only: half a percent of recall."""
    searches(lambda config: [*[(0, 0, 50, 50)] * 7999, (0, 0, 90, 90)])
    sizes = [*[(50.0, 50.0)] * 199, (90.0, 90.0)]
    found = adapt_recipe(DEFAULT, [labeled(folder, 100, 100, *sizes)])
    assert found.config.proposals.max_boxes == 2000
    assert found.recall.at(0.5) == pytest.approx(0.995)


GRID = np.array([(x, y, x + 50, y + 50) for x in range(0, 1000, 100) for y in range(0, 1000, 100)], np.float32)


def covering(**n_covered: int) -> Proposals:
    """Proposals that cover a number of 100 objects in each mode, "large" being quality at 4 megapixels."""

    def proposals(config: ProposalConfig) -> list[tuple[float, ...]]:
        large = config.max_pixels == 4_000_000
        return GRID[: n_covered["large" if large else config.mode]].tolist()

    return proposals


@pytest.mark.parametrize(
    ("n_covered", "mode", "max_pixels", "n_searches", "recall"),
    [
        ({"fast": 97}, "fast", 1_000_000, 1, 0.97),
        ({"fast": 90, "quality": 97}, "quality", 1_000_000, 2, 0.97),
        ({"fast": 90, "quality": 93, "large": 99}, "quality", 4_000_000, 3, 0.99),
        ({"fast": 90, "quality": 93, "large": 94}, "quality", 1_000_000, 3, 0.93),
        # not worth the time
        ({"fast": 90, "quality": 91, "large": 91}, "fast", 1_000_000, 3, 0.9),
    ],
)
def test_a_slower_search_is_chosen_where_it_covers_more(
    folder: Path, searches: Any, n_covered: dict[str, int], mode: str, max_pixels: int, n_searches: int, recall: float
) -> None:
    asked = searches(covering(**n_covered))
    image = labeled(folder, 1000, 1000)
    found = adapt_recipe(
        DEFAULT, [replace(image, boxes=GRID, labels=np.zeros(100, np.int64), difficult=np.zeros(100, bool))]
    )
    assert (found.config.proposals.mode, found.config.proposals.max_pixels) == (mode, max_pixels)
    assert len(asked) == n_searches
    assert found.recall.at(0.5) == pytest.approx(recall)


def test_a_recipe_without_adaptation_keeps_its_proposals_and_scales(folder: Path, searches: Any) -> None:
    config = parse_config({"features": {"short_sides": [320]}, "svm": {"flips": None}}, "test")
    asked = searches(lambda config: [(0, 0, 50, 50)])
    found = adapt_recipe(config, [labeled(folder, 100, 100, (10, 10))])
    assert asked == [config.proposals]
    assert found.config == config.for_images(1)
    assert str(found) == (
        "by the recipe: up to 2000 proposals (fast, from 20 px), which cover 0 % of the objects at an IoU of 0.5 and "
        "0 % at 0.7; images at 320 px, and mirrored images"
    )


def test_given_proposals_are_measured_and_not_chosen(folder: Path, searches: Any) -> None:
    asked = searches(lambda config: [])
    image = labeled(folder, 800, 400, (256, 256))
    found = adapt_recipe(DEFAULT, [image], precomputed={image.image_id: as_boxes([(0, 0, 256, 160)])})
    assert asked == []
    assert found.config.proposals == DEFAULT.proposals
    assert str(found) == (
        "chosen from the labeled boxes: the given proposals, which cover 100 % of the objects at an IoU of 0.5 and 0 % "
        "at 0.7; images at 800 px, and mirrored images"
    )


def test_what_is_chosen_needs_no_choice(folder: Path, searches: Any) -> None:
    searches(lambda config: [(0, 0, 50, 50)])
    images = [labeled(folder, 100, 100, (50, 50))]
    found = adapt_recipe(DEFAULT, images)
    assert isinstance(found.config, Config) and not found.config.adaptation.enabled
    again = adapt_recipe(found.config, images)
    assert again.config == found.config
    assert str(found).startswith("chosen from the labeled boxes: up to 2000 proposals (fast, from 20 px), which cover")
