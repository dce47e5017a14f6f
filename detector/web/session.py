"""What the page asks for, of images that come as bytes: detections, evidence, and the image itself for a browser."""

from __future__ import annotations

import base64
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.detections import Detections
from detector.ensemble import Ensemble, load_ensemble
from detector.explanation.attribution import Evidence, Look
from detector.explanation.explainer import Explainer
from detector.images.decoding import decode_image
from detector.images.files import DEFAULT_MAX_PIXELS
from detector.runtime.openvino import Runtime
from detector.runtime.progress import stage, stage_times

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


KEPT_IMAGES = 2
"""Images whose feature maps stay in memory: the page may show two next to each other."""

Answer = dict[str, Any]


class Session:
    """A detector behind the page, one call at a time. Every answer can be written as JSON, or is bytes.

    Images are JPEG, PNG, WebP, BMP, TIFF or GIF files of at most `DEFAULT_MAX_PIXELS` pixels. Methods raise ValueError,
    in one line, for bytes that are no such image, for an image that the network cannot take, and for wrong options.
    """

    def __init__(self, detector: Ensemble) -> None:
        self.detector = detector
        self._kept: OrderedDict[bytes, AskedImage] = OrderedDict()

    def status(self) -> Answer:
        """What `GET /health` answers."""
        least = self.detector.detectors[0].settings.min_score
        return {"status": "ready", "class_names": list(self.detector.class_names), "min_score": least}

    def detect(
        self,
        body: bytes,
        name: str = "",
        min_score: float = 0.0,
        max_detections: int | None = None,
        proposals: int = 0,
    ) -> Answer:
        """The record that detect.py writes as JSON, and the seconds of each stage, the classes, the first proposals."""
        with stage_times() as times:
            with stage("decoding"):
                image = decode_image(body, max_pixels=DEFAULT_MAX_PIXELS)
            asked = self._keep(body, image)
            found = asked.explainer.detect(min_score, max_detections)
        boxes = asked.explainer.inputs[0][1]
        answer: Answer = {
            "image": name,
            "width": image.shape[1],
            "height": image.shape[0],
            "detections": found.to_records(),
            "min_score": min_score,
            "class_names": list(self.detector.class_names),
            "n_proposals": len(boxes),
            "times": {stage_name: round(seconds, 4) for stage_name, seconds in times.items()},
        }
        if proposals:
            answer["proposals"] = boxes[:proposals].astype(np.float64).round(1).tolist()
        return answer

    def explain(self, body: bytes, box: Sequence[float], label: str) -> Answer:
        """Why a box ``x1 y1 x2 y2`` scores what it does in a class, found or not; see `AskedImage.evidence`."""
        asked = self._kept.get(_digest(body))
        if asked is None:
            asked = self._keep(body, decode_image(body, max_pixels=DEFAULT_MAX_PIXELS))
        return asked.evidence(box, label)

    def render(self, body: bytes) -> bytes:
        """The image as a PNG file, for browsers that cannot show its format; smaller where it is very large."""
        image = decode_image(body, max_pixels=DEFAULT_MAX_PIXELS)
        zoom = 2048 / max(image.shape[:2])
        if zoom < 1:
            image = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
        return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()

    def warmup_steps(self) -> None:
        """Detect in a sample, so that the first image of a user does not wait for what happens only once."""
        self.detect(files("detector.web").joinpath("static/samples/cat.jpg").read_bytes())
        self._kept.clear()

    def _keep(self, body: bytes, image: NDArray[np.uint8]) -> AskedImage:
        asked = self._kept[_digest(body)] = AskedImage(self.detector, image)
        self._kept.move_to_end(_digest(body))
        while len(self._kept) > KEPT_IMAGES:
            self._kept.popitem(last=False)
        return asked


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


def load_session(
    models: Sequence[Path] | None,
    device: str,
    weights: Sequence[str] | None,
    mirror: bool,
    runtime: Runtime | None = None,
) -> Session:
    """A session of `load_ensemble`'s detectors; raises what that does."""
    return Session(load_ensemble(models, device, weights, mirror, runtime))
