"""Detection by OpenVINO: what torch finds, and torch itself is never imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data

from detector.backbones.efficientnet_lite import published_weights
from detector.config.detector import parse_config
from detector.detections import Detections
from detector.explanation.explainer import explain
from detector.images.files import write_image
from detector.model_file import DETECTOR, ModelContents, write_model
from detector.pipeline import Detector
from detector.runtime.array_files import Arrays

SCRIPT = """
import sys
sys.argv = ["spp detect", *sys.argv[1:]]
from detector.cli.main import run_verb
try:
    run_verb("detect")
finally:
    print("torch" if "torch" in sys.modules else "no torch", file=sys.stderr)
"""

CONFIG: dict[str, Any] = {
    "features": {"stage": "blocks.5", "short_sides": [120], "levels": [2, 1], "precision": "float32"},
    "proposals": {"max_boxes": 60, "min_side": 16},
    "fine_tuning": {"enabled": True, "head": "softmax", "width": 16},
    "end_to_end": {"enabled": True},
    "regression": {"fit": "end_to_end", "features": "layer"},
    "detection": {"min_score": -4.0, "box_refinements": 1},
}


@pytest.fixture(scope="module")
def end_to_end_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of an end-to-end training: backbone trained from blocks.2 to blocks.5, a softmax on fc7."""
    path = tmp_path_factory.mktemp("end_to_end") / "model"
    from detector.backbones.openvino_backbone import OpenVINOBackbone

    random = np.random.default_rng(0)

    def normal(scale: float, *shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        return random.normal(0, scale, shape).astype(np.float32)

    changed = {
        name: (array * np.float32(1.05)).astype(np.float32)
        for name, array in published_weights().items()
        if name.startswith(tuple(f"blocks.{number}." for number in range(2, 6))) and name.endswith((".weight", ".bias"))
    }
    backbone = OpenVINOBackbone("blocks.5", {**published_weights(), **changed})
    arrays: Arrays = {f"backbone.{name}": array for name, array in backbone.tensors.items()}
    arrays |= {"fc6.weights": normal(0.05, 16, 960).astype(np.float16), "fc6.biases": normal(0.1, 16)}
    arrays |= {"fc7.weights": normal(0.3, 16, 16).astype(np.float16), "fc7.biases": normal(0.1, 16)}
    arrays |= {"softmax.weights": normal(0.3, 16, 4), "softmax.biases": normal(0.1, 4)}
    arrays |= {"regression.weights": normal(0.02, 3, 16, 4), "regression.biases": normal(0.02, 3, 4)}
    recipe = parse_config(CONFIG, "test").model_dump(mode="json")
    write_model(path, DETECTOR, ModelContents(arrays, ("a", "b", "c"), recipe, backbone.digest, {}))
    return path


def test_both_runtimes_find_the_same(end_to_end_model: Path) -> None:
    image = skimage.data.chelsea()[::2, ::2]
    found: dict[str, Detections] = {}
    for runtime in ("torch", "openvino"):
        model = Detector.load(end_to_end_model, runtime=runtime)
        assert model.encoder.backbone.runtime == runtime
        assert model.heads.layers is not None and model.heads.layers.runtime == runtime
        found[runtime] = model.detect(image, min_score=-30)
    assert len(found["torch"]) > 8
    assert np.array_equal(found["openvino"].labels, found["torch"].labels)
    np.testing.assert_allclose(found["openvino"].scores, found["torch"].scores, atol=1e-4)
    np.testing.assert_allclose(found["openvino"].boxes, found["torch"].boxes, atol=1e-2)


def test_attributions_add_up(end_to_end_model: Path) -> None:
    model, image = Detector.load(end_to_end_model, runtime="openvino"), skimage.data.chelsea()[::2, ::2]
    found = model.detect(image, max_detections=3)
    for each, score in zip(explain(model, image, found), found.scores, strict=True):
        assert each.bias + sum(grid.sum() for grid in each.levels.values()) == pytest.approx(float(score), abs=1e-5)
        assert abs(each.rounding) < 1e-4


def test_a_model_that_was_loaded_is_saved_as_it_was(end_to_end_model: Path, tmp_path: Path) -> None:
    for runtime in ("torch", "openvino"):
        Detector.load(end_to_end_model, runtime=runtime).save(tmp_path / runtime)
        assert (tmp_path / runtime).read_bytes() == end_to_end_model.read_bytes()


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.all
def test_the_command_imports_no_torch(own: bool, end_to_end_model: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "cat.jpg", skimage.data.chelsea()[::4, ::4])
    options = ["--model", str(end_to_end_model)] if own else []
    words = (sys.executable, "-c", SCRIPT, "cat.jpg", "--json", "found.json", *options)
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "no torch"
    (record,) = json.loads((tmp_path / "found.json").read_text())
    assert own or record["detections"][0]["label"] == "cat"
