"""Train on tiles: their size for the objects of a data set, and the views of its images to train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detector.boxes import area
from detector.config.detector import Config
from detector.datasets.dataset import Annotation
from detector.datasets.tiles import cut, view_size
from detector.tiles import AUTO, MAX_AUTO_TILES, Window, auto_side, tile_windows, visible

_SMALL = 0.1
"""Fraction of the objects that are small: tiles are made for the largest of them."""
_MORE = 1.1


def object_side(annotations: Sequence[Annotation]) -> float | None:
    """Return the side in pixels, the root of the area, of the smallest tenth of the objects; None without objects."""
    areas = np.concatenate([np.zeros(0, np.float32), *(area(each.boxes) for each in annotations)])
    return float(np.sqrt(np.quantile(areas[areas > 0], _SMALL))) if (areas > 0).any() else None


def with_tile_size(config: Config, annotations: Sequence[Annotation]) -> Config:
    """Return the recipe with a size of tiles in place of "auto", by the objects and images of a data set.

    No tiles where every image shows its small objects well. Half of the images have at most `MAX_AUTO_TILES`.
    """
    if config.detection.tiles != AUTO:
        return config
    return config.with_tiles(_auto_tiles(annotations, max(config.features.short_sides)))


def _auto_tiles(annotations: Sequence[Annotation], short_side: int) -> str | None:
    sizes = []
    for each in annotations:
        try:
            sizes.append(view_size(each))
        except (OSError, ValueError):  # reported where the image is decoded
            continue
    small = object_side(annotations)
    if not any(tile_windows(size, AUTO, short_side, small) for size in sizes):
        return None
    side = auto_side(short_side, small)
    while np.median([_n_tiles(size, side) for size in sizes]) > MAX_AUTO_TILES:
        side = round(_MORE * side)
    return f"{side}x{side}"


def _n_tiles(size: tuple[int, int], side: int) -> int:
    """Return the number of tiles of an image; more than `MAX_AUTO_TILES` where there are too many to count."""
    try:
        return len(tile_windows(size, f"{side}x{side}", side))
    except ValueError:
        return MAX_AUTO_TILES + 1


def training_views(config: Config, annotations: Sequence[Annotation]) -> Sequence[Annotation]:
    """Return the images to train on by a recipe, each followed by its tiles, if the recipe cuts it.

    Views that are given are returned as they are.
    """
    if config.detection.tiles is None or any(each.window is not None for each in annotations):
        return annotations
    return [view for each in annotations for view in (each, *(cut(each, w) for w in _windows(config, each)))]


def best_views(config: Config, annotations: Sequence[Annotation]) -> Sequence[Annotation]:
    """Return the images and their tiles with those objects alone that each shows best.

    That is a tile for the objects that it shows whole, and the image for all others: this is where a detector has to
    find them.
    """
    if config.detection.tiles is None:
        return annotations
    views = []
    for each in annotations:
        left = np.ones(len(each.boxes), np.bool_)
        tiles = []
        for window in _windows(config, each):
            whole = visible(each.boxes, window)[1] >= 1
            left &= ~whole
            tiles.append(cut(_only(each, whole), window))
        views += [_only(each, left), *tiles]
    return views


def _windows(config: Config, annotation: Annotation) -> list[Window]:
    """Return the tiles of an image; none of one that cannot be read, which is reported where it is decoded."""
    try:
        size = view_size(annotation)
    except (OSError, ValueError):
        return []
    return tile_windows(size, config.detection.tiles, max(config.features.short_sides))


def _only(annotation: Annotation, kept: NDArray[np.bool_]) -> Annotation:
    """Return an annotation with some of its objects ``(N,)``."""
    rows = {name: getattr(annotation, name)[kept] for name in ("boxes", "labels", "difficult")}
    return replace(annotation, **rows)
