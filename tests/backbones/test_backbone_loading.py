"""Loading backbones: where their weights come from, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import skimage.data
import torch
import torchvision
from safetensors.torch import save_file

from detector.backbones.loading import load_network
from detector.backbones.torch_backbone import TorchBackbone, load_torch_backbone


def test_padding_that_depends_on_the_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"tf_efficientnet_lite0, stage blocks.2: .* depends on the image's size"):
        load_torch_backbone("timm/tf_efficientnet_lite0", stage="blocks.2", weights="random")


@pytest.mark.parametrize("name", ["zf5/0", "zf5/0.01", "zf5/nan", "zf5/inf", "zf5/wide", "vgg16/2", "timm"])
def test_widths_and_models_that_are_not(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: |unknown backbone '{name}'"):
        load_network(name, weights="random")


def test_weights_may_be_tensors_and_many_images_go_at_once() -> None:
    network = load_network("zf5/0.25", weights="random")
    state = {name: tensor + 1e-3 for name, tensor in network.module.network.state_dict().items()}
    changed = load_network("zf5/0.25", weights=state)
    images = np.stack([skimage.data.chelsea()[:90, start : start + 100] for start in (0, 60)])
    backbone = TorchBackbone(changed)
    assert not torch.equal(network.maps(images), changed.maps(images))
    assert changed.maps(images).requires_grad
    torch.testing.assert_close(backbone.maps(images), torch.stack([backbone(image) for image in images]))
    torch.testing.assert_close(backbone.maps(images), changed.maps(images).detach())


def test_weights_from_a_file(tmp_path: Path) -> None:
    random = load_torch_backbone("zf5", weights="random")
    state = {
        name: tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in random.network.network.state_dict().items()
    }
    path = tmp_path / "zf5.safetensors"
    save_file({**state, "fc6.weight": torch.zeros(2)}, path)
    assert load_torch_backbone("zf5", weights=path).digest == random.digest

    state["conv5.bias"] += 1
    save_file(state, path)
    image = skimage.data.chelsea()[:120, :120]
    changed = load_torch_backbone("zf5", weights=path)
    assert changed.digest != random.digest
    assert not torch.equal(changed(image), random(image))
    # The change lies behind this stage.
    early = [load_torch_backbone("zf5", stage="relu2", weights=weights).digest for weights in (path, "random")]
    assert early[0] == early[1] != random.digest


def test_random_weights_are_the_same_each_time_and_leave_torch_s_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    digests = {load_torch_backbone("zf5", weights="random").digest for _ in range(2)}
    assert len(digests) == 1
    assert torch.equal(torch.rand(3), expected)


def test_wrong_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(OSError, match=r"weights\.safetensors"):
        load_torch_backbone("alexnet", weights=path)
    path.write_bytes(b"not a tensor in here")
    with pytest.raises(ValueError, match=r"weights.safetensors: is damaged or not a safetensors file"):
        load_torch_backbone("alexnet", weights=path)
    state = {"features.0.weight": torch.zeros(64, 3, 11, 11), "features.0.bias": torch.zeros(63)}
    save_file(state, path)
    with pytest.raises(ValueError, match=r"'features.0.bias' must have shape \(64,\), but got \(63,\)"):
        load_torch_backbone("alexnet", weights=path)
    save_file({"conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"weights.safetensors: no tensor 'features.0.weight'"):
        load_torch_backbone("alexnet", weights=path)
    save_file({}, path)
    with pytest.raises(ValueError, match=r"weights.safetensors: has no tensors"):
        load_torch_backbone("zf5", weights=path)


def test_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        assert kwargs["weights_only"] is True
        raise URLError("Name or service not known")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", offline)
    with pytest.raises(OSError, match=r"AlexNet_Weights cannot be downloaded .*weights=PATH") as caught:
        load_torch_backbone("alexnet")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="zf5 has no public weights"):
        load_torch_backbone("zf5")


@pytest.mark.parametrize(
    ("name", "stage", "reason"),
    [
        (
            "resnet",
            None,
            "unknown backbone 'resnet'; known are efficientnet_lite0, alexnet, vgg16, zf5, timm/NAME",
        ),
        ("alexnet/x", None, "unknown backbone 'alexnet/x'"),
        ("timm", None, "unknown backbone 'timm'"),
        ("timm/resnet1", "layer3", r"timm/resnet1: Unknown model"),
        ("timm/resnet18", None, "timm/resnet18 needs a stage; there are conv1, bn1"),
        ("timm/resnet18", "layer9", "timm/resnet18, stage layer9: no such stage; there are conv1, bn1"),
        ("timm/vit_tiny_patch16_224", "blocks.3", "timm/vit_tiny_patch16_224, stage blocks.3"),
        ("zf5", "conv6", "zf5, stage conv6: no such stage; there are conv1, relu1"),
    ],
)
def test_wrong_names(name: str, stage: str | None, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        load_torch_backbone(name, stage=stage, weights="random")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "meta"])
def test_wrong_device(device: str) -> None:
    with pytest.raises(ValueError, match=f"device '{device}' cannot be used"):
        load_torch_backbone("alexnet", weights="random", device=device)


def test_automatic_precision_is_one_of_both() -> None:
    backbone = load_torch_backbone("alexnet", weights="random", precision="auto")
    assert backbone.precision in ("float32", "bfloat16")


def test_wrong_precision() -> None:
    with pytest.raises(ValueError, match="precision must be one of auto, float32, bfloat16, but got 'float16'"):
        load_torch_backbone("zf5", weights="random", precision="float16")  # type: ignore[arg-type]


@pytest.mark.all
def test_the_default_is_loaded_without_the_slow_imports() -> None:
    script = (
        "import sys; from detector.backbones import backbone; backbone.load_backbone('efficientnet_lite0');"
        "print({'timm', 'torchvision', 'torch._dynamo'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
