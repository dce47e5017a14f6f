"""Answer what the page asks of images that come as bytes: detections, explanations, and images for the browser."""

from __future__ import annotations

import base64
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Unpack

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.ensemble import Ensemble
from detector.explanation.attribution import Attribution, ScoredPosition
from detector.explanation.explainer import Explainer
from detector.images.decoding import decode_image
from detector.images.files import DEFAULT_MAX_PIXELS
from detector.proposals.selective_search import hierarchy
from detector.runtime.progress import timer, timings
from detector.thresholds import Limits, Thresholds
from detector.tiles import Tiles

Answer = dict[str, Any]

SEARCH_SIDE = 320
"""Pixels of the longer side of the copy whose search is shown: a few hundred merges."""
_MAX_SUPPRESSED = 20

KEPT_IMAGES = 2
"""Images whose feature maps stay in memory: the page may show two side by side."""
_FOUND: Answer = {"outcome": "found", "sentence": "", "closest": None, "strongest": None, "other": None}
_HEAT_SIDE = 160  # pixels of the longer side of a heat map; the page smooths it over the image


class Session:
    """A detector behind the page, one call at a time. Every answer can be written as JSON, or is bytes.

    Images are JPEG, PNG, WebP, BMP, TIFF or GIF files of at most `DEFAULT_MAX_PIXELS` pixels. Limits are ``min_score``,
    ``min_probability`` and ``precision``, at most one of them, as in `Detector.detect`. Methods raise ValueError, in
    one line, for bytes that are no such image, an image that the network cannot take, and invalid options.
    """

    def __init__(self, detector: Ensemble) -> None:
        self.detector = detector
        self.min_score = detector.detectors[0].config.detection.min_score
        self._kept: OrderedDict[tuple[bytes, Tiles | None], Explainer] = OrderedDict()

    def status(self) -> Answer:
        """Return the answer of `GET /health`."""
        return {
            "status": "ready",
            "class_names": list(self.detector.class_names),
            "calibrated": self.detector.calibration is not None,
            "min_score": self.min_score,
            "thresholds": _json_thresholds(self.detector.default_thresholds),
        }

    def detect(
        self,
        body: bytes,
        name: str = "",
        max_detections: int | None = None,
        proposals: int = 0,
        tiles: Tiles | None = None,
        **limits: Unpack[Limits],
    ) -> Answer:
        """Return the record of `spp detect --json`, with thresholds, times, classes and the first proposals.

        tiles: see `DetectionModel.detect`.
        """
        thresholds = self.detector.thresholds(**limits)
        with timings() as times:
            with timer("decoding"):
                image = decode_image(body, max_pixels=DEFAULT_MAX_PIXELS)
            explainer = self._keep(body, image, tiles)
            found = explainer.detect(thresholds, max_detections)
        boxes = explainer.inputs[0][1]
        answer: Answer = {
            "image": name,
            "width": image.shape[1],
            "height": image.shape[0],
            "detections": found.to_records(),
            "thresholds": _json_thresholds(thresholds),
            "class_names": list(self.detector.class_names),
            "n_proposals": len(boxes),
            "times": {step: round(seconds, 4) for step, seconds in times.items()},
        }
        if proposals:
            answer["proposals"] = boxes[:proposals].astype(np.float64).round(1).tolist()
        return answer

    def explain(
        self, body: bytes, box: Sequence[float], label: str, tiles: Tiles | None = None, **limits: Unpack[Limits]
    ) -> Answer:
        """Explain the score of a box ``x1 y1 x2 y2`` in the class ``label``.

        A detection that the page may show is explained as such; any other box is diagnosed as if it had been proposed,
        against the limits. Raises ValueError for an unknown class and a box without area in the image.
        """
        thresholds = self.detector.thresholds(**limits)
        explainer = self._kept.get((_digest(body), tiles))
        if explainer is None:
            explainer = self._keep(body, decode_image(body, max_pixels=DEFAULT_MAX_PIXELS), tiles)
        found = explainer.detect(self.detector.thresholds(min_score=self.min_score))
        for row, record in enumerate(found.to_records()):
            if record["label"] == label and record["box"] == list(box):
                (attribution,) = explainer.explain(found[row : row + 1])
                lost = explainer.suppressed_by(attribution, self.min_score, _MAX_SUPPRESSED)
                suppressed = {"suppressed": [each.to_record() for each in lost]}
                return record | attribution.to_record() | _FOUND | _attribution_record(attribution) | suppressed
        diagnosis = explainer.explain_box(box, label, thresholds)
        return diagnosis.to_record() | _attribution_record(diagnosis.attribution) | {"suppressed": []}

    def search(self, body: bytes) -> Answer:
        """Return one grouping of selective search, merge by merge, on a copy with sides of at most `SEARCH_SIDE`.

        ``labels`` is base64 of uint16, little-endian, row by row: the first region of each of ``width`` x ``height``
        pixels. ``parts`` are the two regions of each merge, whose result is number ``n_regions`` and up, and ``boxes``
        those of the results, in pixels of the image.
        """
        image = decode_image(body, max_pixels=DEFAULT_MAX_PIXELS)
        zoom = min(1.0, SEARCH_SIDE / max(image.shape[:2]))
        size = [max(1, round(side * zoom)) for side in image.shape[1::-1]]
        found = hierarchy(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        scale = np.array([image.shape[1] / size[0], image.shape[0] / size[1]] * 2)
        return {
            "width": size[0],
            "height": size[1],
            "n_regions": int(found.labels.max()) + 1,
            "labels": base64.b64encode(found.labels.astype("<u2").tobytes()).decode(),
            "parts": found.parts.tolist(),
            "boxes": (found.boxes[: len(found.parts)] * scale).round(1).tolist(),
        }

    def render(self, body: bytes) -> bytes:
        """Return the image as a PNG file, for browsers that cannot show its format; smaller where it is very large."""
        image = decode_image(body, max_pixels=DEFAULT_MAX_PIXELS)
        zoom = 2048 / max(image.shape[:2])
        if zoom < 1:
            image = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
        return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()

    def warm_up(self) -> None:
        """Detect in a sample, so that the first image of a user does not wait for compilation."""
        self.detect(files("detector.web").joinpath("static/samples/cat.jpg").read_bytes())
        self._kept.clear()

    def _keep(self, body: bytes, image: NDArray[np.uint8], tiles: Tiles | None) -> Explainer:
        model = self.detector if tiles is None else self.detector.with_tiles(tiles)
        key = _digest(body), tiles
        explainer = self._kept[key] = Explainer(model, image)
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT_IMAGES:
            self._kept.popitem(last=False)
        return explainer


def _json_thresholds(thresholds: Thresholds) -> list[float | None]:
    """Return minimum scores for JSON: None where nothing reaches them."""
    return [float(each) if np.isfinite(each) else None for each in thresholds]


def _attribution_record(attribution: Attribution) -> Answer:
    # a cell sees more of the image than its square, over which its attribution is spread
    side = float(np.mean([each.geometry.stride / each.zoom for each in attribution.positions]))
    positions = [_position_record(each) for each in attribution.positions]
    return {"positions": positions, "heat": heat_record(attribution.heat_map(), side)}


def _position_record(position: ScoredPosition) -> Answer:
    return {
        "score": round(position.score, 4),
        "short_side": position.short_side,
        "cells": position.cells.tolist(),
        "box": [round(float(corner), 2) for corner in position.box],
        "grid": _grid_record(position),
    }


def _grid_record(position: ScoredPosition) -> Answer:
    """Return the edges of cell 0 and the side of a cell, in pixels of the image."""
    geometry, zoom = position.geometry, position.zoom
    # the geometry counts from the center of the first pixel, half a pixel from the edge
    edge = (geometry.offset + 0.5 - geometry.stride / 2) / zoom
    left, top = (0, 0) if position.window is None else position.window[:2]
    return {"left": round(left + edge, 3), "top": round(top + edge, 3), "side": round(geometry.stride / zoom, 4)}


def heat_record(heat: NDArray[np.float32], blur: float) -> Answer:
    """Shrink an ``(H, W)`` float32 heat map to ``{"width", "height", "limit", "data"}`` for JSON.

    blur: standard deviation, in pixels of the heat map, of a Gaussian blur.
    ``data`` is base64 of int8, row by row: 127 is ``limit``, the largest absolute value.
    """
    height, width = heat.shape
    zoom = min(1.0, _HEAT_SIDE / max(height, width))
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    small = cv2.resize(heat, size, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), max(blur * zoom, 0.01))
    limit = float(np.abs(small).max())
    values = np.rint(small * (127 / limit if limit else 0)).astype(np.int8)
    return {"width": size[0], "height": size[1], "limit": limit, "data": base64.b64encode(values.tobytes()).decode()}


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()
