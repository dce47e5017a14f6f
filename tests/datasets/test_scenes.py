"""Group images into scenes, and hold out whole scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.hold_out import hold_out
from detector.datasets.scenes import scenes
from detector.images.files import write_image


def photo(seed: int) -> NDArray[np.uint8]:
    """A smooth image, another one for each seed, as real photographs differ."""
    fields = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(fields, (320, 240), interpolation=cv2.INTER_CUBIC)


def annotation(path: Path, label: int = 0) -> Annotation:
    box = np.array([[1, 2, 30, 40]], np.float32)
    return Annotation(path.stem, path, box, np.array([label]), np.array([False]))


def groups(folder: Path, images: dict[str, NDArray[np.uint8]]) -> list[int]:
    found = []
    for name, image in images.items():
        write_image(folder / name, image)
        found.append(annotation(folder / name))
    return scenes(found).tolist()


def test_copies_look_alike(tmp_path: Path) -> None:
    image = photo(0)
    small = cv2.resize(image, (200, 150), interpolation=cv2.INTER_AREA)
    brighter = cv2.convertScaleAbs(image, alpha=0.8, beta=40)
    images = {"a.jpg": image, "x.jpg": photo(1), "b.png": small, "c.webp": brighter, "d.jpg": image[:, ::-1].copy()}
    assert groups(tmp_path, images) == [0, 1, 0, 0, 0]


def test_different_images_are_different_scenes(tmp_path: Path) -> None:
    images = {f"{seed}.jpg": photo(seed) for seed in range(30)}
    assert groups(tmp_path, images) == [*range(30)]


def test_small_objects_on_white_are_different_scenes(tmp_path: Path) -> None:
    images = {}
    for number in range(4):
        image = np.full((240, 320, 3), 255, np.uint8)
        cv2.circle(image, (60 + 60 * number, 60 + 40 * (number % 3)), 25 + 5 * number, (40 * number, 90, 30), -1)
        images[f"product-{'abcd'[number]}.png"] = image
    assert groups(tmp_path, images) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "names",
    [
        ("a_jpg.rf.0123abcd.jpg", "a_jpg.rf.99ee.jpg"),
        ("a_png.rf.0123abcd.jpg", "a.jpg"),
        ("a.jpg", "a_aug_1.jpg"),
        ("a-flipped.jpg", "a_rot90.jpg"),
    ],
)
def test_names_of_augmented_copies(names: Sequence[str], tmp_path: Path) -> None:
    # whatever the augmentation left of the image
    assert groups(tmp_path, {name: photo(seed) for seed, name in enumerate((*names, "b.jpg"))}) == [0, 0, 1]


def test_many_names_with_a_running_number_are_no_copies(tmp_path: Path) -> None:
    found = [annotation(tmp_path / f"set_aug_{number}.jpg") for number in range(33)]
    assert scenes(found).tolist() == [*range(33)]
    assert scenes(found[:32]).tolist() == [0] * 32


def shifted(step: int) -> NDArray[np.uint8]:
    """A frame of a camera that turns."""
    film = cv2.resize(
        np.random.default_rng(5).integers(0, 256, (6, 60, 3), np.uint8), (2400, 240), interpolation=cv2.INTER_CUBIC
    )
    return np.ascontiguousarray(film[:, 14 * step : 14 * step + 320])


def test_frames_of_a_film_are_one_scene(tmp_path: Path) -> None:
    frames = {f"film_{number:06d}.jpg": shifted(number // 10) for number in range(0, 100, 10)}
    others = {f"film_{number}.jpg": photo(number) for number in (300, 310)}
    # the first and the last frame share nothing, but each looks like its neighbor
    assert groups(tmp_path, {**frames, **others}) == [0] * 10 + [1, 2]
    assert groups(tmp_path, {"left.jpg": shifted(0), "right.jpg": shifted(9)}) == [0, 1]
    assert groups(tmp_path, {"left.jpg": shifted(0), "right.jpg": shifted(1)}) == [0, 1]


def test_copies_by_number_must_look_alike(tmp_path: Path) -> None:
    names = ("a.jpg", "a (1).jpg", "a - Copy.jpg", "b (1).jpg", "b (2).jpg")
    images = dict(zip(names, (shifted(0), shifted(1), shifted(1), photo(8), photo(9)), strict=True))
    assert groups(tmp_path, images) == [0, 0, 0, 1, 2]


def test_unreadable_images_have_scenes_by_name(tmp_path: Path) -> None:
    (tmp_path / "a_jpg.rf.1.jpg").write_bytes(b"\xff\xd8\xff no image")
    names = ("a_jpg.rf.1.jpg", "a_jpg.rf.2.jpg", "b.jpg")
    assert scenes([annotation(tmp_path / name) for name in names]).tolist() == [0, 0, 1]
    assert scenes([]).shape == (0,)


def copies(folder: Path, count: int, n_photos: int, labels: Sequence[int] = (0,)) -> Dataset:
    found = []
    for seed in range(n_photos):
        for number in range(count):
            path = folder / f"p{seed}_jpg.rf.{number}.jpg"
            write_image(path, photo(seed))
            found.append(replace(annotation(path, labels[seed % len(labels)]), image_id=f"p{seed} {number}"))
    return Dataset(tuple(found), ("nut", "bolt"), "data")


def test_scenes_are_held_out_as_a_whole(tmp_path: Path) -> None:
    whole = copies(tmp_path, 3, 10, labels=(0, 1))
    train, val = hold_out(whole, 0.2)
    assert (len(train), len(val)) == (24, 6)
    assert not {each.image_id.split()[0] for each in train} & {each.image_id.split()[0] for each in val}
    assert {label for each in val for label in each.labels.tolist()} == {0, 1}


def test_a_single_scene_is_held_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = copies(tmp_path, 10, 1)
    train, val = hold_out(whole, 0.2)
    assert (len(train), len(val)) == (8, 2)
    assert "scores on them are too high" in caplog.text
