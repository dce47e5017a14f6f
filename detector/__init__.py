"""Detect objects with SPP-net: proposals, one convolution per scale, pyramid pooling, linear SVMs.

    import detector

    model = detector.load()
    found = model.detect("dog.jpg")

    mine = detector.train("my_export.zip")

Modules are imported when a name is first used.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from detector.classification.model import Classifier as Classifier
    from detector.config.detector import Config as Config
    from detector.config.detector import load_config as load_config
    from detector.datasets.dataset import Dataset as Dataset
    from detector.datasets.loading import load_dataset as load_dataset
    from detector.detections import Detections as Detections
    from detector.ensemble import Ensemble as Ensemble
    from detector.explanation.explainer import explain as explain
    from detector.explanation.explainer import explain_box as explain_box
    from detector.features.pooling import spatial_pyramid_pool as spatial_pyramid_pool
    from detector.features.pyramid_layer import SpatialPyramidPooling as SpatialPyramidPooling
    from detector.images.files import read_image as read_image
    from detector.pipeline import Detector as Detector
    from detector.proposals.selective_search import selective_search as selective_search
    from detector.runtime.openvino import Runtime
    from detector.runtime.progress import Progress
    from detector.tiles import Tiles

__version__ = "0.1.0"

# waiting OpenMP threads spin and steal cores from other processes; a short while is enough. libgomp reads the variable
# once, when torch is loaded; a value of the user is kept
if os.environ.keys().isdisjoint(("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")):
    os.environ["GOMP_SPINCOUNT"] = "2000"

_MODULES = {
    "Classifier": "detector.classification.model",
    "Config": "detector.config.detector",
    "Dataset": "detector.datasets.dataset",
    "Detections": "detector.detections",
    "Detector": "detector.pipeline",
    "Ensemble": "detector.ensemble",
    "SpatialPyramidPooling": "detector.features.pyramid_layer",
    "explain": "detector.explanation.explainer",
    "explain_box": "detector.explanation.explainer",
    "load_config": "detector.config.detector",
    "load_dataset": "detector.datasets.loading",
    "read_image": "detector.images.files",
    "selective_search": "detector.proposals.selective_search",
    "spatial_pyramid_pool": "detector.features.pooling",
}
__all__ = ["load", "train", *_MODULES]


def load(path: str | Path | None = None, device: str = "cpu", runtime: Runtime | None = None) -> Detector:
    """Load a model file, by default the model of the package; see `Detector.load`."""
    from detector.pipeline import Detector

    return Detector.load(path, device, runtime)


def train(
    data: Dataset | str | Path,
    recipe: Config | str | Path = "default",
    *,
    fine_tune: bool = False,
    tiles: Tiles | None = None,
    split: str | None = None,
    output: str | Path | None = None,
    cache: str | Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Detector:
    """Train a detector on labeled images, and return it with its accuracy in ``metrics``.

    data: a `Dataset`, or the path of an export of a labeling tool: a folder, a zip file, or an annotation file.
    recipe: a `Config`, a YAML file, or the name of a recipe of the package.
    fine_tune: also train the network end to end, which takes several times as long, and return the better model.
    tiles: also train and detect in overlapping tiles of the images: their number, the size "640x480" of one, or "auto".
    split: part of the data to train on, by default train.
    output: model file to write. cache: directory of features, which later trainings reuse.
    device: torch's name of the device of the network. progress: shows loops, such as ``tqdm`` would.
    Raises OSError for data that cannot be read, and ValueError for data or a recipe that cannot be trained on.
    """
    from detector.runtime.progress import no_progress
    from detector.training.train_on import train_on

    return train_on(
        data,
        recipe,
        fine_tune=fine_tune,
        tiles=tiles,
        split=split,
        output=output,
        cache=cache,
        device=device,
        progress=progress or no_progress,
    )


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
