"""The one place where the page meets the evidence: a box and a class in, what the page shows of them out."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from detector.boxes import Boxes
    from detector.ensemble import Ensemble
    from detector.features.encoder import FeatureMaps

_HEAT_SIDE = 160  # longest side of a heat map that is sent: the page smooths it over the image


def explain_box(
    detector: Ensemble,
    image: NDArray[np.uint8],
    inputs: Sequence[tuple[FeatureMaps, Boxes]],
    box: Boxes,
    label: str,
) -> dict[str, Any]:
    """Why the ``(1, 4)`` box scores what it does in the class ``label``, as the page and the API show it."""
    raise NotImplementedError("evidence comes from detector.explanation")


def heat_record(heat: NDArray[np.float32]) -> dict[str, Any]:
    """An ``(H, W)`` float32 heat map, smaller, as ``{"width", "height", "limit", "data"}`` for JSON.

    ``data`` is base64 of int8, row by row: 127 stands for ``limit``, the largest share for or against.
    """
    height, width = heat.shape
    zoom = min(1.0, _HEAT_SIDE / max(height, width))
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    small = cv2.resize(np.asarray(heat, np.float32), size, interpolation=cv2.INTER_AREA)
    limit = float(np.abs(small).max())
    values = np.rint(small * (127 / limit if limit else 0)).astype(np.int8)
    data = base64.b64encode(values.tobytes()).decode()
    return {"width": size[0], "height": size[1], "limit": limit, "data": data}
