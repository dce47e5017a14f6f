"""Train the last layers of a backbone together with fc6, fc7, classifier and box regressor, from whole images.

After Fast R-CNN (Girshick, ICCV 2015) with online hard example mining (Shrivastava et al., CVPR 2016). Each image of a
step is processed by a thread of its own; gradients are summed in order. All randomness follows from the seed and the
number of the image, so that a killed training resumes to bit-identical weights, whatever the number of threads.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detector.backbones.geometry import Geometry
from detector.backbones.loading import Network, load_network
from detector.backbones.splitting import split_network
from detector.backbones.torch_backbone import TorchBackbone, load_torch_backbone
from detector.backbones.truncation import network_digest
from detector.boxes import Boxes, clip, decode_deltas
from detector.config.detector import Config, EndToEndConfig, FeatureConfig, FineTuningConfig
from detector.datasets.tiles import read_view
from detector.features.cache import fill_proposals
from detector.features.mapping import boxes_to_cells
from detector.heads.fully_connected import Softmax
from detector.heads.linear import BoxRegressors
from detector.images.resizing import resize_short_side
from detector.runtime.array_files import Arrays, stored_arrays, write_arrays
from detector.runtime.progress import Progress, no_progress
from detector.runtime.threads import in_threads, products_on_one_thread, thread_count
from detector.training.calibration import held_out_ids
from detector.training.checkpoints import NOT_FINGERPRINTED, data_digest, state_file
from detector.training.end_to_end.fc_layers import FineTunedLayers, Layer, initial_layers
from detector.training.end_to_end.region_network import RegionNetwork, box_losses, hardest
from detector.training.end_to_end.trainable_layers import trainable_layers
from detector.training.gradient_descent import to_arrays
from detector.training.sampling import DELTA_SPREAD, LabeledBoxes, sample_labeled_boxes
from detector.training.training_set import TrainingSet

STEPS_PER_ROUND = 100
"""Number of steps between checkpoints."""

_MAX_GRADIENT_NORM = 5.0
_BETAS = (0.9, 0.99)
_MOMENTS = ("exp_avg", "exp_avg_sq")
_MEASURED_IMAGES, _MEASURED_BOXES = 40, 50
_log = logging.getLogger(__name__)

Gradients = tuple[torch.Tensor, ...]


@dataclass(frozen=True, eq=False)
class EndToEndResult:
    """Result of an end-to-end training.

    backbone: tensors of the trained layers of the backbone, by name.
    layers: fc6, fc7 and the softmax.
    regressors: box regressors on fc7, and those of the boxes that these refined, if there are any.
    """

    backbone: Arrays
    layers: FineTunedLayers
    regressors: list[BoxRegressors]


def train_end_to_end(config: Config, images: TrainingSet, progress: Progress = no_progress) -> EndToEndResult:
    """Train the backbone of a recipe from ``end_to_end.first_layer`` on, with fc6, fc7, classifier and regressor.

    Images that the calibration needs, those of `held_out_ids`, are not trained on. Proposals and the training state are
    kept in the cache directory: killed and called again, it resumes to bit-identical weights. Computed in float32,
    except for frozen layers. Raises ValueError as `load_trainable` does and if the training diverges.
    """
    network, stage, last = load_trainable(config.features, config.end_to_end.first_layer, images)
    annotations = images.annotations
    if config.calibration.enabled:
        # chosen among all images, also unreadable ones: which are readable may change before the calibration
        held_out = held_out_ids(images, config)
        annotations = [each for each in annotations if each.image_id not in held_out]
    images = replace(images, annotations=fill_proposals(images.cache, annotations, progress))
    features = config.features
    frozen = load_torch_backbone(features.backbone, stage, features.weights, "cpu", features.precision)
    regions = RegionNetwork(
        trainable_layers(last),
        features.levels,
        network.module.channels,
        config.fine_tuning.width,
        images.n_classes,
        config.fine_tuning.seed,
        config.end_to_end.second_min_iou is not None,
    )
    checkpoint = checkpoint_file(config, images, network_digest(network.module.network), frozen.precision)
    start = initial_layers(config.fine_tuning, images.cache.encoder)
    training = EndToEndTraining(
        regions, frozen, network.module.geometry, images, config.end_to_end, config.fine_tuning, checkpoint, start
    )
    training.run(progress)
    trained = {id(tensor) for tensor in last.parameters()}
    named = network.module.network.named_parameters()
    backbone = to_arrays({name: each for name, each in named if id(each) in trained})
    return EndToEndResult(backbone, *heads_of(regions.layers()))


def loop_title(config: EndToEndConfig) -> str:
    """Return the title of the loop of the steps, for progress."""
    return f"end-to-end training from {config.first_layer} on, steps x {STEPS_PER_ROUND}"


def load_trainable(features: FeatureConfig, first_layer: str, images: TrainingSet) -> tuple[Network, str, nn.Module]:
    """Return the network of a recipe, the stage before ``first_layer``, and the layers from there on.

    Raises ValueError for a layer that training cannot start at, and for images whose cache uses another device than
    the CPU.
    """
    if (device := str(images.cache.encoder.backbone.device)) != "cpu":
        raise ValueError(f"end-to-end training runs on the CPU, but the device is {device!r}")
    network = load_network(features.backbone, features.stage, features.weights)
    return network, *split_network(network, first_layer, features.weights)


def checkpoint_file(config: Config, images: TrainingSet, digest: str, precision: str) -> Path:
    """Return the file of the training state; ``digest`` is that of the network, ``precision`` of its frozen layers."""
    shared = {"initial", "width", "foreground_fraction", "min_iou", "dropout", "flips", "seed"}
    changes = {
        "features": config.features.model_dump(mode="json", exclude=NOT_FINGERPRINTED),
        "end_to_end": config.end_to_end.model_dump(exclude={"enabled"}),
        "fine_tuning": config.fine_tuning.model_dump(include=shared),
        "difficult": images.difficult,
        "network": digest,
        "initial": config.files().get(str(config.fine_tuning.initial)),
        "precision": precision,
    }
    return state_file("end-to-end", changes, data_digest(images.annotations, images.cache), images.cache)


def heads_of(layers: Mapping[str, torch.Tensor]) -> tuple[FineTunedLayers, list[BoxRegressors]]:
    """Return the fc layers, and the regressors of plain deltas, from the tensors of `RegionNetwork.layers`."""
    arrays = {name: tensor.numpy() for name, tensor in layers.items()}
    fc6, fc7 = ((arrays[f"{name}.weight"].astype(np.float16), arrays[f"{name}.bias"]) for name in ("fc6", "fc7"))
    softmax = Softmax(np.ascontiguousarray(arrays["classifier.weight"].T), arrays["classifier.bias"])
    names = [name for name in ("regressor", "second_regressor") if f"{name}.weight" in arrays]
    return FineTunedLayers(fc6, fc7, softmax), [_regressors(arrays, name) for name in names]


def _regressors(arrays: Mapping[str, NDArray[np.float32]], name: str) -> BoxRegressors:
    weights, biases = arrays[f"{name}.weight"], arrays[f"{name}.bias"]
    by_class = weights.reshape(-1, 4, weights.shape[1]).transpose(0, 2, 1) * DELTA_SPREAD
    return BoxRegressors(np.ascontiguousarray(by_class), biases.reshape(-1, 4) * DELTA_SPREAD)


class EndToEndTraining:
    """An end-to-end training with its state on disk: `run` starts or resumes it.

    ``frozen`` computes the maps that ``network`` takes; ``geometry`` is that of the maps which it pools. A step trains
    on ``images_per_step`` images at one random size. From each, ``rois_per_image`` boxes are sampled and
    ``hard_examples`` trained on: random ones in the first ``warmup_steps`` steps, then those with the largest losses.
    With ``second_min_iou``, those of objects train the second regressor, too, as the first one refines them.
    ``start``: fc6 and fc7 for uncentered features; layers that it lacks start from random weights.
    """

    def __init__(
        self,
        network: RegionNetwork,
        frozen: TorchBackbone,
        geometry: Geometry,
        images: TrainingSet,
        config: EndToEndConfig,
        fine_tuning: FineTuningConfig,
        checkpoint: Path,
        start: Sequence[Layer] = (),
    ) -> None:
        self.start = start
        self.network, self.frozen, self.geometry, self.images = network, frozen, geometry, images
        self.config, self.fine_tuning, self.checkpoint = config, fine_tuning, checkpoint
        self.parameters: dict[str, torch.Tensor] = {
            name: each for name, each in network.named_parameters() if each.requires_grad
        }
        groups = [
            {
                "params": [each],
                "last": name.startswith("last."),
                "factor": config.network_lr if name.startswith("last.") else config.lr,
                "weight_decay": config.weight_decay * (each.ndim > 1),
            }
            for name, each in self.parameters.items()
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=_BETAS, fused=True)
        self.ema = {name: each.detach().clone() for name, each in self.parameters.items()}
        self.n_steps = config.n_steps(len(images))

    def run(self, progress: Progress = no_progress) -> None:
        """Train to the end, from the checkpoint if there is one; leave the averaged weights in the network.

        Raises ValueError if the training diverges.
        """
        if (step := self._load()) is None:
            step = 0
            self._measure()
            self.network.start_from(self.start)
            self.ema = {name: each.detach().clone() for name, each in self.parameters.items()}
        rounds = range(-(-step // STEPS_PER_ROUND), -(-self.n_steps // STEPS_PER_ROUND))
        for number in progress(rounds, loop_title(self.config)):
            start, end = number * STEPS_PER_ROUND, min((number + 1) * STEPS_PER_ROUND, self.n_steps)
            with products_on_one_thread():
                losses = [self._step(step) for step in range(start, end)]
            _log.info("step %d: loss %.3f on the hardest boxes", end, np.mean(losses))
            self._save(end)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self.ema[name])

    def _step(self, step: int) -> float:
        config = self.config
        random = np.random.default_rng((self.fine_tuning.seed, step))
        low, high = side_range(step, self.n_steps, config.min_sizes_start, config.min_sizes_end)
        short_side = round(random.uniform(low, high))
        first = step * config.images_per_step
        results = in_threads(
            lambda number: self._gradients(number, short_side, step < config.warmup_steps),
            range(first, first + config.images_per_step),
            min(config.images_per_step, thread_count()),
        )
        loss = sum(each for each, _ in results) / len(results)
        if not math.isfinite(loss):
            raise ValueError(
                "end-to-end training diverged: its loss is not finite; lower end_to_end.lr and end_to_end.network_lr"
            )
        if not (found := [gradients for _, gradients in results if gradients]):
            return loss
        parameters = list(self.parameters.values())
        for parameter, *gradients in zip(parameters, *found, strict=True):
            parameter.grad = torch.stack(gradients).sum(0) / len(results)
        torch.nn.utils.clip_grad_norm_(parameters, _MAX_GRADIENT_NORM)
        rate = learning_rate(step, self.n_steps, config.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0 if group["last"] and step < config.frozen_steps else rate * group["factor"]
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.values()), parameters, ema_weight(step, config.ema_decay))
        return loss

    def _gradients(self, number: int, short_side: int, warming_up: bool) -> tuple[float, Gradients]:
        """Return loss and gradients of an image, by its number in the training; no gradients without boxes."""
        config, fine_tuning = self.config, self.fine_tuning
        random = np.random.default_rng((fine_tuning.seed, 0, number))
        epoch, place = divmod(number, len(self.images))
        index = int(np.random.default_rng((fine_tuning.seed, 1, epoch)).permutation(len(self.images))[place])
        image = read_view(self.images.annotations[index])
        boxes = sample_labeled_boxes(
            self.images, index, config.rois_per_image, fine_tuning.foreground_fraction, fine_tuning.min_iou, random
        )
        if fine_tuning.flips and random.integers(2):
            image, boxes = image[:, ::-1], boxes.mirrored(image.shape[1])
        if not len(boxes.labels):
            return 0.0, ()
        last, zoom = self._maps(jitter_colors(image, config.color_jitter, random), short_side)
        largest = self.network.largest(last, self._cells(boxes.boxes, zoom, last))
        labels, targets = torch.from_numpy(boxes.labels), torch.from_numpy(boxes.deltas)
        if warming_up:
            rows = random.permutation(len(labels))[: config.hard_examples]
        else:
            with torch.no_grad():
                predicted = self.network.predict(self.network.pool(last, largest))
                classification, regression = box_losses(*predicted, labels, targets)
            rows = hardest(boxes.boxes, (classification + regression).numpy(), config.hard_examples)
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        features = self.network.pool(last, largest[rows])
        scores, deltas = self.network.predict(features, fine_tuning.dropout, generator)
        classification, regression = box_losses(scores, deltas, labels[rows], targets[rows])
        loss = classification.sum() + regression.sum()
        if config.second_min_iou is not None:
            refined = refined_boxes(boxes, rows, deltas, image.shape[:2], config.second_min_iou)
            features = self.network.pool(last, self.network.largest(last, self._cells(refined.boxes, zoom, last)))
            predicted = self.network.predict(features, fine_tuning.dropout, generator, refined=True)
            labels, targets = torch.from_numpy(refined.labels), torch.from_numpy(refined.deltas)
            loss = loss + box_losses(*predicted, labels, targets)[1].sum()
        loss = loss / config.hard_examples
        return loss.item(), torch.autograd.grad(loss, list(self.parameters.values()))

    def _maps(self, image: NDArray[np.uint8], short_side: int) -> tuple[torch.Tensor, float]:
        """Return the last maps ``(1, C, h, w)`` of an image, with gradients, and the zoom of the resized image."""
        resized, zoom = resize_short_side(image, short_side)
        # a copy: tensors of inference mode take no part in gradients
        return self.network.last(self.frozen.maps(resized[None]).clone()), zoom

    def _cells(self, boxes: Boxes, zoom: float, last: torch.Tensor) -> NDArray[np.int64]:
        size = last.shape[2], last.shape[3]
        return boxes_to_cells(boxes, zoom, self.geometry.stride, self.geometry.offset, size)

    def _measure(self) -> None:
        """Center and scale the pooled features as they are before the training."""
        features = []
        random = np.random.default_rng(self.fine_tuning.seed)
        with torch.no_grad(), products_on_one_thread():
            for index in random.permutation(len(self.images))[:_MEASURED_IMAGES]:
                boxes = sample_labeled_boxes(
                    self.images, int(index), _MEASURED_BOXES, 1.0, self.fine_tuning.min_iou, random
                )
                image = read_view(self.images.annotations[int(index)])
                last, zoom = self._maps(image, self.config.min_sizes_end[0])
                largest = self.network.largest(last, self._cells(boxes.boxes, zoom, last))
                features.append(self.network.pool(last, largest))
        self.network.center(torch.cat(features))

    def _save(self, step: int) -> None:
        """Write the state after ``step`` steps; at the end only the result: the moving average and the buffers."""
        arrays: Arrays = {f"ema.{name}": each.numpy() for name, each in self.ema.items()}
        state = to_arrays(self.network.state_dict())
        if step == self.n_steps:
            state = {name: state[name] for name, _ in self.network.named_buffers(recurse=False)}
        else:
            for name, parameter in self.parameters.items():
                for moment in _MOMENTS:
                    arrays[f"{moment}.{name}"] = self.optimizer.state[parameter][moment].numpy()
        arrays |= {f"weights.{name}": array for name, array in state.items()}
        write_arrays(self.checkpoint, arrays, {"step": step})

    def _load(self) -> int | None:
        """Load the state on disk and return its step; None if there is no sound file."""
        if (state := stored_arrays(self.checkpoint, "starting over", ("step",))) is None:
            return None
        arrays, metadata = state
        step = int(metadata["step"])
        with torch.no_grad():
            for name, tensor in self.network.state_dict(keep_vars=True).items():
                if (array := arrays.get(f"weights.{name}")) is not None:
                    tensor.copy_(torch.from_numpy(array))
            for name, tensor in self.ema.items():
                tensor.copy_(torch.from_numpy(arrays[f"ema.{name}"]))
        for name, parameter in self.parameters.items():
            if f"{_MOMENTS[0]}.{name}" in arrays:
                # in the layout of the weights, like moments that were never saved
                own = {each: torch.from_numpy(arrays[f"{each}.{name}"]) for each in _MOMENTS}
                moments = {each: torch.empty_like(parameter.detach()).copy_(array) for each, array in own.items()}
                self.optimizer.state[parameter] = {"step": torch.tensor(float(step)), **moments}
        return step


def refined_boxes(
    boxes: LabeledBoxes, rows: NDArray[np.int64], deltas: torch.Tensor, size: tuple[int, int], min_iou: float
) -> LabeledBoxes:
    """Return the boxes of objects at ``rows`` ``(m,)`` as the regressor of their class refines them.

    ``deltas`` ``(m, K, 4)`` are in units of `DELTA_SPREAD`, ``size`` is height and width of the image. Those that then
    overlap their object by less than ``min_iou`` are left out.
    """
    labels = boxes.labels[rows]
    objects = np.flatnonzero(labels < deltas.shape[1])
    own = deltas.numpy(force=True)[objects, labels[objects]] * DELTA_SPREAD
    return boxes.refined(clip(decode_deltas(boxes.boxes[rows[objects]], own), *size), rows[objects], min_iou)


def learning_rate(step: int, n_steps: int, warmup_steps: int) -> float:
    """Return the fraction of the learning rate at a step: linear to 1 in ``warmup_steps``, times half a cosine to 0."""
    rising = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return rising * (1 + math.cos(math.pi * step / n_steps)) / 2


def side_range(step: int, n_steps: int, start: Sequence[int], end: Sequence[int]) -> tuple[float, float]:
    """Return the range of the shorter side of images at a step, in pixels, interpolated from ``start`` to ``end``."""
    progress = step / n_steps
    low, high = (a + progress * (b - a) for a, b in zip(start, end, strict=True))
    return low, high


def ema_weight(step: int, ema_decay: float) -> float:
    """Return the weight of the parameters after a step in their moving average.

    It is 1 - ``ema_decay``, and more in the first steps, to forget the random start.
    """
    return max(1 - ema_decay, 9 / (step + 10))


def jitter_colors(image: NDArray[np.uint8], amount: float, random: np.random.Generator) -> NDArray[np.uint8]:
    """Return an ``(H, W, 3)`` uint8 RGB image with brightness and contrast of each channel changed by ``amount``."""
    factors, shifts = random.uniform(1 - amount, 1 + amount, 3), random.uniform(-amount, amount, 3) * 128
    table = np.clip(np.arange(256)[:, None] * factors + shifts, 0, 255).round().astype(np.uint8)
    return np.stack([table[:, channel][image[..., channel]] for channel in range(3)], axis=-1)
