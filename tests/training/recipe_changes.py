"""A small recipe, and another value of every key that a recipe has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detector.config.detector import Config
from tests.training.recipes import config_of

BASE: dict[str, dict[str, Any]] = {
    "features": {
        "backbone": "zf5/0.05",
        "weights": "random",
        "short_sides": [64],
        "levels": [1],
        "precision": "float32",
    },
    "fine_tuning": {"enabled": True},
    "end_to_end": {"enabled": True, "first_layer": "conv5"},
}
CHANGES: dict[str, dict[str, Any]] = {
    "proposals": {
        "source": "selectivesearch",
        "mode": "single",
        "ranking": "random",
        "max_boxes": 7,
        "min_side": 3,
        "max_pixels": 99,
        "zoom": 0.7,
        "seed": 1,
    },
    "features": {
        "backbone": "zf5/0.06",
        "stage": "conv5",
        "weights": "FILE",
        "precision": "bfloat16",
        "runtime": "torch",
        "short_sides": [64, 96],
        "levels": [2, 1],
        "margin": 1.5,
        "target": 208.0,
        "scale_rule": "side",
        "power": 0.5,
    },
    "adaptation": {"enabled": True},
    "fine_tuning": {
        "enabled": False,
        "layer": "fc6",
        "head": "softmax",
        "initial": "FILE",
        "width": 7,
        "iterations": 7,
        "lr": 0.7,
        "lr_steps": [0.5],
        "momentum": 0.7,
        "weight_decay": 0.7,
        "dropout": 0.7,
        "batch_size": 7,
        "foreground_fraction": 0.7,
        "min_iou": 0.7,
        "background_iou": [0.0, 0.5],
        "flips": True,
        "held_out": 0.5,
        "seed": 7,
    },
    "end_to_end": {
        "enabled": False,
        "first_layer": "conv4",
        "steps": 7,
        "images_per_step": 7,
        "min_sizes_start": [7, 9],
        "min_sizes_end": [7, 9],
        "rois_per_image": 77,
        "hard_examples": 7,
        "lr": 0.7,
        "network_lr": 0.7,
        "weight_decay": 0.7,
        "warmup_steps": 7,
        "frozen_steps": 7,
        "ema_decay": 0.7,
        "color_jitter": 0.7,
        "second_min_iou": 0.7,
    },
    "svm": {
        "solver": "liblinear",
        "loss": "squared_hinge",
        "C": 0.7,
        "positive_weight": 7.0,
        "bias_multiplier": 7.0,
        "mean_norm": 7.0,
        "center": True,
        "max_negative_iou": 0.7,
        "add_above": -0.7,
        "evict_below": -0.7,
        "max_negatives_per_image": 7,
        "max_samples": 7777,
        "difficult": False,
        "flips": True,
        "background": True,
        "seed": 7,
    },
    "regression": {
        "enabled": False,
        "fit": "end_to_end",
        "features": "layer",
        "min_iou": 0.7,
        "regularization": 7.0,
        "max_samples": 7,
    },
    "calibration": {"enabled": False, "held_out": 0.3, "cross_validate_below": 7, "seed": 7},
    "proposal_filter": {"enabled": True, "levels": [1], "images": 7, "boxes": 7, "regularization": 0.7, "seed": 7},
    "detection": {
        "min_score": 0.7,
        "max_boxes": 7,
        "nms_iou": 0.7,
        "max_detections": 7,
        "box_refinements": 1,
        "vote_iou": 0.7,
        "tiles": 4,
    },
}
"""By section and key; FILE is filled in with that of some tensors."""
TOGETHER: dict[str, dict[str, dict[str, Any]]] = {
    "end_to_end": {"regression": {"features": "layer"}},
    "power": {"end_to_end": {"enabled": False}},
    "second_min_iou": {"regression": {"fit": "end_to_end", "features": "layer"}},
}
"""What else has to change, by the key or the value."""


def recipe(*changes: Mapping[str, Mapping[str, Any]]) -> Config:
    return config_of(BASE, *changes)
