"""Recipe of an end-to-end training that takes a second."""

from __future__ import annotations

from typing import Any

from detector.config.detector import Config
from tests.training.recipes import config_of

RECIPE: dict[str, dict[str, Any]] = {
    "features": {"backbone": "zf5/0.1", "weights": "random", "short_sides": [160], "levels": [2, 1]},
    "proposals": {"max_boxes": 200, "min_side": 16},
    "fine_tuning": {"enabled": True, "width": 16, "dropout": 0.1, "flips": True, "head": "softmax"},
    "end_to_end": {
        "enabled": True,
        "first_layer": "conv2",
        "steps": 250,
        "images_per_step": 2,
        "min_sizes_start": [128, 160],
        "min_sizes_end": [144, 176],
        "rois_per_image": 64,
        "hard_examples": 16,
        "lr": 0.003,
        "network_lr": 0.001,
        "warmup_steps": 20,
        "ema_decay": 0.9,
        "second_min_iou": 0.5,
    },
    "regression": {"fit": "end_to_end", "features": "layer"},
    "detection": {"min_score": -3.0, "box_refinements": 1},
}


def recipe(**sections: Any) -> Config:
    return config_of(RECIPE, sections)
