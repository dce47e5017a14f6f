"""The cache of feature maps and proposals: what is stored, when it is computed again, what damage does."""

from __future__ import annotations

import logging
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.features.cache import FeatureCache, cache_folders
from detector.features.encoder import FeatureMaps, RegionEncoder
from detector.images.files import write_image
from tests.fakes import MeanOfCells

SETTINGS = {"mode": "fast", "seed": 0}


class NamedBackbone(MeanOfCells):
    """The fake network with weights of any digest."""

    def __init__(self, digest: str = "00") -> None:
        super().__init__()
        self.digest = digest


class Proposer:
    """A fake source of boxes that counts its calls."""

    calls = 0

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.calls += 1
        return np.array([[0, 0, image.shape[1], image.shape[0]]], np.float32)


@pytest.fixture
def image(tmp_path: Path, cat: NDArray[np.uint8]) -> Path:
    path = tmp_path / "cat.png"
    write_image(path, cat)
    return path


def make_cache(directory: Path, **settings: Any) -> FeatureCache:
    backbone: Any = NamedBackbone(settings.pop("digest", "00"))
    encoder = RegionEncoder(backbone, **{"short_sides": (96, 160), **settings})
    return FeatureCache(directory, encoder, Proposer(), SETTINGS)


def fill(cache: FeatureCache, image_id: str, image: Path) -> None:
    cache.maps(image_id, image)
    cache.proposals(image_id, image)


def equal(a: FeatureMaps, b: FeatureMaps) -> bool:
    same = all(np.array_equal(x, y) for x, y in zip(a.maps, b.maps, strict=True))
    return same and (a.zooms, a.image_size) == (b.zooms, b.image_size)


def test_second_time_is_read_not_computed(tmp_path: Path, image: Path, cat: NDArray[np.uint8]) -> None:
    cache = make_cache(tmp_path / "cache")
    assert not cache.is_complete("cat")
    maps, boxes = cache.maps("cat", image), cache.proposals("cat", image)
    assert cache.is_complete("cat")
    image.unlink()
    again = make_cache(tmp_path / "cache")
    assert equal(again.maps("cat", image), maps)
    np.testing.assert_array_equal(again.proposals("cat", image), boxes)
    direct = cache.encoder.maps(cat)
    assert maps.maps[0].dtype == np.float16
    np.testing.assert_allclose(maps.maps[1], direct.maps[1], rtol=1e-3)


def test_an_image_that_no_features_can_be_of_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "narrow.png", np.zeros((2000, 1, 3), np.uint8))
    with pytest.raises(ValueError, match=r"narrow\.png: the image is too narrow"):
        make_cache(tmp_path / "cache").maps("narrow", tmp_path / "narrow.png")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.parametrize("image_id", ["train/one", "..", "照" * 60, "x" * 300])
def test_any_image_id_has_a_file(tmp_path: Path, image: Path, image_id: str) -> None:
    propose = Proposer()
    cache = replace(make_cache(tmp_path / "cache"), propose=propose)
    for each in (image_id, image_id[:-1], image_id + "1"):
        cache.proposals(each, image)
    assert propose.calls == 3
    cache.proposals(image_id, image)
    assert propose.calls == 3
    assert len(list(cache.proposals_directory.glob("*.safetensors"))) == 3


def test_what_changes_values_changes_the_folder(tmp_path: Path) -> None:
    base = make_cache(tmp_path)
    assert make_cache(tmp_path).maps_directory == base.maps_directory
    assert make_cache(tmp_path, digest="01").maps_directory != base.maps_directory
    assert make_cache(tmp_path, short_sides=(96,)).maps_directory != base.maps_directory
    by_openvino = make_cache(tmp_path)
    network: Any = by_openvino.encoder.backbone
    network.runtime = "openvino"
    assert by_openvino.maps_directory != base.maps_directory
    # pooling happens after the cache
    assert make_cache(tmp_path, levels=(1,)).maps_directory == base.maps_directory
    other = replace(base, proposal_settings={**SETTINGS, "seed": 1})
    assert other.proposals_directory != base.proposals_directory
    assert other.maps_directory == base.maps_directory


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "foreign"])
def test_a_damaged_file_is_named_and_replaced(
    tmp_path: Path, image: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = make_cache(tmp_path / "cache")
    maps = cache.maps("cat", image)
    (path,) = cache.maps_directory.glob("*.safetensors")
    content = path.read_bytes()
    flipped = content[:-10] + bytes([content[-10] ^ 255]) + content[-9:]
    path.write_bytes({"empty": b"", "cut": content[:-7], "flipped": flipped, "foreign": b"something else"}[damage])
    with caplog.at_level(logging.WARNING):
        assert equal(cache.maps("cat", image), maps)
    assert str(path) in caplog.text
    assert path.read_bytes() == content


def test_nothing_half_written_is_left(tmp_path: Path, image: Path) -> None:
    cache = make_cache(tmp_path / "cache")
    cache.maps("folder/cat", image)
    assert cache_folders(cache.directory)[0].settings["runtime"] == "torch"
    names = sorted(path.name for path in cache.maps_directory.iterdir())
    assert names == ["folder%2Fcat.safetensors", "settings.json"]


def test_files_of_another_image_are_named_and_replaced(
    tmp_path: Path, image: Path, cat: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    cache = make_cache(tmp_path / "cache")
    cache.maps("cat", image)
    other = tmp_path / "other" / "cat.png"
    other.parent.mkdir()
    write_image(other, cat[:, ::-1].copy())
    expected = make_cache(tmp_path / "another").maps("cat", other)
    with caplog.at_level(logging.WARNING):
        assert equal(cache.maps("cat", other), expected)
        assert caplog.text.count("belongs to another image") == 1
        assert equal(cache.maps("cat", other), expected)
        assert caplog.text.count("belongs to another image") == 1


def test_folders_tell_what_is_in_them(tmp_path: Path, image: Path) -> None:
    cache = make_cache(tmp_path / "cache")
    fill(cache, "cat", image)
    fill(cache, "dog", image)
    maps, proposals = cache_folders(tmp_path / "cache")
    assert (maps.path, proposals.path) == (cache.maps_directory, cache.proposals_directory)
    assert (maps.n_images, proposals.n_images) == (2, 2)
    assert maps.n_bytes == sum(path.stat().st_size for path in maps.path.glob("*.safetensors"))
    assert (maps.settings["backbone"], maps.settings["short_sides"]) == ("fake", [96, 160])
    assert proposals.settings == SETTINGS
    with pytest.raises(FileNotFoundError):
        cache_folders(tmp_path / "nowhere")


def test_a_full_disk_leaves_a_usable_cache(tmp_path: Path, image: Path) -> None:
    cache = make_cache(tmp_path / "cache")
    fill(cache, "cat", image)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match=r"dog\.safetensors"):
            cache.maps("dog", image)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(path.name for path in cache.maps_directory.iterdir()) == ["cat.safetensors", "settings.json"]
    fill(cache, "dog", image)
    assert equal(cache.maps("dog", image), cache.maps("cat", image))
