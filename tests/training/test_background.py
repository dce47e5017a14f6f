"""Background that ships: quantization, which boxes are background of which class, and SVMs that learn from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detector.boxes import as_boxes
from detector.config.detector import SVMConfig
from detector.heads.heads import Heads
from detector.pipeline import Detector
from detector.training import background as module
from detector.training.background import Background, BackgroundImage, load_background, quantize, save_background
from detector.training.calibration import detect_background
from detector.training.svm.training import train_svms
from detector.training.training_set import TrainingSet
from tests.training.small import small_set

RED, DARK = [0, 0, 64, 64], [96, 96, 160, 160]
BLUE_SQUARE = [64, 0, 128, 64]


BRIGHT = 200.0
"""Value of a bright square on the map of the fake network."""


def photograph(color: int = 2, name: str = "person") -> BackgroundImage:
    """A map of 10 x 10 cells of 16 px with a square of one channel, on which there is an object."""
    cells = np.zeros((10, 10, 3), np.float32)
    cells[0:4, 4:8, color] = BRIGHT
    steps, scale = quantize(cells)
    boxes = as_boxes([BLUE_SQUARE, [96, 96, 160, 160]])
    return BackgroundImage(steps, scale, 1.0, (160, 160), boxes, as_boxes([BLUE_SQUARE]), [name])


@pytest.fixture
def images(tmp_path: Path) -> TrainingSet:
    names = [str(number) for number in range(4)]
    boxes = {name: [DARK, [64, 0, 128, 64]] for name in names}
    return replace(small_set(tmp_path, {name: [(RED, 0)] for name in names}, boxes), n_classes=1)


def test_a_quantized_map_is_off_by_half_a_step_at_most() -> None:
    values = np.random.default_rng(0).standard_normal((5, 7, 4)).astype(np.float32)
    values[..., 3] = 0
    steps, scale = quantize(values)
    assert steps.dtype == np.int8
    assert np.abs(steps[..., :3]).max((0, 1)).tolist() == [127] * 3
    assert (np.abs(steps * scale - values) <= scale / 2 + 1e-6).all()


@pytest.mark.parametrize(
    ("voc_name", "class_name", "same"),
    [
        ("person", "person", True),
        ("person", "Hard-hat Player", True),
        ("person", "pedestrians", True),
        ("pottedplant", "potted plant", True),
        ("diningtable", "Dining_Table", True),
        ("motorbike", "Motor-Cycle", True),
        ("car", "carton", False),
        ("cat", "raccoon", False),
        ("person", "pothole", False),
    ],
)
def test_an_object_that_may_be_of_a_class_is_no_background_of_it(voc_name: str, class_name: str, same: bool) -> None:
    mask = photograph(name=voc_name).background_of([class_name, "pothole"])
    assert mask.tolist() == [[not same, True], [True, True]]


def test_a_photograph_without_objects_is_background_of_all() -> None:
    image = photograph()
    bare = BackgroundImage(image.steps, image.scale, 1.0, (160, 160), image.boxes, as_boxes([]), [])
    assert bare.background_of(["person", "cat"]).all()


def test_what_is_saved_is_loaded_for_its_backbone_alone(
    images: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKGROUNDS", tmp_path)
    encoder = images.cache.encoder
    assert load_background(encoder) == []
    save_background(tmp_path / "background-other.safetensors", "11", [photograph()])
    assert load_background(encoder) == []
    save_background(tmp_path / "background-fake.safetensors", encoder.backbone.digest, [photograph()] * 5)
    found = Background.of(encoder, ["red"])
    assert (len(found.mined), len(found.scored)) == (3, 2)
    (first, *_), image = found.mined, photograph()
    np.testing.assert_array_equal(first.maps.maps[0], image.maps.maps[0])
    assert (first.maps.zooms, first.maps.image_size) == (image.maps.zooms, image.maps.image_size)
    np.testing.assert_array_equal(first.boxes, image.boxes)
    np.testing.assert_array_equal(first.objects, image.objects)
    assert list(first.names) == ["person"]


def test_svms_learn_from_background_and_it_is_never_left_out(images: TrainingSet, tmp_path: Path) -> None:
    config = SVMConfig(loss="squared_hinge", C=1.0)
    background = Background(["red"], [photograph(color=0)] * 20)
    plain = train_svms(images, config, tmp_path / "a")
    taught = train_svms(images, config, tmp_path / "b", background=background)
    square = images.features(0, as_boxes([RED]))
    assert square.tolist() == [[BRIGHT, 0, 0]]
    assert plain.svms.decision_function(square)[0, 0] > taught.svms.decision_function(square)[0, 0] + 0.5
    # nothing but the background is left of the samples: no score is positive any more
    everything = np.arange(len(images.annotations))
    assert taught.without(everything).decision_function(square)[0, 0] < 0
    # the same photograph of something that may be red is no negative where it covers that
    spared = train_svms(images, config, tmp_path / "c", background=Background(["person"], [photograph(color=0)] * 20))
    assert spared.svms.decision_function(square)[0, 0] > taught.svms.decision_function(square)[0, 0] + 0.5


def test_false_detections_in_photographs_are_kept_for_the_calibration(images: TrainingSet, tmp_path: Path) -> None:
    svms = train_svms(images, SVMConfig(loss="squared_hinge", C=1.0), tmp_path / "a").svms
    detector = Detector(images.cache.propose, images.cache.encoder, Heads(svms), ("red",))
    (found,) = detect_background(detector, Background(["red"], scored=[photograph(color=0)]))
    assert found[0].box == tuple(BLUE_SQUARE) or list(found[0].box) == BLUE_SQUARE
    (none,) = detect_background(detector, Background(["person"], scored=[photograph(color=0)]))
    assert BLUE_SQUARE not in none.boxes.tolist()
