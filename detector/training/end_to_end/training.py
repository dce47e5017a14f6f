"""A network, fully connected layers, classes and moves of boxes, learned together from whole images.

After Fast R-CNN (Girshick, ICCV 2015) with online hard examples (Shrivastava et al., CVPR 2016). Each image of a step
is learned from by a thread of its own; gradients are added up in order. All randomness follows from the seed and the
number of the image, so that a training that was killed goes on to the same bits, whatever the number of threads.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from detector.backbones.torch_backbone import Backbone
from detector.backbones.tracing import Geometry
from detector.features.mapping import boxes_to_cells
from detector.images.files import read_image
from detector.images.resizing import resize_short_side
from detector.runtime.files import write_arrays
from detector.runtime.progress import Progress, without_progress
from detector.runtime.threads import in_threads, products_on_one_thread, thread_count
from detector.training.end_to_end.region_network import RegionNetwork, box_losses, hardest
from detector.training.end_to_end.state import joint_arrays, read_joint_state, restore_joint
from detector.training.sampling import LabeledBoxes, draw_boxes
from detector.training.training_set import TrainingSet


def learning_rate(step: int, n_steps: int, warmup_steps: int) -> float:
    """The share of the learning rate at a step: rising to 1 in the first ``warmup_steps``, falling as half a cosine.

    The step after the last would have the share 0.
    """
    rising = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return rising * (1 + math.cos(math.pi * step / n_steps)) / 2


def side_range(step: int, n_steps: int, first: Sequence[int], last: Sequence[int]) -> tuple[float, float]:
    """The least and the largest shorter side of images at a step, in pixels: from ``first`` on the way to ``last``."""
    share = step / n_steps
    low, high = (a + share * (b - a) for a, b in zip(first, last, strict=True))
    return low, high


def mean_share(step: int, ema_decay: float) -> float:
    """The share of the weights after a step in the mean of all until then.

    The mean forgets a share of 1 - ``ema_decay`` a step, but more in the first steps: it is not to remember the beginning.
    """
    return max(1 - ema_decay, 9 / (step + 10))


_log = logging.getLogger(__name__)

_STEPS_PER_ROUND = 100
_LARGEST_NORM = 5.0
_BETAS = (0.9, 0.99)
_MEASURED_IMAGES, _MEASURED_BOXES = 40, 50

Gradients = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class JointSettings:
    """Constants of the training.

    A step learns from ``images_per_step`` images, of one random shorter side, whose range moves from ``min_sizes_start`` to
    ``min_sizes_end``. Of an image ``candidates`` boxes are looked at, objects being at most the share ``foreground``, and
    ``hard`` learned from: random ones in the first ``warmup_steps`` steps, then those of the largest losses. ``lr`` is of
    the new layers, ``network_lr`` of the network's, both at their highest. ``memory`` is that of the mean of weights.
    ``colors`` is by how much channels are made brighter or darker, at most, as a share.
    """

    steps: int
    images_per_step: int
    min_sizes_start: tuple[int, int]
    min_sizes_end: tuple[int, int]
    rois_per_image: int
    hard_examples: int
    foreground_fraction: float
    min_iou: float
    lr: float
    network_lr: float
    weight_decay: float
    dropout: float
    warmup_steps: int
    ema_decay: float
    color_jitter: float
    flips: bool
    seed: int


class JointTraining:
    """A training and its state on disk: `run` starts it or goes on with it.

    ``before`` gives the maps that ``network`` takes, and ``geometry`` is that of the maps which it pools.
    """

    def __init__(
        self,
        network: RegionNetwork,
        before: Backbone,
        geometry: Geometry,
        images: TrainingSet,
        settings: JointSettings,
        checkpoint: Path,
    ) -> None:
        self.network, self.before, self.geometry, self.images = network, before, geometry, images
        self.settings, self.checkpoint = settings, checkpoint
        learning = {name: each for name, each in network.named_parameters() if each.requires_grad}
        self.parameters: list[torch.Tensor] = list(learning.values())
        self.names = list(learning)
        groups = [
            {
                "params": [each],
                "factor": settings.network_lr if name.startswith("last.") else settings.lr,
                "weight_decay": settings.weight_decay * (each.ndim > 1),
            }
            for name, each in learning.items()
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=_BETAS, fused=True)
        self.mean = [each.detach().clone() for each in self.parameters]

    def run(self, progress: Progress = without_progress, title: str = "joint training") -> None:
        """Train to the end, from the checkpoint if there is one; leaves the mean of the weights in the network.

        Raises ValueError when the training diverged.
        """
        step = self._load()
        if step < 0:
            step = 0
            self._measure()
        n_steps = self.settings.steps
        rounds = range(-(-step // _STEPS_PER_ROUND), -(-n_steps // _STEPS_PER_ROUND))
        for number in progress(rounds, f"{title}, steps x {_STEPS_PER_ROUND}"):
            start, end = number * _STEPS_PER_ROUND, min((number + 1) * _STEPS_PER_ROUND, n_steps)
            with products_on_one_thread():
                losses = [self._step(step) for step in range(start, end)]
            _log.info("step %d: loss %.3f on the hardest boxes", end, np.mean(losses))
            self._save(end)
        with torch.no_grad():
            for parameter, mean in zip(self.parameters, self.mean, strict=True):
                parameter.copy_(mean)

    def _step(self, step: int) -> float:
        settings = self.settings
        random = np.random.default_rng((settings.seed, step))
        short_side = round(
            random.uniform(*side_range(step, settings.steps, settings.min_sizes_start, settings.min_sizes_end))
        )
        first = step * settings.images_per_step
        results = in_threads(
            lambda number: self._gradients(number, short_side, step < settings.warmup_steps),
            range(first, first + settings.images_per_step),
            min(settings.images_per_step, thread_count()),
        )
        loss = sum(each for each, _ in results) / len(results)
        if not math.isfinite(loss):
            raise ValueError("joint training diverged: its loss is no number; lower end_to_end.lr and network_lr")
        if not (found := [gradients for _, gradients in results if gradients]):
            return loss
        for parameter, *gradients in zip(self.parameters, *found, strict=True):
            parameter.grad = torch.stack(gradients).sum(0) / len(results)
        torch.nn.utils.clip_grad_norm_(self.parameters, _LARGEST_NORM)
        rate = learning_rate(step, settings.steps, settings.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.mean, self.parameters, mean_share(step, settings.ema_decay))
        return loss

    def _gradients(self, number: int, short_side: int, warming_up: bool) -> tuple[float, Gradients]:
        """The loss of an image, by its number in the training, and its gradients; none for an image without boxes."""
        settings = self.settings
        random = np.random.default_rng((settings.seed, 0, number))
        turn, place = divmod(number, len(self.images))
        index = int(np.random.default_rng((settings.seed, 1, turn)).permutation(len(self.images))[place])
        image = read_image(self.images.annotations[index].path)
        boxes = draw_boxes(
            self.images, index, settings.rois_per_image, settings.foreground_fraction, settings.min_iou, random
        )
        if settings.flips and random.integers(2):
            image, boxes = image[:, ::-1], boxes.mirrored(image.shape[1])
        if not len(boxes.labels):
            return 0.0, ()
        last, cells = self._maps(vary_colors(image, settings.color_jitter, random), short_side, boxes)
        largest = self.network.largest(last, cells)
        labels, targets = torch.from_numpy(boxes.labels), torch.from_numpy(boxes.deltas)
        if warming_up:
            rows = random.permutation(len(labels))[: settings.hard_examples]
        else:
            with torch.no_grad():
                judged = self.network.judge(self.network.pool(last, largest))
                of_class, of_place = box_losses(*judged, labels, targets)
            rows = hardest(boxes.boxes, (of_class + of_place).numpy(), settings.hard_examples)
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        features = self.network.pool(last, largest[rows])
        scores, deltas = self.network.judge(features, settings.dropout, generator)
        of_class, of_place = box_losses(scores, deltas, labels[rows], targets[rows])
        loss = (of_class.sum() + of_place.sum()) / settings.hard_examples
        return loss.item(), torch.autograd.grad(loss, self.parameters)

    def _maps(
        self, image: NDArray[np.uint8], short_side: int, boxes: LabeledBoxes
    ) -> tuple[torch.Tensor, NDArray[np.int64]]:
        """The last maps ``(1, C, h, w)`` of an image, with gradients, and the cells ``(n, 4)`` of its boxes on them."""
        resized, zoom = resize_short_side(image, short_side)
        # a copy: what inference gives takes no part in gradients
        last = self.network.last(self.before.maps(resized[None]).clone())
        size = last.shape[2], last.shape[3]
        return last, boxes_to_cells(boxes.boxes, zoom, self.geometry.stride, self.geometry.offset, size)

    def _measure(self) -> None:
        """Center and scale the pooled features as they are before the training."""
        features = []
        random = np.random.default_rng(self.settings.seed)
        with torch.no_grad(), products_on_one_thread():
            for index in random.permutation(len(self.images))[:_MEASURED_IMAGES]:
                boxes = draw_boxes(self.images, int(index), _MEASURED_BOXES, 1.0, self.settings.min_iou, random)
                image = read_image(self.images.annotations[int(index)].path)
                last, cells = self._maps(image, self.settings.min_sizes_end[0], boxes)
                features.append(self.network.pool(last, self.network.largest(last, cells)))
        self.network.center(torch.cat(features))

    def _save(self, step: int) -> None:
        arrays = joint_arrays(self.network, self.names, self.mean, self.optimizer, step < self.settings.steps)
        write_arrays(self.checkpoint, arrays, {"step": step})

    def _load(self) -> int:
        """The next step of the state on disk, which is taken over; -1 where there is none."""
        if (state := read_joint_state(self.checkpoint)) is None:
            return -1
        arrays, step = state
        restore_joint(arrays, self.network, self.names, self.mean, self.optimizer, step)
        return step


def vary_colors(image: NDArray[np.uint8], share: float, random: np.random.Generator) -> NDArray[np.uint8]:
    """An ``(H, W, 3)`` uint8 RGB image, each channel by itself a little brighter or darker, steeper or flatter."""
    factors, shifts = random.uniform(1 - share, 1 + share, 3), random.uniform(-share, share, 3) * 128
    table = np.clip(np.arange(256)[:, None] * factors + shifts, 0, 255).round().astype(np.uint8)
    return np.stack([table[:, channel][image[..., channel]] for channel in range(3)], axis=-1)
