"""A cache filled for many images: what is computed, what is there already, and what cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.boxes import as_boxes
from detector.datasets.dataset import Annotation
from detector.features.cache import FeatureCache, fill_cache, fill_proposals
from detector.features.encoder import RegionEncoder
from tests.training.small import NamedCells, annotation, image_of


@pytest.fixture
def four(tmp_path: Path) -> list[Annotation]:
    """Four images, of which "bad" is none and "gone" has no file."""
    squares = [([0, 0, 64, 64], 0)]
    made = [annotation(name, image_of(tmp_path, name, squares), squares) for name in ("a", "bad", "b", "gone")]
    made[1].path.write_bytes(b"no image")
    made[3].path.unlink()
    return made


class Counting:
    """Boxes that tell how often they were asked for."""

    calls = 0

    def __call__(self, image: Any) -> Any:
        self.calls += 1
        return as_boxes([[0, 0, image.shape[1], image.shape[0]]])


def cache_in(folder: Path, precomputed: Any = None) -> tuple[FeatureCache, Counting, NamedCells]:
    backbone, propose = NamedCells(), Counting()
    network: Any = backbone
    encoder = RegionEncoder(network, short_sides=(80, 160), levels=(1,))
    return FeatureCache(folder / "cache", encoder, propose, {"by": "hand"}, precomputed), propose, backbone


def ids(four: list[Annotation]) -> list[str]:
    return [each.image_id for each in four]


def test_what_can_be_read_is_computed_once_and_the_rest_is_named(
    tmp_path: Path, four: list[Annotation], caplog: pytest.LogCaptureFixture
) -> None:
    readable_ones = [four[0], four[1], four[2]]
    cache, propose, backbone = cache_in(tmp_path)
    assert ids(fill_cache(cache, iter(readable_ones))) == ["a", "b"]
    assert (propose.calls, len(backbone.sizes)) == (2, 4)
    assert "bad.png" in caplog.text and "going on without it" in caplog.text
    assert cache.is_complete("a") and not cache.is_complete("bad") and not cache.is_complete("a", mirrored=True)
    again, propose, backbone = cache_in(tmp_path)
    titles: list[tuple[str, int]] = []

    def progress(items: Any, title: str) -> Any:
        items = list(items)
        titles.append((title, len(items)))
        return items

    assert ids(fill_cache(again, readable_ones, progress)) == ["a", "b"]
    assert (propose.calls, backbone.sizes) == (0, [])
    assert titles == [("features", 1)]
    fill_cache(again, [four[0]], progress, mirrored=True)
    assert titles[-1] == ("features of mirror images", 1)
    assert (propose.calls, len(backbone.sizes)) == (0, 2)
    assert again.is_complete("a", mirrored=True)


def test_files_of_a_full_cache_are_taken_although_the_image_is_gone(tmp_path: Path, four: list[Annotation]) -> None:
    cache, _, _ = cache_in(tmp_path)
    fill_cache(cache, four[:1])
    four[0].path.unlink()
    assert ids(fill_cache(cache, four[:1])) == ["a"]


def test_nothing_readable_is_an_error(tmp_path: Path, four: list[Annotation]) -> None:
    cache, _, _ = cache_in(tmp_path)
    for fill in (fill_cache, fill_proposals):
        with pytest.raises(ValueError, match="none of the images could be read"):
            fill(cache, [four[1]])


def test_proposals_alone_run_no_network(tmp_path: Path, four: list[Annotation]) -> None:
    cache, propose, backbone = cache_in(tmp_path)
    assert ids(fill_proposals(cache, four[:3])) == ["a", "b"]
    assert (propose.calls, backbone.sizes) == (2, [])
    assert fill_proposals(cache, four[:1]) == four[:1]
    assert propose.calls == 2


def test_given_boxes_take_the_place_of_proposals(tmp_path: Path, four: list[Annotation]) -> None:
    given = {"a": as_boxes([[1, 2, 3, 4]])}
    cache, propose, _ = cache_in(tmp_path, given)
    assert not cache.is_complete("a")
    fill_cache(cache, four[:1])
    assert propose.calls == 0
    assert cache.is_complete("a") and not cache.is_complete("b")
    assert cache.proposals("a", four[0].path).tolist() == [[1, 2, 3, 4]]
    assert not cache.proposals_directory.exists()


def test_maps_of_a_wide_image_and_of_its_mirror_image(tmp_path: Path) -> None:
    """Sizes are height and width, zooms those of each scale; mirrored maps are turned."""
    from detector.images.files import write_image

    image = np.zeros((80, 160, 3), np.uint8)
    image[:, :32, 1] = 100
    write_image(tmp_path / "wide.png", image)
    cache, _, _ = cache_in(tmp_path)
    maps, mirrored = cache.maps("wide", tmp_path / "wide.png"), cache.mirrored_maps("wide", tmp_path / "wide.png")
    assert maps.image_size == mirrored.image_size == (80, 160)
    assert maps.zooms == (1.0, 2.0)
    assert [each.shape for each in maps.maps] == [(5, 10, 3), (10, 20, 3)]
    np.testing.assert_array_equal(mirrored.maps[0], maps.maps[0][:, ::-1])
    assert maps.maps[0][2, :, 1].tolist() == [100, 100] + [0] * 8
