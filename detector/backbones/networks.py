"""Networks of the detector, up to their last feature map, without weights.

torchvision and timm have three of them, but importing either takes longer than a detection. Tensors have the names that
they have there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from detector.backbones.efficientnet_lite import NORM_EPSILON, STEM, Plan, Step, plan_of_stages

_MAX_WIDTH = 16
_VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)


def efficientnet_lite0(output_stride: int = 16) -> Block:
    """Build EfficientNet-Lite0 up to its 320 channels, with timm's names, dilated to keep the stride."""
    stages = plan_of_stages(output_stride)
    blocks = nn.Sequential(*(nn.Sequential(*map(_block, stage)) for stage in stages))
    return Block(OrderedDict([*_layers(STEM), ("blocks", blocks)]))


class Block(nn.Sequential):
    """Layers in sequence; with ``residual``, their input is added to their output."""

    def __init__(self, layers: OrderedDict[str, nn.Module], residual: bool = False) -> None:
        super().__init__(layers)
        self.residual = residual

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        output = super().forward(maps)
        return output + maps if self.residual else output


def _block(plan: Plan) -> Block:
    return Block(OrderedDict(_layers(plan)), plan.residual)


def _layers(plan: Plan) -> Iterator[tuple[str, nn.Module]]:
    for step in plan.steps:
        yield step.convolution, _convolution(step)
        if step.norm is not None:
            yield step.norm, nn.BatchNorm2d(step.outputs, eps=NORM_EPSILON)
        if step.activation is not None:
            yield step.activation, nn.ReLU6(inplace=True)


class Halving(nn.Conv2d):
    """Convolution of stride 2, padded one more after than before; half a side is rounded up."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return super().forward(self.padded(maps))

    def padded(self, maps: torch.Tensor) -> torch.Tensor:
        """Pad ``(N, C, h, w)`` maps with the zeros that the convolution reads."""
        before = self.kernel_size[0] // 2 - 1
        height, width = maps.shape[2:]
        return F.pad(maps, (before, before + 1 + width % 2, before, before + 1 + height % 2))


def _convolution(step: Step) -> nn.Conv2d:
    if step.stride == 2:
        return Halving(step.inputs, step.outputs, step.kernel, step.stride, groups=step.groups, bias=False)
    sizes = step.kernel, step.stride, step.before, step.dilation
    return nn.Conv2d(step.inputs, step.outputs, *sizes, groups=step.groups, bias=False)


def alexnet() -> nn.Sequential:
    """Build AlexNet (its second version) up to conv5 after its ReLU, with torchvision's names: 256 channels."""
    features = nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(inplace=True),
    )
    return nn.Sequential(OrderedDict(features=features))


def vgg16() -> nn.Sequential:
    """Build VGG-16 up to conv5_3 after its ReLU, with torchvision's names: 512 channels."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs in _VGG16:
        if outputs:
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = outputs
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(OrderedDict(features=nn.Sequential(*layers)))


class WithinChannelNorm(nn.Module):
    """Local response normalization over 3 x 3 positions of one channel: x (1 + alpha mean(x^2))^-beta.

    Caffe's WITHIN_CHANNEL mode: the mean divides by 9 at the border too. torch's LocalResponseNorm is another
    operation, across channels.
    """

    def __init__(self, alpha: float = 5e-5, beta: float = 0.75) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        energy = F.avg_pool2d(maps * maps, 3, stride=1, padding=1)
        return maps * (1 + self.alpha * energy).pow(-self.beta)


def zf5(width: float = 1.0) -> nn.Sequential:
    """Build the paper's ZF-5 up to conv5 after its ReLU: 256 channels (release: model-defs/Zeiler_conv5.prototxt).

    width: multiplies the channels of all layers; ValueError where a layer would have none.
    Pools round their size up, as Caffe's do. Biases start at 1 in conv2, conv4 and conv5, else at 0.
    """
    # also false for NaN
    if not width * 96 >= 1 or width > _MAX_WIDTH:
        raise ValueError(f"width must give every layer a channel, and be at most {_MAX_WIDTH}, but is {width}")
    c1, c2, c3, c4, c5 = (round(channels * width) for channels in (96, 256, 384, 384, 256))
    network = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, c1, 7, stride=2, padding=1),
            relu1=nn.ReLU(inplace=True),
            norm1=WithinChannelNorm(),
            pool1=nn.MaxPool2d(3, 2, ceil_mode=True),
            conv2=nn.Conv2d(c1, c2, 5, stride=2),
            relu2=nn.ReLU(inplace=True),
            norm2=WithinChannelNorm(),
            pool2=nn.MaxPool2d(3, 2, ceil_mode=True),
            conv3=nn.Conv2d(c2, c3, 3, padding=1),
            relu3=nn.ReLU(inplace=True),
            conv4=nn.Conv2d(c3, c4, 3, padding=1),
            relu4=nn.ReLU(inplace=True),
            conv5=nn.Conv2d(c4, c5, 3, padding=1),
            relu5=nn.ReLU(inplace=True),
        )
    )
    for name, start in (("conv1", 0.0), ("conv2", 1.0), ("conv3", 0.0), ("conv4", 1.0), ("conv5", 1.0)):
        nn.init.constant_(network.get_submodule(name).get_parameter("bias"), start)
    return network
