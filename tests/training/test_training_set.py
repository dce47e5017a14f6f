"""Training sets: samples, difficult objects, scaled features and mirrored images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detector.boxes import Boxes, flip, iou
from detector.build import build_cache
from detector.config.detector import Config, FineTuningConfig, RegressionConfig
from detector.datasets.dataset import Dataset
from detector.features.cache import fill_cache
from detector.features.encoder import FeatureMaps
from detector.heads.proposal_filter import ProposalFilter
from detector.images.files import read_image
from detector.training.box_regression import train_regressors
from detector.training.sampling import RandomBoxes
from detector.training.training_set import TrainingSet, scaled


def test_samples_are_ground_truth_first_and_distinct_regions_after(images: TrainingSet, train_set: Dataset) -> None:
    for index in (0, 7):
        samples = images[index]
        labels = train_set[index].labels
        n_objects = len(labels)
        assert (samples.targets[np.arange(n_objects), labels] == 1).all()
        assert (samples.targets == 1).sum() == n_objects
        others = samples.regions[n_objects:]
        assert len(np.unique(others, axis=0)) == len(others)
        features = samples.features(slice(0, 2))
        expected = images.features(index, train_set[index].boxes[:2])
        np.testing.assert_array_equal(features, expected)


def test_negatives_overlap_no_object_of_the_class(images: TrainingSet, train_set: Dataset) -> None:
    boxes, _ = images.boxes(3)
    overlaps = iou(boxes, train_set[3].boxes)
    # regions are distinct, so that boxes and samples can be matched through their regions
    maps = images.cache.maps(train_set[3].image_id, train_set[3].path)
    region_of = {tuple(w): i for i, w in reversed(list(enumerate(images.cache.encoder.regions(maps, boxes))))}
    samples = images[3]
    for region, targets in zip(samples.regions[len(train_set[3].labels) :], samples.targets, strict=False):
        assert tuple(region) in region_of
        assert set(targets) <= {-1, 0, 1}
    for label in set(train_set[3].labels):
        near = overlaps[:, train_set[3].labels == label].max(1) >= 0.3
        rows = [region_of[tuple(w)] for w in samples.regions]
        ignored_or_positive = samples.targets[:, label] >= 0
        assert (ignored_or_positive[near[rows]]).all()


def test_difficult_objects_are_neither_objects_nor_background(images: TrainingSet, train_set: Dataset) -> None:
    index = next(i for i, each in enumerate(train_set) if len(each.labels))
    first = train_set[index]
    hidden = replace(first, difficult=np.ones(len(first.labels), bool))
    without = TrainingSet(Dataset((hidden,), train_set.class_names, "one"), 3, images.cache, difficult=False)
    random = np.random.default_rng(0)
    assert len(RandomBoxes(images, np.array([index]), FineTuningConfig()).sample(0, 64, random)[1]) > 0
    assert len(RandomBoxes(without, np.array([0]), FineTuningConfig()).sample(0, 64, random)[1]) == 0
    assert not without.has_objects(0)
    regressors = train_regressors(without, RegressionConfig(), seed=3)
    assert not regressors.weights.any() and not regressors.biases.any()


def test_images_without_boxes_do_not_spoil_the_scale(images: TrainingSet, train_set: Dataset) -> None:
    cache = replace(images.cache, precomputed={each.image_id: each.boxes for each in train_set})
    nothing = replace(
        train_set[1], boxes=np.zeros((0, 4), np.float32), labels=np.zeros(0, int), difficult=np.zeros(0, bool)
    )
    cache = replace(cache, precomputed={**(cache.precomputed or {}), nothing.image_id: nothing.boxes})
    annotations = Dataset((train_set[0], nothing), train_set.class_names, "two")
    found = scaled(TrainingSet(annotations, 3, cache), 20, True, seed=3)
    assert np.isfinite(found.mean).all() and np.isfinite(found.scale).all()


def test_difficult_objects_can_be_left_out(images: TrainingSet, train_set: Dataset, config: Config) -> None:
    n_objects = sum(len(each.labels) for each in train_set)
    n_difficult = sum(int(each.difficult.sum()) for each in train_set)
    assert n_difficult > 0
    without = TrainingSet(train_set.annotations, 3, images.cache, difficult=False)
    assert sum(len(images.boxes(i)[1]) for i in range(len(images))) == n_objects
    assert sum(len(without.boxes(i)[1]) for i in range(len(without))) == n_objects - n_difficult


@pytest.mark.parametrize("center", [False, True])
def test_features_get_the_norm_asked_for(images: TrainingSet, center: bool) -> None:
    ready = scaled(images, 20.0, center, seed=0, max_boxes=10_000)
    everything = [ready[i].features(slice(None)) for i in range(len(ready))]
    norms = np.concatenate([np.linalg.norm(each, axis=1) for each in everything])
    assert norms.mean() == pytest.approx(20, rel=1e-4)
    means = np.mean([each.mean(0) for each in everything], axis=0)
    assert (np.abs(means).max() < 1e-4) == center


def test_unscaled_weights_say_the_same_of_plain_features(images: TrainingSet, train_set: Dataset) -> None:
    ready = scaled(images, 20.0, True, seed=0)
    rng = np.random.default_rng(0)
    weights, biases = rng.standard_normal((3200, 2)).astype(np.float32), np.array([1, -2], np.float32)
    plain_weights, plain_biases = ready.unscaled(weights, biases)
    boxes = train_set[0].boxes
    expected = ready.features(0, boxes) @ weights + biases
    np.testing.assert_allclose(images.features(0, boxes) @ plain_weights + plain_biases, expected, atol=1e-2)


def test_images_without_precomputed_boxes_are_left_out_of_a_full_cache_too(
    images: TrainingSet, train_set: Dataset
) -> None:
    boxes = {each.image_id: each.boxes for each in train_set.annotations[1:]}
    with_boxes = replace(images.cache, precomputed=boxes)
    assert not with_boxes.is_complete(train_set[0].image_id)
    assert [each.image_id for each in fill_cache(with_boxes, iter(train_set.annotations[1:]))] == list(boxes)


def test_mirrored_images_are_cached_and_sampled(train_set: Dataset, config: Config, tmp_path: Path) -> None:
    cache = build_cache(config, tmp_path)
    first = train_set[0]
    few = Dataset((first,), train_set.class_names, "one image")
    fill_cache(cache, few)
    images = TrainingSet(few, len(few.class_names), cache)

    def foreground(flips: bool) -> set[float]:
        """Sums of the features of one object's own box, which is the only one above an IoU of 0.999."""
        tuning = FineTuningConfig(
            foreground_fraction=1 / len(first.boxes), min_iou=0.999, background_iou=(0.998, 0.999), flips=flips
        )
        sampled = RandomBoxes(images, np.arange(1), tuning)
        draws = [sampled.sample(0, len(first.boxes), np.random.default_rng(seed))[0] for seed in range(12)]
        return {round(float(features.sum()), 1) for features in draws}

    assert foreground(flips=False) <= sums_of_objects(images, first.boxes, cache.maps(first.image_id, first.path))
    assert len(list(tmp_path.glob("maps-*"))) == 1
    seen = foreground(flips=True)
    encoder = cache.encoder
    mirror = encoder.maps(np.ascontiguousarray(read_image(first.path)[:, ::-1]))
    mirrored = cache.mirrored_maps(first.image_id, first.path)
    np.testing.assert_array_equal(mirrored.maps[0], mirror.maps[0].astype(np.float16))
    of_mirror = sums_of_objects(images, flip(first.boxes, mirrored.image_size[1]), mirrored)
    assert seen & of_mirror
    assert seen - of_mirror
    assert len(list(tmp_path.glob("maps-*"))) == 2


