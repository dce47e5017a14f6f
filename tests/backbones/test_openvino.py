"""OpenVINO in place of torch: the same maps and features, the same errors, and when torch is taken after all."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from detector.backbones.backbone import Backbone, load_backbone
from detector.backbones.efficientnet_lite import published_weights
from detector.backbones.openvino_backbone import OpenVINOBackbone
from detector.heads.fully_connected import FullyConnected
from detector.pipeline import Detector
from detector.runtime.threads import on_one_thread_each

NAME = "efficientnet_lite0"
TOLERANCE = 1e-5
"""Of maps, as a part of their largest value."""


def load(runtime: Any, stage: str | None = None, **settings: Any) -> Backbone:
    return load_backbone(NAME, stage, precision="float32", runtime=runtime, **settings)


def assert_near(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


@pytest.fixture(scope="module")
def openvino() -> Backbone:
    return load("openvino")


# halvings of odd and even sides, and images smaller than what a cell sees
@pytest.mark.parametrize("size", [(64, 97), (95, 66), (33, 50), (1, 1)])
def test_maps_are_those_of_torch(openvino: Backbone, size: tuple[int, int]) -> None:
    assert isinstance(openvino, OpenVINOBackbone)
    expected, image = load("torch"), skimage.data.chelsea()[100 : 100 + size[0], 150 : 150 + size[1]]
    assert openvino.feature_map(image).shape == (-(-size[0] // 16), -(-size[1] // 16), 320)
    assert_near(openvino.feature_map(image), expected.feature_map(image))


@pytest.mark.parametrize("stage", ["blocks.5", "blocks.3.1", "blocks.3.1.bn2", "blocks.4.0.conv_dw", "act1", "bn1"])
def test_the_network_may_end_anywhere(stage: str) -> None:
    image = skimage.data.chelsea()[100:165, 150:200]
    found, expected = load("openvino", stage), load("torch", stage)
    for name in ("name", "stage", "channels", "geometry", "digest", "precision", "device"):
        assert str(getattr(found, name)) == str(getattr(expected, name)), name
    assert (found.runtime, expected.runtime) == ("openvino", "torch")
    assert_near(found.feature_map(image), expected.feature_map(image))


def test_tensors_may_be_given(openvino: Backbone) -> None:
    random = np.random.default_rng(0)
    name = "blocks.2.0.conv_dw.weight"
    weights = {**published_weights(), "head.fc6.weight": np.zeros(3, np.float32)}
    weights[name] = (weights[name] + random.normal(0, 0.05, weights[name].shape)).astype(np.float32)
    found, expected = (load(runtime, weights=weights) for runtime in ("openvino", "torch"))
    assert found.digest == expected.digest != openvino.digest
    assert list(found.tensors) == list(expected.tensors) == list(openvino.tensors)
    np.testing.assert_array_equal(found.tensors[name], weights[name])
    image = skimage.data.chelsea()[100:165, 150:200]
    assert_near(found.feature_map(image), expected.feature_map(image))


def test_the_shipped_model_has_weights_of_its_own(openvino: Backbone, tmp_path: Path) -> None:
    shipped = load("openvino", "blocks.5", weights="shipped")
    assert shipped.digest == Detector.load().encoder.backbone.digest != load("openvino", "blocks.5").digest
    Detector.load().save(tmp_path / "model")
    assert load("torch", "blocks.5", weights=tmp_path / "model").digest == shipped.digest
    with pytest.raises(ValueError, match=r"shipped: no tensor 'blocks\.6\.0\.conv_pw\.weight'"):
        load("openvino", weights="shipped")


def test_weights_from_a_file(openvino: Backbone, tmp_path: Path) -> None:
    state = {name: torch.from_numpy(array) for name, array in published_weights().items()}
    save_file({**state, "classifier.weight": torch.zeros(2)}, tmp_path / "weights")
    assert load("openvino", weights=tmp_path / "weights").digest == openvino.digest
    halves = {name: each.bfloat16() if each.is_floating_point() else each for name, each in state.items()}
    save_file(halves, tmp_path / "halves")
    digests = {load(runtime, weights=tmp_path / "halves").digest for runtime in ("openvino", "torch")}
    assert len(digests) == 1 and digests != {openvino.digest}


def test_mistakes_are_told_as_with_torch(tmp_path: Path) -> None:
    files = {"damaged": b"not a tensor in here"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    save_file({}, tmp_path / "empty")
    save_file({"conv_stem.weight": torch.zeros(2)}, tmp_path / "narrow")
    save_file({"conv1.weight": torch.zeros(2)}, tmp_path / "other")
    cases: tuple[dict[str, Any], ...] = (
        {"stage": "blocks.9"},
        {"weights": tmp_path / "nowhere"},
        *({"weights": tmp_path / name} for name in ("damaged", "empty", "narrow", "other")),
        {"weights": {"conv_stem.weight": np.zeros(2, np.float32)}},
    )
    for settings in cases:
        messages = []
        for runtime in ("torch", "openvino"):
            with pytest.raises((ValueError, OSError)) as caught:
                load(runtime, **settings)
            messages.append((type(caught.value), str(caught.value)))
        assert messages[0] == messages[1]


def test_images_are_checked(openvino: Backbone) -> None:
    with pytest.raises(ValueError, match=r"image must be \(H, W, 3\) uint8 RGB, but got \(9, 9\)"):
        openvino.feature_map(np.zeros((9, 9), np.uint8))
    image = skimage.data.chelsea()[100:164, 150:230]
    image.flags.writeable = False
    expected = openvino.feature_map(image)
    assert np.array_equal(openvino.feature_map(np.asfortranarray(image)), expected)


def test_threads_may_share_a_network(openvino: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTOR_THREADS", "2")
    network = load("openvino")
    images = [skimage.data.chelsea()[top : top + 70, 100:190] for top in range(0, 60, 10)]
    expected = [openvino.feature_map(image) for image in images]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(network.feature_map, images))
    with on_one_thread_each() as begin, ThreadPoolExecutor(2, initializer=begin) as pool:
        found += list(pool.map(network.feature_map, images))
    for one, other in zip(found, expected * 2, strict=True):
        assert np.array_equal(one, other)


MANY_SIZES = """
import numpy as np
from pathlib import Path
from detector.backbones.backbone import load_backbone
network = load_backbone("efficientnet_lite0", None, precision="float32", runtime="openvino")
for number in range(220):
    network.feature_map(np.zeros((64 + number % 41, 64 + number % 47, 3), np.uint8))
    if number in (159, 219):
        print(Path("/proc/self/statm").read_text().split()[1])
