"""Boxes that are like another one, among images that are added one after the other."""

from __future__ import annotations

import numpy as np
import pytest

from detector.teaching.similarity import BoxIndex
from detector.training.training_set import TrainingSet


def test_a_box_is_most_like_itself_however_many_images_follow(images: TrainingSet) -> None:
    index = BoxIndex(images.cache.encoder)
    inputs = []
    for number, each in enumerate(images.annotations[:4]):
        view = each.image_id, each.path
        inputs.append((images.cache.maps(*view), images.cache.proposals(*view)))
        index.add(number, *inputs[-1])
        assert number in index and number + 1 not in index
    for number, (maps, boxes) in enumerate(inputs):
        corners = tuple(boxes[7].tolist())
        found = index.search(maps, corners)
        assert sorted(each.image for each in found) == [0, 1, 2, 3]
        assert found[0].image == number and found[0].corners == corners
        assert found[0].similarity == pytest.approx(1, abs=1e-3)
        assert np.diff([each.similarity for each in found]).max() <= 0
