"""Small subsets, mirrored images as images of their own, boxes near objects, and labeled objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import label_less
from benchmarks.few import NearPositives, WithMirrors, mirrored
from benchmarks.subsets import Results, draw_subsets, with_classes
from detector.datasets.dataset import Annotation, Dataset
from detector.features.encoder import RegionEncoder
from detector.images.files import write_image
from tests.fakes import MeanOfCells, colored

NAMES = ("cat", "dog", "cow")
BOXES = np.array([[0, 0, 80, 64], [96, 96, 160, 160]], np.float32)


def annotation(image_id: str, *labels: int) -> Annotation:
    count = len(labels)
    boxes = np.tile(np.array([[0, 0, 64, 64]], np.float32), (count, 1))
    return Annotation(image_id, Path(image_id), boxes, np.array(labels, np.int64), np.zeros(count, np.bool_))


@pytest.fixture
def cache(tmp_path: Path) -> WithMirrors:
    backbone: Any = MeanOfCells()
    encoder = RegionEncoder(backbone, short_sides=(160,), levels=(1,))
    return WithMirrors(tmp_path / "cache", encoder, lambda image: BOXES, {})


def test_subsets_to_train_and_test_on_are_disjoint() -> None:
    many = Dataset([annotation(str(n), n % 3, 2) for n in range(12)] + [annotation("none", 2)], NAMES, "many")
    of_one = with_classes(many, ["dog"])
    assert [each.labels.tolist() for each in of_one[:3]] == [[], [0], []]
    train, test = draw_subsets(many, ["dog", "cat"], 3, 8, seed=1)
    assert train.class_names == ("dog", "cat")
    assert len(train) == 3 and all(len(each.labels) for each in train)
    # of 8, a quarter is without; 5 of the 8 images with objects are left for 6 places
    assert [bool(len(each.labels)) for each in test] == [True] * 5 + [False] * 2
    assert not {each.image_id for each in train} & {each.image_id for each in test}
    assert [each.image_id for each in draw_subsets(many, ["dog", "cat"], 3, 8, seed=1)[0]] == [
        each.image_id for each in train
    ]


def test_mirror_images_have_mirrored_maps_boxes_and_objects(cache: WithMirrors, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_image(path, colored())
    plain = Annotation("a", path, np.array([[0, 0, 64, 64]], np.float32), np.zeros(1, np.int64), np.zeros(1, np.bool_))
    mirror = mirrored(plain)
    assert mirror.boxes.tolist() == [[96, 0, 160, 64]]
    maps = [cache.maps(each.image_id, path).maps[0] for each in (plain, mirror)]
    assert maps[0][0, 0, 0] == 250 and maps[1][0, -1, 0] == 250 and maps[1][0, 0, 0] == 0
    boxes = [cache.proposals(each.image_id, path) for each in (plain, mirror)]
    assert (boxes[1][:, 0] == 160 - boxes[0][:, 2]).all() and (boxes[1][:, 1] == boxes[0][:, 1]).all()
    # the object, a box of IoU 0.8 with it, one that is far
    assert NearPositives([plain], 1, cache, near=0.7)[0].targets.tolist() == [[1], [1], [-1]]
    assert NearPositives([plain], 1, cache, near=2)[0].targets.tolist() == [[1], [0], [-1]]


def test_objects_that_are_needed() -> None:
    curve = np.array([[10, 0.2], [30, 0.4], [50, 0.5]])
    assert label_less.needed(curve, 0.3) == "20"
    assert label_less.needed(curve, 0.1) == "10 or fewer"
    assert label_less.needed(curve, 0.6) == "more than 50"


def test_what_was_measured_is_kept(tmp_path: Path) -> None:
    Results(tmp_path / "kept.json").keep("a", 0.5)
    assert Results(tmp_path / "kept.json").numbers == {"a": 0.5}
