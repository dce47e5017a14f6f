"""The same code on a GPU, where there is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detector.backbones.torch_backbone import load_torch_backbone
from detector.pipeline import Detector

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: the GPU is not tested")


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 5e-3), ("bfloat16", 5e-2)])
def test_maps_equal_those_of_the_processor(cat: NDArray[np.uint8], precision: str, tolerance: float) -> None:
    expected = load_torch_backbone("efficientnet_lite0")(cat)
    found = load_torch_backbone("efficientnet_lite0", device="cuda", precision=precision)(cat)  # type: ignore[arg-type]
    assert found.is_cuda
    assert ((found.cpu() - expected).norm() / expected.norm()).item() < tolerance


def test_the_default_model_finds_the_cat(cat: NDArray[np.uint8]) -> None:
    here, there = (Detector.load(device=device).detect(cat, min_score=0) for device in ("cpu", "cuda"))
    assert there.class_names[there.labels[0]] == "cat"
    np.testing.assert_allclose(there.boxes[0], here.boxes[0], atol=10)
    np.testing.assert_allclose(there.scores[0], here.scores[0], atol=0.1)
