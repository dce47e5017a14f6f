"""SPP-net object detection: proposals, one convolution per scale, pyramid-pooled boxes, linear SVMs.

    import detector as spp

    found = spp.load().detect("dog.jpg")
    mine = spp.train("my_export.zip")

What takes long to import is imported when it is first asked for.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from detector.detections import Detections as Detections
    from detector.pipeline import Detector as Detector
    from detector.runtime.openvino import Runtime

__version__ = "0.1.0"

# Threads of OpenMP spin while they wait for each other, and so steal the cores that other processes need; a short while
# is enough. The variable is read once, when torch is loaded; the user's own word wins.
if os.environ.keys().isdisjoint(("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")):
    os.environ["GOMP_SPINCOUNT"] = "2000"

_LATER = {"Detections": "detector.detections", "Detector": "detector.pipeline"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LATER[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


def load(
    path: str | Path | None = None,
    device: str = "cpu",
    weights: str | Path | None = None,
    runtime: Runtime | None = None,
) -> Detector:
    """`detector.pipeline.Detector.load`: a model file, by default the model that comes with the package."""
    from detector.pipeline import Detector

    return Detector.load(path, device, weights, runtime)


def train(data: Any, recipe: str | Path = "default", **options: Any) -> Detector:
    """`detector.training.one_call.train_on`: a detector of the classes of labeled images, in one call."""
    from detector.training.one_call import train_on

    return train_on(data, recipe, **options)
