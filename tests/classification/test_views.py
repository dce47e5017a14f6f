"""Views of a classifier: crops counted by hand, and training images of several sizes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from detector.classification.samples import ResizedImages, epoch_order, epoch_size, training_image
from detector.classification.views import (
    MULTI_SIDES,
    corners_and_center,
    crop_box,
    multi_sides,
    nine_crops,
    resize_squeezed,
    view_images,
)
from detector.config.classifier import ImageConfig
from detector.datasets.image_classes import LabeledImages, exclusive_targets
from detector.images.files import write_image
from detector.images.resizing import resize_short_side


@pytest.fixture
def noise() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (30, 41, 3)).astype(np.uint8)


def test_crops_at_corners_edges_and_center() -> None:
    assert corners_and_center(30, 41, 20).tolist() == [
        [0, 0, 20, 20],
        [21, 0, 41, 20],
        [0, 10, 20, 30],
        [21, 10, 41, 30],
        [10, 5, 30, 25],
    ]
    expected = {(x, y, x + 20, y + 20) for x in (0, 10, 21) for y in (0, 5, 10)}
    crops = nine_crops(30, 41, 20)
    assert len(crops) == 9
    assert {tuple(box) for box in crops.tolist()} == expected


def test_crops_as_high_as_the_image_are_three() -> None:
    assert sorted(nine_crops(30, 41, 30).tolist()) == [[0, 0, 30, 30], [5, 0, 35, 30], [11, 0, 41, 30]]
    assert nine_crops(30, 30, 30).tolist() == [[0, 0, 30, 30]]
    # 96 views in an image that is not square (paper, section 3.1.4)
    assert sum(2 * len(nine_crops(side, side + 50, 224)) for side in multi_sides(224)) == 96


def test_crops_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="crops of 31 pixels do not fit an image of 41 x 30"):
        nine_crops(30, 41, 31)


def test_scales_of_other_crops() -> None:
    assert multi_sides(224) == MULTI_SIDES
    assert multi_sides(112) == (112, 128, 150, 180, 224, 280)


def test_crops_are_pixels_of_the_resized_image(noise: NDArray[np.uint8]) -> None:
    (one,) = view_images(noise, "one", 30, 20)
    np.testing.assert_array_equal(one, noise[5:25, 10:30])
    ten = view_images(noise, "ten", 30, 20)
    assert len(ten) == 10
    np.testing.assert_array_equal(ten[3], noise[10:30, 21:41])
    np.testing.assert_array_equal(ten[8], noise[10:30, 21:41][:, ::-1])
    (whole,) = view_images(noise, "whole", 60, 20)
    np.testing.assert_array_equal(whole, resize_short_side(noise, 60)[0])
    with pytest.raises(ValueError, match="do not fit"):
        view_images(noise, "one", 19, 20)
    with pytest.raises(ValueError, match="one, ten or whole"):
        view_images(noise, "multi", 30, 20)


def test_very_long_images_are_squeezed_to_four_to_one() -> None:
    assert resize_squeezed(np.zeros((3, 300, 3), np.uint8), 20).shape == (20, 80, 3)
    assert resize_squeezed(np.zeros((1000, 10, 3), np.uint8), 20).shape == (80, 20, 3)
    assert resize_squeezed(np.zeros((10, 40, 3), np.uint8), 20).shape == (20, 80, 3)


def test_parts_have_whole_pixels_and_at_least_one(noise: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(crop_box(noise, np.array([1.5, 2, 3.2, 4], np.float32)), noise[2:4, 1:4])
    np.testing.assert_array_equal(crop_box(noise, np.array([-5, -5, 99, 99], np.float32)), noise)
    assert crop_box(noise, np.array([41, 30, 45, 33], np.float32)).shape == (1, 1, 3)


def test_other_sizes_are_the_same_crop_resized(noise: NDArray[np.uint8]) -> None:
    images = [training_image(noise, 20, 20, 0, 3, index) for index in range(50)]
    for index, image in enumerate(images):
        smaller = training_image(noise, 20, 16, 0, 3, index)
        np.testing.assert_array_equal(smaller, cv2.resize(image, (16, 16), interpolation=cv2.INTER_LINEAR))
    parts = {noise[y : y + 20, x : x + 20].tobytes() for y in range(11) for x in range(22)}
    n_straight = sum(image.tobytes() in parts for image in images)
    assert all(image.tobytes() in parts or image[:, ::-1].tobytes() in parts for image in images)
    assert 10 < n_straight < 40
    assert len({image.tobytes() for image in images}) > 40


def test_crops_depend_on_seed_epoch_and_index_alone(noise: NDArray[np.uint8]) -> None:
    first = training_image(noise, 20, 20, 0, 3, 7)
    np.random.seed(1)
    np.testing.assert_array_equal(training_image(noise, 20, 20, 0, 3, 7), first)
    for other in ((1, 3, 7), (0, 4, 7), (0, 3, 8)):
        assert not np.array_equal(training_image(noise, 20, 20, *other), first)


def test_sizes_alternate_or_are_drawn() -> None:
    assert [epoch_size(ImageConfig(sizes=(224, 180)), 0, epoch) for epoch in range(4)] == [224, 180, 224, 180]
    assert epoch_size(ImageConfig(), 0, 5) == 224
    drawn = ImageConfig(sizes=(180, 224), size_rule="random")
    sizes = [epoch_size(drawn, 0, epoch) for epoch in range(300)]
    assert (min(sizes), max(sizes)) == (180, 224)
    assert sizes == [epoch_size(drawn, 0, epoch) for epoch in range(300)]


def test_an_epoch_has_each_sample_once() -> None:
    orders = [epoch_order(20, 0, epoch) for epoch in range(2)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(20))
    assert orders[0].tolist() != orders[1].tolist()


def test_resized_images_are_kept_and_belong_to_their_image(tmp_path: Path, noise: NDArray[np.uint8]) -> None:
    path = tmp_path / "noise.png"
    write_image(path, noise)
    boxes = np.array([[0, 0, 41, 30], [10, 0, 30, 20]], np.float32)
    samples = LabeledImages((path, path), exclusive_targets(np.arange(2), 2), ("a", "b"), True, "noise", boxes)
    kept = ResizedImages(samples, 20, tmp_path / "cache")
    for _ in range(2):
        np.testing.assert_array_equal(kept[0], resize_squeezed(noise, 20))
        np.testing.assert_array_equal(kept[1], noise[:20, 10:30])
    files = sorted((tmp_path / "cache").rglob("*.safetensors"))
    assert len(files) == 2
    for file in files:
        file.write_bytes(file.read_bytes()[:-1])
    np.testing.assert_array_equal(kept[1], ResizedImages(samples, 20)[1])
    write_image(path, noise[:, :, ::-1])
    np.testing.assert_array_equal(kept[0], resize_squeezed(noise[:, :, ::-1], 20))
