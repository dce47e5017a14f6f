"""Recipe of a detector that is taught: the default recipe at one scale, with steps that a round has time for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detector.config.detector import AdaptationConfig, Config, load_config

MAX_PIXELS = 3_000_000
"""Pixels of a resized image: a second of convolution on two cores."""
MAX_ENLARGEMENT = 4
_SHORT_SIDES = (320, 1400)
_PROPOSALS = {"max_boxes": 8000, "min_side": 8}
_SCORED = 1500
_FILTER = {"levels": (2, 1), "images": 50}


def teaching_recipe(sizes: Sequence[tuple[int, int]]) -> Config:
    """Return the recipe for images of these sizes, heights and widths in pixels.

    It depends on nothing but the images, so that their features can be computed before the first label.
    """
    short_side = _SHORT_SIDES[1]
    if len(sizes):
        sides = np.asarray(sizes, np.float64)
        zooms = np.minimum(np.sqrt(MAX_PIXELS / sides.prod(1)), MAX_ENLARGEMENT)
        short_side = int(np.clip(np.median(zooms * sides.min(1)), *_SHORT_SIDES))
    config = load_config("default")
    changes = {
        "features": config.features.updated({"short_sides": (short_side,)}),
        "proposals": config.proposals.model_copy(update=_PROPOSALS),
        "adaptation": AdaptationConfig(),
        "svm": config.svm.model_copy(update={"flips": False, "background": False}),
        "regression": config.regression.model_copy(update={"max_samples": 400}),
        "proposal_filter": config.proposal_filter.model_copy(update=_FILTER),
        "detection": config.detection.model_copy(update={"max_boxes": _SCORED}),
    }
    return config.model_copy(update=changes)
