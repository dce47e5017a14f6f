"""Tiles: their windows, detection in them, and objects at their borders."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.boxes import as_boxes
from detector.detections import Detections
from detector.ensemble import Ensemble
from detector.explanation.explainer import Explainer
from detector.heads.views import join_views
from detector.images.files import write_image
from detector.proposals.selective_search import propose_reduced
from detector.tiles import MAX_AUTO_TILES, MAX_TILES, MIN_SIDE, Window, parse_tiles, tile_windows
from detector.web.session import Session
from tests.fakes import fake_detector
from tests.training.small import annotation

SIZE = (3000, 4000)


def found(*rows: tuple[tuple[float, float, float, float], float], size: tuple[int, int] | None = None) -> Detections:
    """Detections of one class, with probabilities of a tenth of their scores."""
    boxes, scores = as_boxes([box for box, _ in rows]), np.array([score for _, score in rows], np.float32)
    return Detections(boxes, np.zeros(len(rows), np.int64), scores, ("red",), (scores / 10).astype(np.float32), size)


def joined(whole: Detections, *tiles: tuple[Window, Detections]) -> list[tuple[list[float], float]]:
    result = join_views(whole, tiles, 0.3, 100)
    assert result.probabilities is not None and result.image_size == whole.image_size
    np.testing.assert_allclose(result.probabilities, result.scores / 10)
    return [(list(each.box), round(each.score, 3)) for each in result]


@pytest.mark.parametrize("text", ["auto", "1", "12", "640x480", str(MAX_TILES)])
def test_tiles_are_a_number_a_size_or_auto(text: str) -> None:
    assert str(parse_tiles(text)) == text


@pytest.mark.parametrize(
    "value",
    ["", "0", "-1", "1.5", "12x", "x12", "640X480", "640x480x3", "31x640", "1000000x64", "401", "²", True, "AUTO"],
)
def test_other_tiles_are_refused_in_one_line(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^(must be|the sides of tiles must be) .*$"):
        parse_tiles(value)


def test_twelve_tiles_of_a_photograph_are_four_by_three() -> None:
    windows = tile_windows(SIZE, 12, 640)
    assert (len({each.x1 for each in windows}), len({each.y1 for each in windows})) == (4, 3)
    # 4000 = 4 w - 3 * 0.2 w, 3000 = 3 h - 2 * 0.2 h
    assert {each.size for each in windows} == {(1154, 1177)}
    assert windows[0] == (0, 0, 1177, 1154) and windows[-1] == (2823, 1846, 4000, 3000)


def test_tiles_of_a_size_overlap_by_a_fifth_and_cut_no_smaller_image() -> None:
    windows = tile_windows((480, 1200), "640x480", 640)
    assert windows == [(0, 0, 640, 480), (280, 0, 920, 480), (560, 0, 1200, 480)]
    assert tile_windows((480, 640), "640x480", 640) == tile_windows((480, 640), 1, 640) == []
    assert tile_windows((480, 640), None, 640) == tile_windows((0, 0), 12, 640) == []
    with pytest.raises(ValueError, match="tiles of 32x32 pixels would cut the image of 4000 x 3000"):
        tile_windows(SIZE, "32x32", 640)


def test_auto_cuts_where_small_objects_would_be_seen_small() -> None:
    # 300 px of 3000 are seen at 64 px of 640; smaller ones need tiles
    assert tile_windows(SIZE, "auto", 640, 300) == []
    assert len(tile_windows(SIZE, "auto", 640, 299)) > 1
    assert {each.size for each in tile_windows((1000, 1500), "auto", 640, 60)} == {(600, 600)}
    # pixels are enlarged by at most two
    assert {each.size for each in tile_windows((500, 500), "auto", 640, 1)} == {(320, 320)}
    assert len(tile_windows(SIZE, "auto", 640, 20)) == MAX_AUTO_TILES == len(tile_windows(SIZE, "auto", 640))
    assert tile_windows((480, 640), "auto", 640) == []


SIDES = st.integers(1, 3000)


@given(SIDES, SIDES, st.integers(1, MAX_TILES) | st.tuples(*[st.integers(MIN_SIDE, 900)] * 2))
def test_tiles_cover_the_image(height: int, width: int, tiles: Any) -> None:
    given_size = isinstance(tiles, tuple)
    try:
        windows = tile_windows((height, width), "x".join(map(str, tiles)) if given_size else tiles, 640)
    except ValueError:
        assert given_size
        return
    assert len(windows) <= (MAX_TILES if given_size else tiles)
    covered = np.zeros((height, width), np.bool_)
    for x1, y1, x2, y2 in windows:
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
        covered[y1:y2, x1:x2] = True
    assert covered.all() or not windows
    assert len({each.size for each in windows}) <= 1


LEFT, RIGHT = Window(0, 0, 120, 100), Window(80, 0, 200, 100)


def test_a_box_at_an_inner_border_loses_against_the_whole_object() -> None:
    nothing = found(size=(100, 200))
    # an object from 60 to 110: the right tile sees 80 to 110
    tiles = (LEFT, found(((60, 20, 110, 60), 2.0))), (RIGHT, found(((0, 20, 30, 60), 5.0)))
    assert joined(nothing, *tiles) == [([60, 20, 110, 60], 5.0)]
    # its probability comes with the score, and a box of something else stays
    tiles = (LEFT, found(((60, 20, 110, 60), 2.0))), (RIGHT, found(((0, 70, 30, 99), 5.0)))
    assert len(joined(nothing, *tiles)) == 2


def test_an_object_larger_than_the_overlap_is_that_of_the_whole_image() -> None:
    whole = found(((20, 10, 180, 90), 1.0), size=(100, 200))
    tiles = (LEFT, found(((20, 10, 120, 90), 3.0))), (RIGHT, found(((0, 10, 100, 90), 2.0)))
    assert joined(whole, *tiles) == [([20, 10, 180, 90], 3.0)]
    # no view shows it whole: its parts are joined across the border
    assert joined(whole[:0], *tiles) == [([20, 10, 180, 90], 3.0)]
    # a part inside of it, away from borders, loses unless it is better
    inner = (LEFT, found(((40, 20, 60, 50), 0.5), ((70, 20, 90, 50), 1.5)))
    assert joined(whole, inner) == [([70, 20, 90, 50], 1.5), ([20, 10, 180, 90], 1.0)]


def test_a_whole_box_is_better_than_a_higher_score_at_a_border() -> None:
    # 0.48 of what the tile shows of the object, and 0.4 of the object: no part of it for certain, but a duplicate
    whole = found(((70, 20, 130, 60), 1.0), size=(100, 200))
    assert joined(whole, (RIGHT, found(((0, 20, 24, 60), 5.0)))) == [([70, 20, 130, 60], 1.0)]


def test_borders_of_the_image_cut_nothing() -> None:
    nothing = found(size=(100, 200))
    tiles = (LEFT, found(((0, 0, 40, 100), 1.0))), (RIGHT, found(((90, 0, 120, 100), 2.0)))
    assert joined(nothing, *tiles) == [([170, 0, 200, 100], 2.0), ([0, 0, 40, 100], 1.0)]


def test_views_are_suppressed_together_and_class_by_class() -> None:
    whole = found(((20, 20, 60, 60), 1.0), size=(100, 200))
    tiles = [(LEFT, found(((21, 20, 60, 60), 2.0)))]
    assert joined(whole, *tiles) == [([21, 20, 60, 60], 2.0)]
    other = replace(tiles[0][1], labels=np.array([1]), class_names=("red", "green"))
    both = join_views(replace(whole, class_names=("red", "green")), [(LEFT, other)], 0.3, 100)
    assert both.labels.tolist() == [1, 0]
    assert len(join_views(whole, [(RIGHT, tiles[0][1])], 0.3, 1)) == 1


def squares() -> NDArray[np.uint8]:
    """640 x 640, black, with a red square of 64 px in each quarter; the fake detector proposes at its top left."""
    image = np.zeros((320, 320, 3), np.uint8)
    for x, y in ((0, 0), (160, 0), (0, 160), (160, 160)):
        image[y : y + 64, x : x + 64, 0] = 250
    return image


def propose(image: NDArray[np.uint8]) -> Any:
    return as_boxes([[0, 0, 64, 64]])


def test_a_detector_detects_in_each_tile() -> None:
    model = fake_detector(propose=propose)
    boxes = {tuple(map(int, each.box)) for each in model.detect(squares(), tiles="160x160", min_score=0)}
    # neighbors overlap by 32 px: tiles begin at 0, 80 and 160
    assert boxes == {(0, 0, 64, 64), (160, 0, 224, 64), (0, 160, 64, 224), (160, 160, 224, 224)}
    assert len(model.detect(squares(), min_score=0)) == len(model.detect(squares(), tiles=1, min_score=0)) == 1
    ensemble = Ensemble([model.with_tiles("160x160"), model])
    assert {tuple(map(int, each.box)) for each in ensemble.detect(squares(), min_score=0)} == boxes
    assert len(model.detect(squares(), tiles="160x160", min_score=0, max_detections=3)) == 3
    # given boxes are those of the image
    assert len(model.with_tiles("160x160").detect(squares(), propose(squares()), min_score=0)) == 1


def test_tiles_of_a_model_are_those_of_its_recipe_and_may_depend_on_its_training() -> None:
    model = fake_detector(propose=propose)
    assert model.windows((1000, 1000)) == []
    auto = model.with_tiles("auto")
    assert {each.size for each in auto.windows((1000, 1000))} != {(80, 80)}
    small = replace(auto, record={"object_side": 20})
    # 160 px of the network show 20 px at 64: tiles of 50 px, but pixels are enlarged by at most two
    assert {each.size for each in small.windows((150, 160))} == {(80, 80)}
    for broken in ("20", None, -1, float("nan"), float("inf")):
        assert replace(auto, record={"object_side": broken}).windows((200, 200)) == auto.windows((200, 200))
    with pytest.raises(ValueError, match="tiles"):
        model.with_tiles("many")


def test_tiles_of_a_model_are_for_its_largest_scale() -> None:
    model = replace(fake_detector(propose=propose).with_tiles("auto"), record={"object_side": 100})
    encoder: Any = model.encoder
    several = replace(model, encoder=replace(encoder, short_sides=(80, 160)))
    assert several.windows((400, 400)) == model.windows((400, 400)) == tile_windows((400, 400), "auto", 160, 100)
    assert several.windows((400, 400)) != tile_windows((400, 400), "auto", 80, 100)


def test_a_cache_proposes_in_tiles_as_detection_does(tmp_path: Path) -> None:
    searched: list[tuple[int, ...]] = []

    def note(image: NDArray[np.uint8]) -> Any:
        searched.append(image.shape[:2])
        return propose(image)

    limited = partial(propose_reduced, propose=note, max_pixels=8000)
    model = fake_detector(propose=limited).with_tiles("160x160")
    path = tmp_path / "a.png"
    write_image(path, squares())
    model.detect(path, min_score=0)
    in_image, searched[:] = [*searched], []
    model.detect_cached(model.cache(tmp_path / "cache"), annotation("a", path, []))
    assert searched == in_image and len(set(searched)) == 2, "tiles are searched on fewer pixels"


def test_detections_of_tiles_are_explained_where_they_were_found() -> None:
    model = fake_detector(propose=propose).with_tiles("160x160")
    explainer = Explainer(model, squares())
    found = explainer.detect()
    assert {tuple(map(int, each.box)) for each in found} == {
        (0, 0, 64, 64),
        (160, 0, 224, 64),
        (0, 160, 64, 224),
        (160, 160, 224, 224),
    }
    for each in explainer.explain(found):
        x1, y1, x2, y2 = map(int, each.box)
        heat = each.heat_map()
        assert heat.shape == (320, 320)
        np.testing.assert_allclose(heat.sum(), heat[y1:y2, x1:x2].sum(), rtol=1e-3)
        assert float(heat.sum()) + each.bias == pytest.approx(each.score, rel=1e-4)


def test_the_page_searches_tiles_on_request() -> None:
    session = Session(Ensemble([fake_detector(propose=propose)]))
    body = cv2.imencode(".png", squares()[..., ::-1])[1].tobytes()
    assert len(session.detect(body, min_score=0)["detections"]) == 1
    answer = session.detect(body, tiles="160x160", min_score=0)
    assert len(answer["detections"]) == 4
    last = answer["detections"][-1]
    explanation = session.explain(body, last["box"], last["label"], "160x160", min_score=0)
    assert explanation["outcome"] == "found"
    # cells of 16 px, which begin where the tile does
    (position,) = explanation["positions"]
    left, top = (position["grid"][name] for name in ("left", "top"))
    assert [left, top] == last["box"][:2] != [0, 0]
    assert (position["cells"], position["grid"]["side"]) == ([0, 0, 4, 4], 16)
