"""Image and boxes to features, with the real default network and with a fake one."""

from __future__ import annotations

import tracemalloc
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.backbones.torch_backbone import TorchBackbone, load_torch_backbone
from detector.boxes import as_boxes
from detector.features.encoder import RegionEncoder, signed_power
from detector.images.resizing import resize_short_side
from tests.fakes import MeanOfCells
from tests.reference import pyramid_pool

BOXES = as_boxes([[10, 20, 200, 180], [0, 0, 451, 300], [100, 100, 140, 130]])


def fake_encoder(**settings: Any) -> RegionEncoder:
    backbone: Any = MeanOfCells()
    return RegionEncoder(backbone, **settings)


@pytest.fixture(scope="module")
def lite0() -> TorchBackbone:
    return load_torch_backbone("efficientnet_lite0")


def test_one_forward_pass_a_scale(cat: NDArray[np.uint8]) -> None:
    encoder = fake_encoder(short_sides=(96, 160, 240))
    maps = encoder.maps(cat)
    backbone: Any = encoder.backbone
    assert [min(size) for size in backbone.sizes] == [96, 160, 240]
    assert maps.zooms == (96 / 300, 160 / 300, 240 / 300)
    assert maps.image_size == (300, 451)
    assert [each.shape for each in maps.maps] == [(6, 9, 3), (10, 15, 3), (15, 22, 3)]


def test_features_equal_pooling_step_by_step(cat: NDArray[np.uint8]) -> None:
    encoder = fake_encoder(short_sides=(160,), levels=(3, 1))
    resized, zoom = resize_short_side(cat, 160)
    feature_map = MeanOfCells()(resized).permute(1, 2, 0).numpy()
    # centers 7.5 + 16 k strictly inside the box at zoom 160 / 300
    windows = []
    for x1, y1, x2, y2 in BOXES * zoom:
        xs = [k for k in range(15) if x1 < 7.5 + 16 * k < x2]
        ys = [k for k in range(10) if y1 < 7.5 + 16 * k < y2]
        windows.append([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1])
    expected = pyramid_pool(feature_map, np.array(windows), (3, 1)).reshape(3, 30)
    np.testing.assert_array_equal(encoder(cat, BOXES), expected)
    assert encoder.n_features == 30


def test_boxes_are_read_from_their_best_scale(cat: NDArray[np.uint8]) -> None:
    encoder = fake_encoder(short_sides=(96, 480))
    maps = encoder.maps(cat)
    windows = encoder.regions(maps, BOXES)
    # 480 / 300 makes the 190 x 160 box 304 x 256, far from 224^2; 96 / 300 makes it 61 x 51, farther
    assert windows[:, 0].tolist() == [1, 0, 1]
    alone = fake_encoder(short_sides=(480,))
    np.testing.assert_array_equal(encoder(cat, BOXES)[[0, 2]], alone(cat, BOXES)[[0, 2]])


def test_no_boxes(cat: NDArray[np.uint8]) -> None:
    assert fake_encoder(short_sides=(96,))(cat, as_boxes([])).shape == (0, 150)


def test_normalization_is_applied_to_pooled_values(cat: NDArray[np.uint8]) -> None:
    plain = fake_encoder(short_sides=(96,))(cat, BOXES)
    rooted = fake_encoder(short_sides=(96,), normalize=partial(signed_power, power=0.5))(cat, BOXES)
    np.testing.assert_allclose(rooted**2, plain, rtol=1e-5)


def test_signed_powers_by_hand() -> None:
    values = np.array([[-4.0, 0.0, 9.0]], np.float32)
    assert signed_power(values, 1.0) is values
    assert signed_power(values, 0.5).tolist() == [[-2, 0, 3]]
    np.testing.assert_allclose(signed_power(values, 0.25), [[-np.sqrt(2), 0, np.sqrt(3)]], rtol=1e-6)


