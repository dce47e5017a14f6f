"""Training on tiles: what they show, what they are trained on, and who stays with whom."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detector.config.detector import Config, load_config, parse_config
from detector.datasets.dataset import Annotation
from detector.datasets.tiles import crop, cut, read_view, view_size
from detector.heads.proposal_filter import ProposalFilter
from detector.tiles import Window
from detector.training.adaptation import adapt_recipe
from detector.training.calibration import held_out_ids, held_out_parts
from detector.training.sampling import validation_split
from detector.training.tiling import best_views, object_side, training_views, with_tile_size
from detector.training.train import checkpoint_files, train
from detector.training.training_set import TrainingSet
from tests.training.small import annotation, image_of, small_cache, small_set

RECIPE = {
    "features": {"short_sides": [160], "levels": [1]},
    "svm": {"loss": "squared_hinge", "C": 0.1, "max_samples": 5000},
    "regression": {"enabled": False},
    "calibration": {"held_out": 0.5},
}
TILE = Window(60, 0, 160, 100)


def recipe(tiles: int | str | None) -> Config:
    return parse_config({**RECIPE, "detection": {"tiles": tiles}}, "test")


def photograph(folder: Path, name: str = "a") -> Annotation:
    # the tile shows nothing, 4 of 10, half and all of these
    squares = [([0, 0, 40, 40], 0), ([54, 50, 64, 60], 1), ([50, 0, 70, 20], 2), ([100, 60, 140, 100], 0)]
    return annotation(name, image_of(folder, name, squares), squares, [False, False, True, False])


def test_a_tile_has_the_visible_parts_of_objects_and_ignores_those_cut_to_less_than_half(tmp_path: Path) -> None:
    tile = cut(photograph(tmp_path), TILE)
    assert tile.boxes.tolist() == [[0, 50, 4, 60], [0, 0, 10, 20], [40, 60, 80, 100]]
    assert tile.labels.tolist() == [1, 2, 0]
    assert tile.difficult.tolist() == [False, True, False]
    assert tile.ignored is not None and tile.ignored.tolist() == [True, False, False]
    assert tile.image_id == "a" and tile.window == TILE and view_size(tile) == (100, 100)
    pixels = read_view(tile)
    assert pixels.shape == (100, 100, 3) and pixels[99, 79, 0] == 200 and pixels[99, 80, 0] == 0
    assert tile.to_bytes() != cut(photograph(tmp_path), TILE._replace(x2=159)).to_bytes()
    with pytest.raises(ValueError, match="not inside the image of 160 x 160"):
        crop(read_view(photograph(tmp_path)), Window(60, 0, 161, 100))


@pytest.mark.parametrize("difficult", [True, False])
def test_ignored_objects_are_neither_trained_on_nor_background(tmp_path: Path, difficult: bool) -> None:
    given = {"a": [[54, 50, 64, 60], [100, 60, 140, 100], [120, 0, 160, 40]]}
    tile = cut(photograph(tmp_path), TILE)
    images = TrainingSet([tile], 3, small_cache(tmp_path, given), difficult=difficult)
    # the first proposal is shown by less than half, and left out as well
    boxes, labels = images.boxes(0)
    assert labels.tolist() == ([2, 0] if difficult else [0])
    assert boxes[len(labels) :].tolist() == [[40, 60, 80, 100], [60, 0, 100, 40]]
    assert images.object_counts().tolist() == [1, 0, int(difficult)] and images.has_objects(0)
    alone = replace(
        tile, boxes=tile.boxes[:1], labels=tile.labels[:1], difficult=tile.difficult[:1], ignored=np.ones(1, np.bool_)
    )
    none = replace(images, annotations=[alone])
    assert not none.has_objects(0) and none.object_counts().tolist() == [0, 0, 0]
    # a box on the ignored object is no sample of fine-tuning, and no negative of its class
    covering = replace(none, cache=small_cache(tmp_path, {"a": [[60, 50, 64, 60], [120, 0, 160, 40]]}))
    assert covering.labeled_boxes(0)[0].tolist() == [[60, 0, 100, 40]]
    seen = replace(none, cache=small_cache(tmp_path, {"a": [[58, 48, 68, 60], [120, 0, 160, 40]]}))
    assert seen[0].targets[:, 1].tolist() == [0, -1]


def eight(folder: Path, difficult: bool = True) -> TrainingSet:
    """Eight photographs with two small squares each, of three classes."""
    objects = {
        f"{n}": [([8 * n, 10, 8 * n + 30, 40], n % 3), ([100, 8 * n + 30, 130, 8 * n + 60], (n + 1) % 3)]
        for n in range(8)
    }
    boxes = {name: [*(box for box, _ in each), [0, 120, 40, 160]] for name, each in objects.items()}
    return small_set(folder, objects, boxes, difficult=difficult)


def test_tiles_stay_with_their_photograph(tmp_path: Path) -> None:
    images = eight(tmp_path)
    config = recipe("100x100")
    views = training_views(config, images.annotations)
    assert len(views) == 8 * (1 + 4) and training_views(config, views) is views
    assert training_views(recipe(None), images.annotations) is images.annotations
    of_views = replace(images, annotations=views)
    parts, whole = (held_out_parts(each, config.calibration) for each in (of_views, images))
    ids = [{views[row].image_id for row in part} for part in parts]
    assert ids == [{images.annotations[row].image_id for row in part} for part in whole]
    for part, own in zip(parts, ids, strict=True):
        assert part.tolist() == [row for row, each in enumerate(views) if each.image_id in own]
    training, validation = validation_split(of_views, config.fine_tuning)
    sides = [{views[row].image_id for row in each.indices} for each in (training, validation)]
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == 8 and len(sides[1]) == 1
    assert held_out_ids(of_views, config) == sides[1]


def test_a_model_trained_on_tiles_detects_in_them(tmp_path: Path) -> None:
    images = eight(tmp_path)
    names = ("red", "green", "blue")
    plain, tiled = (train(recipe(each), images.annotations, names, images.cache) for each in (None, "100x100"))
    assert tiled.config.detection.tiles == "100x100" and len(tiled.windows((160, 160))) == 4
    assert not np.array_equal(plain.heads.scorer.weights, tiled.heads.scorer.weights)  # type: ignore[union-attr]
    cached = [path.name for path in images.cache.maps_directory.glob("*.safetensors")]
    assert len(cached) == 8 * 5 and "0.safetensors" in cached and "0@60_60_160_160.safetensors" in cached
    # cross-validation detects in whole photographs with their tiles
    assert tiled.calibration is not None and tiled.record["cross_validation"]["mAP"] > 0.9
    files = [checkpoint_files(recipe(each), images) for each in (None, 4, "100x100")]
    assert len({each.svms for each in files}) == 3
    # from the cache and from the file: to the precision of the cache
    found = tiled.detect_cached(images.cache, images.annotations[0])
    direct = tiled.detect(images.annotations[0].path, min_score=tiled.config.detection.min_score)
    assert len(found) >= 2 and len(direct) == 0  # the cache has given boxes, and nothing is proposed


def test_proposals_of_a_tile_are_filtered_by_themselves(tmp_path: Path) -> None:
    image = photograph(tmp_path)
    cache = small_cache(tmp_path, {"a": [[0, 120, 40, 160], [100, 60, 140, 100], [60, 0, 100, 40], [70, 50, 110, 90]]})
    images = TrainingSet([image, cut(image, TILE)], 3, cache)
    # the redder, the better
    red = ProposalFilter(np.eye(3, dtype=np.float32)[:, :1], np.zeros(1, np.float32), (1,))
    filtered = images.filtered(red, 1)
    kept = [boxes[len(labels) :].tolist() for boxes, labels in map(filtered.boxes, range(2))]
    assert kept == [[[100, 60, 140, 100]], [[40, 60, 80, 100]]]


def test_auto_is_a_size_by_the_objects_and_images(tmp_path: Path) -> None:
    images = eight(tmp_path)
    assert object_side(images.annotations) == pytest.approx(30)
    assert object_side([]) is None
    # a tenth of eleven objects are smaller than the second smallest
    squares = [([0, 0, side, side], 0) for side in range(10, 120, 10)]
    assert object_side([annotation("a", tmp_path / "a.png", squares)]) == pytest.approx(20)
    # 30 px of 160 are seen at 30 px, wanted are 64: 75 px, but pixels are enlarged by at most two
    assert with_tile_size(recipe("auto"), images.annotations).detection.tiles == "80x80"
    assert with_tile_size(recipe(9), images.annotations).detection.tiles == 9
    large = [annotation("0", images.annotations[0].path, [([0, 0, 100, 100], 0)])]
    assert with_tile_size(recipe("auto"), large).detection.tiles is None
    wide = parse_config({"features": {"short_sides": [100]}, "detection": {"tiles": "auto"}}, "test")
    small = [annotation("0", image_of(tmp_path, "large", [], 1000), [([0, 0, 10, 10], 0)])]
    resolved = with_tile_size(wide, small)
    assert len(training_views(resolved, small)) == 1 + 9  # 12 or fewer tiles, in a square


def test_objects_are_found_where_they_are_shown_best(tmp_path: Path) -> None:
    each = photograph(tmp_path)
    views = best_views(recipe("100x100"), [each])
    counts = {view.window and view.window[:2]: view.boxes.tolist() for view in views}
    assert counts[None] == []
    assert counts[(60, 0)] == [[40, 60, 80, 100]] and counts[(0, 60)] == []
    adapted = adapt_recipe(recipe("100x100"), [each], precomputed={"a": each.boxes})
    assert adapted.config.detection.tiles == "100x100" and "in tiles of 100x100" in str(adapted)


def test_tiles_of_recipes_are_checked_where_they_are_read(tmp_path: Path) -> None:
    assert load_config("default").detection.tiles is None
    assert load_config("default", tiles="auto").detection.tiles == "auto"
    for wrong in ("3x3", 0, 401, 1.5, True, [3]):
        with pytest.raises(ValueError, match="tiles"):
            parse_config({"detection": {"tiles": wrong}}, "test")


def test_too_many_tiles_are_refused_before_any_work(tmp_path: Path) -> None:
    large = annotation("0", image_of(tmp_path, "large", [], 1000), [([0, 0, 10, 10], 0)])
    with pytest.raises(ValueError, match="would cut the image of 1000 x 1000 into 1521, more than 400"):
        training_views(recipe("32x32"), [large])
    missing = annotation("1", tmp_path / "missing.png", [([0, 0, 10, 10], 0)])
    assert training_views(recipe("32x32"), [missing]) == [missing]
