"""Write the weights `general`: python -m dev.general_weights MODEL.

MODEL is that of the first training of the shipped model; see dev/shipped.yaml.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from detector.backbones.backbone import load_backbone
from detector.model_file import GENERAL_WEIGHTS, SHIPPED, trained_stage
from detector.runtime.array_files import Arrays, write_arrays


def main() -> None:
    """Average ImageNet's weights and the model's; convolutions are stored in half precision."""
    stage = trained_stage(SHIPPED)
    sources = None, sys.argv[1]
    imagenet, trained = (
        load_backbone("efficientnet_lite0", stage, weights, precision="float32").tensors for weights in sources
    )
    averaged: Arrays = {}
    for name, each in trained.items():
        mean = (imagenet[name].astype(np.float64) + each) / 2
        averaged[name] = mean.astype(np.float16 if each.ndim == 4 else each.dtype)
    write_arrays(Path(str(GENERAL_WEIGHTS)), averaged, {"format": "spp-weights 1", "stage": stage})


if __name__ == "__main__":
    main()
