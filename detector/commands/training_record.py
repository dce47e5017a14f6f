"""What a model file notes of its training."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from detector.datasets.annotation import Dataset

if TYPE_CHECKING:
    from detector.pipeline import Detector


def recorded(detector: Detector, dataset: Dataset, start: float) -> Detector:
    """The detector with a note of what it was trained on, when, and in how many seconds."""
    record = {
        "trained_on": dataset.name,
        "images": len(dataset),
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(time.monotonic() - start),
    }
    return replace(detector, record=record)
