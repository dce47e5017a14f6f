"""The one place where the page meets the evidence: a box and a class in, what the page shows of them out."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.detections import Detections
from detector.ensemble import Ensemble
from detector.explanation.evidence import Evidence, Look
from detector.explanation.explainer import Explainer

_FOUND: dict[str, Any] = {"outcome": "found", "sentence": "", "closest": None, "strongest": None, "other": None}
_HEAT_SIDE = 160  # pixels of the longer side of a heat map that is sent: the page smooths it over the image


class AskedImage:
    """An ``(H, W, 3)`` uint8 RGB image that the page asks about; its feature maps are computed once."""

    def __init__(self, detector: Ensemble, image: NDArray[np.uint8]) -> None:
        self.explainer = Explainer(detector.detectors, image)

    @cached_property
    def _found(self) -> Detections:
        return self.explainer.detect()

    def evidence(self, box: Sequence[float], label: str) -> dict[str, Any]:
        """Why a box ``x1 y1 x2 y2`` scores what it does in the class ``label``, as the page and the API show it.

        A detection of `Detections.to_records` is explained as such, any other box as if it had been proposed. Raises
        ValueError for an unknown class and for a box without an area in the image.
        """
        records = self._found.to_records()
        row = next((i for i, each in enumerate(records) if each["label"] == label and each["box"] == list(box)), None)
        if row is None:
            verdict = self.explainer.explain_box(box, label)
            return verdict.to_record() | _shown(verdict.evidence)
        found = self._found
        one = Detections(found.boxes[[row]], found.labels[[row]], found.scores[[row]], found.class_names)
        (evidence,) = self.explainer.explain(one)
        return records[row] | evidence.to_record() | _FOUND | _shown(evidence)


def _shown(evidence: Evidence) -> dict[str, Any]:
    # a cell sees more of the image than its square, over which its share is spread
    side = float(np.mean([look.geometry.stride / look.zoom for look in evidence.looks]))
    return {"looks": [_look_record(look) for look in evidence.looks], "heat": heat_record(evidence.heat_map(), side)}


def _look_record(look: Look) -> dict[str, Any]:
    return {
        "score": round(look.score, 4),
        "short_side": look.short_side,
        "mirrored": look.mirrored,
        "cells": look.cells.tolist(),
        "box": [round(float(corner), 2) for corner in look.box],
    }


def heat_record(heat: NDArray[np.float32], blur: float) -> dict[str, Any]:
    """An ``(H, W)`` float32 heat map, smaller, as ``{"width", "height", "limit", "data"}`` for JSON.

    ``blur`` is the standard deviation, in pixels of the heat map, by which it is blurred.
    ``data`` is base64 of int8, row by row: 127 stands for ``limit``, the largest share for or against.
    """
    height, width = heat.shape
    zoom = min(1.0, _HEAT_SIDE / max(height, width))
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    small = cv2.resize(heat, size, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), max(blur * zoom, 0.01))
    limit = float(np.abs(small).max())
    values = np.rint(small * (127 / limit if limit else 0)).astype(np.int8)
    return {"width": size[0], "height": size[1], "limit": limit, "data": base64.b64encode(values.tobytes()).decode()}