@pytest.mark.parametrize("short_sides", [(), (688, 480), (0,)])
def test_scales_must_ascend(short_sides: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="short_sides must be positive and ascending"):
        fake_encoder(short_sides=short_sides)


def test_real_features_follow_the_object(lite0: TorchBackbone, cat: NDArray[np.uint8]) -> None:
    """The face of the cat looks like itself when the image is mirrored, and not like another part."""
    encoder = RegionEncoder(lite0, short_sides=(320,), levels=(1,))
    face, corner = as_boxes([[90, 20, 250, 190]]), as_boxes([[330, 180, 450, 300]])
    mirrored_face = as_boxes([[451 - 250, 20, 451 - 90, 190]])
    here = encoder(cat, np.concatenate([face, corner]))
    there = encoder(np.ascontiguousarray(cat[:, ::-1]), mirrored_face)

    def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    assert cosine(here[0], there[0]) > 0.9
    assert cosine(here[0], there[0]) > cosine(here[0], here[1]) + 0.1


def test_extreme_images(lite0: TorchBackbone) -> None:
    encoder = RegionEncoder(lite0, short_sides=(64,))
    for shape in ((1, 1, 3), (1, 500, 3), (500, 2, 3)):
        features = encoder(np.zeros(shape, np.uint8), as_boxes([[0, 0, shape[1], shape[0]]]))
        assert features.shape == (1, 16_000)
        assert np.isfinite(features).all()


def test_images_must_be_rgb() -> None:
    with pytest.raises(ValueError, match="image must be"):
        fake_encoder()(np.zeros((4, 4), np.uint8), BOXES)


def test_scales_that_no_box_is_read_from_are_not_computed(cat: NDArray[np.uint8]) -> None:
    encoder = fake_encoder(short_sides=(96, 160, 480))
    features = encoder(cat, BOXES)  # none is nearest to its target size at 96
    backbone: Any = encoder.backbone
    assert [min(size) for size in backbone.sizes] == [160, 480]
    maps = encoder.maps(cat)
    np.testing.assert_array_equal(features, encoder.pool(maps, encoder.regions(maps, BOXES)))
    # another box, which would be read from 96 if that were there
    whole = as_boxes([[0, 0, 451, 300]])
    few = fake_encoder(short_sides=(96, 160, 480))
    assert few.regions(few.maps(cat, BOXES[[0]]), whole)[:, 0].tolist() == [2]


def test_blocks_give_what_all_rows_at_once_give(cat: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    corners = np.random.default_rng(0).uniform(0, 150, (300, 2))
    boxes = as_boxes(np.concatenate([corners, corners + 150], axis=1))
    encoder = fake_encoder(short_sides=(96, 480), levels=(3, 1))
    maps = encoder.maps(cat)
    windows = encoder.regions(maps, boxes)
    weights = np.random.default_rng(1).standard_normal((30, 4)).astype(np.float32)
    expected = encoder.pool(maps, windows) @ weights
    for threads in ("1", "3"):
        monkeypatch.setenv("DETECTOR_THREADS", threads)
        np.testing.assert_allclose(encoder.apply(lambda rows: rows @ weights, maps, windows), expected, rtol=1e-4)
    assert encoder.apply(lambda rows: rows @ weights, maps, windows[:0]).shape == (0, 4)


def test_memory_of_scoring_does_not_grow_with_the_boxes(
    cat: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTOR_THREADS", "2")  # each thread has a block of its own
    encoder = fake_encoder(short_sides=(480,), levels=(6, 3, 2, 1))
    maps = encoder.maps(cat)
    windows = encoder.regions(maps, np.repeat(BOXES, 5000, axis=0))
    tracemalloc.start()
    try:
        encoder.apply(lambda rows: rows.sum(1), maps, windows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # all features are 15,000 x 150 float32, 9 MB; the blocks' own rows and windows are the rest
    assert peak < 2.5e6