def sums_of_objects(images: TrainingSet, boxes: Boxes, maps: FeatureMaps) -> set[float]:
    pooled = images.cache.encoder.pool(maps, images.cache.encoder.regions(maps, boxes))
    return {round(float(each.sum()), 1) for each in pooled}


def test_a_proposal_filter_leaves_the_best_proposals_and_all_objects(images: TrainingSet) -> None:
    encoder = images.cache.encoder.with_levels((1,))
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((encoder.n_features, 1)).astype(np.float32)
    proposal_filter = ProposalFilter(weights, np.zeros(1, np.float32), (1,))
    filtered = images.filtered(proposal_filter, 3)
    annotation = images.annotations[0]
    everything, labels = images.boxes(0)
    maps = images.cache.maps(annotation.image_id, annotation.path)
    pooled = encoder.pool(maps, encoder.regions(maps, everything[len(labels) :]))
    best = np.sort(np.argsort(-(pooled @ weights)[:, 0], kind="stable")[:3])
    boxes, kept_labels = filtered.boxes(0)
    np.testing.assert_array_equal(kept_labels, labels)
    np.testing.assert_array_equal(boxes, np.concatenate([everything[: len(labels)], everything[len(labels) :][best]]))
    assert len(images.filtered(proposal_filter, None).boxes(0)[0]) == len(everything)
