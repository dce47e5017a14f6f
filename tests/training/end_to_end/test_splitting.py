"""Convolutions that learn through the pooling: gradients, the split of a network, training and its resumption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detector.training.end_to_end.network_tuning import tune_network
from safetensors.torch import load_file

from detector.backbones.loading import load_network
from detector.backbones.splitting import split_network
from detector.backbones.torch_backbone import load_torch_backbone
from detector.config.detector import Config
from detector.datasets.dataset import Dataset
from detector.features.pyramid_layer import SpatialPyramidPooling, pool_regions
from detector.pipeline import Detector
from detector.runtime.files import read_arrays
from detector.runtime.progress import Progress
from tests.fakes import stops_after
from tests.scripts import script, spp
from tests.training.recipes import config_of

LEVELS = (6, 3, 2, 1)
CELLS = np.array([[0, 0, 9, 7], [2, 1, 3, 2], [3, 0, 9, 5], [0, 3, 7, 7]])


def recipe(**sections: Any) -> Config:
    content: dict[str, dict[str, Any]] = {
        "features": {"backbone": "zf5/0.1", "weights": "random", "short_sides": [160, 224], "levels": [2, 1]},
        "proposals": {"max_boxes": 200, "min_side": 16},
        "fine_tuning": {"width": 16, "iterations": 200, "lr": 0.01, "weight_decay": 0.0005},
    }
    return config_of(content, sections)


def test_windows_are_pooled_as_whole_maps_are() -> None:
    maps = torch.randn(3, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    pooled = pool_regions(maps, CELLS, LEVELS)
    layer = SpatialPyramidPooling(LEVELS)
    expected = torch.cat([layer(maps[None, :, y1:y2, x1:x2]) for x1, y1, x2, y2 in CELLS.tolist()])
    assert torch.equal(pooled, expected)
    directions = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (found,) = torch.autograd.grad((pooled * directions).sum(), maps)
    (slow,) = torch.autograd.grad((expected * directions).sum(), maps)
    torch.testing.assert_close(found, slow)
    assert torch.autograd.gradcheck(lambda each: pool_regions(each, CELLS, (3, 2)), maps)
    assert pool_regions(maps, CELLS[:0], LEVELS).shape == (0, 150)


@pytest.mark.parametrize(
    ("name", "first", "stage", "n_layers"),
    [
        ("alexnet", "features.10", "features.9", 2),
        ("zf5/0.1", "conv4", "relu3", 4),
        ("efficientnet_lite0", "blocks.6", "blocks.5", 1),
    ],
)
def test_a_network_in_two_parts_is_the_same(name: str, first: str, stage: str, n_layers: int) -> None:
    network = load_network(name, None, "random")
    found, last = split_network(network, first, "random")
    assert (found, len(last)) == (stage, n_layers)
    assert next(last.parameters()) is next(network.module.network.get_submodule(first).parameters())


@pytest.mark.parametrize(
    ("name", "first", "message"),
    [
        ("zf5/0.1", "conv9", "no layer 'conv9' up to the stage whose maps are used"),
        ("zf5/0.1", "conv9.1", "no layer 'conv9.1'"),
        ("zf5/0.1", "conv1", "conv1 is the first of its sequence"),
        ("zf5/0.1", "conv2", "the layers from conv2 on must not change where the cells"),
        ("efficientnet_lite0", "blocks.5.1", "from blocks.5.1 on must follow each other to the end"),
    ],
)
def test_layers_that_learning_cannot_begin_at(name: str, first: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_network(load_network(name, None, "random"), first, "random")


def test_the_last_convolutions_learn_and_come_back_to_the_same_bits(train_set: Dataset, tmp_path: Path) -> None:
    def tuned(progress: Progress) -> dict[str, torch.Tensor]:
        config = recipe(fine_tuning={"flips": True})
        return tune_network(config, train_set, 3, "conv5", tmp_path / "cache", progress=progress)

    before = load_network("zf5/0.1", None, "random").module.network.state_dict()
    after = tuned(lambda items, title: items)
    assert list(after) == ["conv5.weight", "conv5.bias"]
    assert not any(torch.equal(before[name], after[name]) for name in after)
    (state,) = (tmp_path / "cache").glob("network-*.safetensors")
    lowest = read_arrays(state)[1]["lowest"]
    assert lowest < 0.75  # of 4 classes, a quarter of the boxes objects: 0.84 for what knows the shares alone
    content = state.read_bytes()
    other = recipe(fine_tuning={"flips": True, "layer": "fc6"}, svm={"C": 1.0}, detection={"min_score": -3.0})
    again = tune_network(other, train_set, 3, "conv5", tmp_path / "cache", progress=stops_after(0))
    assert all(torch.equal(again[name], after[name]) for name in after)  # not trained a second time
    state.unlink()

    def progress(items: Any, title: str) -> Any:
        return stops_after(7)(items, title) if "fine-tuning" in title else items

    with pytest.raises(KeyboardInterrupt):
        tuned(progress)
    again = tuned(lambda items, title: items)
    for name, tensor in after.items():
        assert torch.equal(again[name], tensor)
    assert state.read_bytes() == content


def test_powers_are_refused(train_set: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"features\.power must be 1 to learn through the pooling, but is 0\.5"):
        tune_network(recipe(features={"power": 0.5}), train_set, 3, "conv5", tmp_path)


def test_layers_are_not_tuned_twice(train_set: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="first: layers that were fine-tuned once are not fine-tuned again"):
        tune_network(recipe(features={"tuned": "first"}), train_set, 3, "conv5", tmp_path)


@pytest.mark.all
def test_the_script_writes_layers_to_train_with_and_they_are_in_the_model(root: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(recipe(fine_tuning={"iterations": 20}).model_dump_json())
    data = ("--voc", root, "--split", "train", "--cache", "cache")
    done = script("tune_network.py", "recipe.yaml", "--from", "conv5", *data, "--output", "new/layers", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    layers = load_file(tmp_path / "new/layers")
    assert layers.keys() == {"conv5.weight", "conv5.bias"}
    done = spp("train", "recipe.yaml", "--tuned", "new/layers", *data, "--output", "model", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "new/layers").unlink()
    detector = Detector.load(tmp_path / "model")
    for name, tensor in layers.items():
        assert torch.equal(detector.encoder.backbone.tuned[name], tensor)
    assert detector.encoder.backbone.digest == load_torch_backbone("zf5/0.1", None, "random", tuned=layers).digest
    detector.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()
    done = script("tune_network.py", "recipe.yaml", "--from", "conv9", *data, "--output", "w", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "w").exists()