"""


@pytest.mark.all
def test_memory_does_not_grow_with_the_sizes_of_images() -> None:
    """In a process of its own, where nothing else asks for memory; each size would take .8 MB."""
    found = subprocess.run([sys.executable, "-c", MANY_SIZES], capture_output=True, text=True, check=True)
    before, after = map(int, found.stdout.split())
    assert (after - before) * os.sysconf("SC_PAGE_SIZE") < 20e6


def test_without_openvino_torch_computes(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for module in ("openvino", "openvino.opset13"):
        monkeypatch.setitem(sys.modules, module, None)
    with caplog.at_level(logging.INFO):
        assert load("auto", "bn1").runtime == "torch"
        assert caplog.messages == []
        assert load("openvino", "bn1").runtime == "torch"
    assert caplog.messages == ["torch computes the network: openvino is not installed: pip install openvino"]


def test_what_openvino_does_not_compute(caplog: pytest.LogCaptureFixture) -> None:
    assert load_backbone("zf5/0.05", weights="random", runtime="openvino").runtime == "torch"
    assert load("openvino", "bn1", weights="random").runtime == "torch"
    with pytest.raises(ValueError, match="device 'tpu' cannot be used"):
        load("openvino", device="tpu")
    assert caplog.messages == [
        "torch computes the network: OpenVINO computes only efficientnet_lite0, not zf5/0.05",
        "torch computes the network: random weights need torch",
        "torch computes the network: OpenVINO computes on the CPU, not on tpu",
    ]


def test_bfloat16_is_left_to_processors_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detector.backbones.backbone.has_bfloat16", lambda: False)
    assert load_backbone(NAME, "bn1", precision="auto").precision == "float32"
    found = load_backbone(NAME, "bn1", precision="bfloat16", runtime="openvino")
    assert (found.runtime, found.precision) == ("torch", "bfloat16")


def test_fully_connected_layers_are_those_of_torch() -> None:
    random = np.random.default_rng(0)
    weights = [random.normal(0, 0.1, shape).astype(np.float16) for shape in ((48, 700), (32, 48))]
    biases = [random.normal(0, 1, len(each)).astype(np.float32) for each in weights]
    features = random.normal(0, 1, (150, 700)).astype(np.float32)
    by_torch = FullyConnected(weights, biases)
    layers = FullyConnected(weights, biases, runtime="openvino")
    found = layers(features)
    assert_near(found, by_torch(features))
    assert layers.digest == by_torch.digest
    assert np.array_equal(pickle.loads(pickle.dumps(layers))(features), found)
    for count in (0, 1, 2, 5, 63, 64, 65, 128):
        assert np.array_equal(layers(features[:count]), found[:count])
    # where a row stands does not matter either
    assert np.array_equal(layers(features[7:20]), found[7:20])
    back = random.normal(0, 1, (150, layers.n_features)).astype(np.float32)
    for one, other in zip(layers.affine_at(features, back), by_torch.affine_at(features, back), strict=True):
        assert np.array_equal(one, other)
