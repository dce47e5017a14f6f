"""Hold out images so that every class stays in training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.hold_out import hold_out
from detector.results.files import ResultFolder
from detector.runs.training_data import write_lists


def dataset_of(*labels: list[int]) -> Dataset:
    annotations = []
    for number, own in enumerate(labels):
        boxes = np.zeros((len(own), 4), np.float32)
        annotations.append(
            Annotation(str(number), Path("x.jpg"), boxes, np.array(own, np.int64), np.zeros(len(own), np.bool_))
        )
    return Dataset(tuple(annotations), ("a", "b", "c", "d"), "data")


def ids(dataset: Dataset) -> list[str]:
    return [each.image_id for each in dataset]


@given(st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=4, max_size=40), st.sampled_from([0.1, 0.2, 0.5]))
def test_every_class_stays_in_training(labels: list[list[int]], fraction: float) -> None:
    whole = dataset_of(*labels)
    try:
        train, val = hold_out(whole, fraction)
    except ValueError:
        # no image whose classes are all in another one, too
        kinds = [set(own) or {-1} for own in labels]
        assert all(any(sum(kind in other for other in kinds) == 1 for kind in own) for own in kinds)
        return
    assert sorted(ids(train) + ids(val)) == sorted(ids(whole))
    assert ids(train) == [name for name in ids(whole) if name in ids(train)]
    assert 1 <= len(val) <= max(1, round(fraction * len(whole)))
    for label in range(4):
        if any(label in each.labels for each in whole):
            assert any(label in each.labels for each in train)


def test_each_class_is_held_out_in_proportion() -> None:
    whole = dataset_of(*([0] for _ in range(50)), *([1] for _ in range(30)), *([] for _ in range(20)))
    train, val = hold_out(whole, 0.2)
    counts = [sum(each.labels.tolist() == own for each in val) for own in ([0], [1], [])]
    assert counts == [10, 6, 4]
    assert (train.name, val.name) == ("data train", "data val")


def test_held_out_images_depend_only_on_ids() -> None:
    labels = [[number % 3] for number in range(60)]
    _, first = hold_out(dataset_of(*labels), 0.25)
    turned = dataset_of(*labels)
    turned = Dataset(turned.annotations[::-1], turned.class_names, turned.name)
    _, second = hold_out(turned, 0.25)
    assert sorted(ids(first)) == sorted(ids(second))
    _, other = hold_out(dataset_of(*labels), 0.25, seed=1)
    assert sorted(ids(first)) != sorted(ids(other))
    _, more = hold_out(dataset_of(*labels, [0]), 0.25)
    assert len(set(ids(first)) & set(ids(more))) >= len(first) - 1


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_fractions_out_of_range(fraction: float) -> None:
    with pytest.raises(ValueError, match="must be between 0 and 1"):
        hold_out(dataset_of([0], [0]), fraction)


def test_nothing_can_be_held_out_of_one_image() -> None:
    with pytest.raises(ValueError, match="none of the 1 images can be held out"):
        hold_out(dataset_of([0]), 0.2)


def test_lists_are_written(tmp_path: Path) -> None:
    train, val = hold_out(dataset_of([0], [0], [1], [1]), 0.25)
    paths = write_lists(ResultFolder(tmp_path / "lists", ()), {"train": train, "val": val})
    assert [path.name for path in paths] == ["train.txt", "val.txt"]
    assert paths[0].read_text().split() == ids(train)
    assert paths[1].read_text().split() == ids(val)
