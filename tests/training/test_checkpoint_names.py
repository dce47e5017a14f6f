"""What a cache and the state of a training are named by: all that changes them, so that nothing stale is read.

Every key of a recipe is changed in turn. The table says which names must stay: those of what the key does not change.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from detector.backbones.loading import Network, load_network
from detector.build import build_cache
from detector.config.detector import Config
from detector.datasets.dataset import Annotation
from detector.features.cache import FeatureCache
from detector.heads.fully_connected import FullyConnected
from detector.training.end_to_end import network_tuning
from detector.training.end_to_end import train as joint
from detector.training.train import _Stages
from detector.training.training_set import TrainingSet
from tests.training.recipe_changes import CHANGES, TOGETHER, recipe
from tests.training.small import annotation, image_of

# after the pooling: a map is the same, whatever is made of it
POOLING = {"levels", "margin", "target", "scale_rule", "power"}
JOINT_OF_TUNING = {"width", "dropout", "foreground_fraction", "min_iou", "flips", "seed", "held_out"}
# that of fc6 and fc7 is one for all that may be done with them
LAYERS_STAY = {"layer", "beside_pooled", "head"}

KEYS = [(section, key) for section, keys in CHANGES.items() for key in keys]


def changed_names(section: str, key: str) -> set[str]:
    """What another value of a key must give another name."""
    found: set[str] = set()
    if key == "runtime":
        return found  # where it changes maps, these have another name, and so all that follows
    if section == "proposals":
        found |= {"proposals"}
    if section == "features" and key not in POOLING:
        found |= {"maps", "mirrored maps"}
    if section == "features" or (section, key) == ("svm", "difficult"):
        found |= {"fine-tuning", "network", "joint"}
    if section == "fine_tuning" and key not in LAYERS_STAY:
        found |= {"fine-tuning"}
        found |= {"network"} if key != "initial" else set()
        found |= {"joint"} if key in JOINT_OF_TUNING else set()
    if section == "end_to_end" and key != "enabled":
        found |= {"joint"}
    if (section, key) == ("calibration", "enabled"):
        found |= {"joint"}  # which then learns from all images
    # SVMs are the end of all of it, but for what is done with their scores afterwards
    return found | ({"calibration"} if section == "calibration" else {"training", "calibration"})


@functools.cache
def network_of(name: str, stage: str | None, weights: str | None) -> Network:
    """`load_network`, once for all recipes with the same one."""
    return load_network(name, stage, weights)


def names(config: Config, cache: FeatureCache, annotations: Sequence[Annotation], **rest: Any) -> dict[str, str]:
    """The names of everything that is kept of a training by a recipe."""
    images = TrainingSet(annotations, 3, cache, config.svm.max_negative_iou, config.svm.difficult)
    stages = _Stages(config, ("red", "green", "blue"), rest.get("layers"), lambda items, title: items)
    checkpoints = stages.checkpoints(images)
    assert checkpoints.calibration(0) != checkpoints.calibration(1)
    network = network_of(config.features.backbone, config.features.stage, config.features.weights)
    return {
        "maps": cache.maps_directory.name,
        "mirrored maps": cache.mirrored_maps_directory.name,
        "proposals": cache.proposals_directory.name,
        "fine-tuning": checkpoints.layers.name,
        "training": checkpoints.svms.name,
        "calibration": checkpoints.calibration(0).name,
        "network": network_tuning._checkpoint_file(config, "conv5", network, annotations, cache).name,
    }


def joint_name(
    config: Config, cache: FeatureCache, annotations: Sequence[Annotation], monkeypatch: pytest.MonkeyPatch
) -> str:
    """The name of the state of a joint training, which is known when it begins."""

    class Named(Exception):  # noqa: N818 (a signal)
        pass

    found = []
    plain = joint.state_file

    def named(*arguments: Any) -> Path:
        found.append(plain(*arguments).name)
        raise Named

    with monkeypatch.context() as patched:
        patched.setattr(joint, "state_file", named)
        patched.setattr(joint, "load_network", network_of)
        # what is learned by has no part in the name
        patched.setattr(joint, "split_network", lambda *_, **__: ("relu4", torch.nn.Sequential()))
        patched.setattr(joint, "load_torch_backbone", lambda *_: None)
        patched.setattr(joint, "build_cache", lambda *_: cache)
        with pytest.raises(Named):
            joint.train_jointly(config, annotations, 3, "conv5", cache.directory)
    return found[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an image, and a file of tensors that fit anywhere."""
    folder = tmp_path_factory.mktemp("names")
    image_of(folder, "a", [([0, 0, 64, 64], 0)])
    random = torch.Generator().manual_seed(0)
    for width in ("0.05", "0.06"):
        state = load_network(f"zf5/{width}", None, "random").module.network.state_dict()
        others = {name: torch.randn(each.shape, generator=random) for name, each in state.items()}
        save_file(others, folder / f"weights {width}")
    return folder


@pytest.fixture(scope="module")
def four(folder: Path) -> list[Annotation]:
    """Four images, of which a joint training holds one out."""
    return [annotation(name, folder / "a.png", [([0, 0, 64, 64], 0)]) for name in "abcd"]


def filled_in(section: str, key: str, folder: Path) -> Any:
    value = CHANGES[section][key]
    return str(folder / "weights 0.05") if value == "FILE" else value


def cache_of(config: Config, folder: Path, boxes: Mapping[str, Any]) -> FeatureCache:
    return build_cache(config, folder / "cache", precomputed=boxes)


BOXES = {name: np.array([[0, 0, 64, 48]], np.float32) for name in "abcd"}


@pytest.fixture(scope="module")
def before(folder: Path, four: list[Annotation]) -> dict[str, str]:
    config = recipe()
    return names(config, cache_of(config, folder, BOXES), four)


@pytest.fixture(scope="module")
def joint_before(folder: Path, four: list[Annotation]) -> str:
    with pytest.MonkeyPatch.context() as patched:
        return joint_name(recipe(), cache_of(recipe(), folder, BOXES), four, patched)


def test_the_table_has_every_key_of_a_recipe() -> None:
    config = Config()
    assert CHANGES.keys() == Config.model_fields.keys()
    for section, keys in CHANGES.items():
        assert keys.keys() == type(getattr(config, section)).model_fields.keys(), section


@pytest.mark.parametrize(("section", "key"), KEYS, ids=lambda each: each)
def test_a_key_of_a_recipe_changes_the_names_of_what_it_changes_and_no_others(
    section: str,
    key: str,
    folder: Path,
    four: list[Annotation],
    before: dict[str, str],
    joint_before: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    value = filled_in(section, key, folder)
    together = TOGETHER.get(value if value == "joint" else key, {})
    if key == "enabled" and section == "fine_tuning":
        together = {"end_to_end": {"enabled": False}}
    config = recipe(together, {section: {key: value}})
    cache = cache_of(config, folder, BOXES)
    after = names(config, cache, four)
    expected = changed_names(section, key)
    assert {name for name in before if before[name] != after[name]} == expected - {"joint"}
    name = joint_name(config, cache, four, monkeypatch)
    assert (name != joint_before) == ("joint" in expected)


@pytest.mark.parametrize("change", ["name", "box", "label", "difficult", "one more", "proposals"])
def test_other_objects_or_boxes_are_another_training(
    change: str,
    folder: Path,
    four: list[Annotation],
    before: dict[str, str],
    joint_before: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = {
        "name": [replace(each, image_id=f"{each.image_id}{each.image_id}") for each in four],
        "box": [replace(each, boxes=each.boxes - np.array([0, 0, 0, 1], np.float32)) for each in four],
        "label": [replace(each, labels=each.labels + 1) for each in four],
        "difficult": [replace(each, difficult=~each.difficult) for each in four],
        "one more": [*four, replace(four[0], image_id="e")],
        "proposals": four,
    }[change]
    boxes = {each.image_id: BOXES["a"] - (change == "proposals") for each in others}
    config = recipe()
    cache = cache_of(config, folder, boxes)
    after = names(config, cache, others)
    assert {name for name in before if before[name] != after[name]} == {
        "fine-tuning",
        "training",
        "calibration",
        "network",
    }
    assert joint_name(config, cache, others, monkeypatch) != joint_before


def test_another_file_at_the_same_path_is_another_training(folder: Path, four: list[Annotation]) -> None:
    path = folder / "changing"
    found = []
    for width in ("0.05", "0.06"):
        path.write_bytes((folder / f"weights {width}").read_bytes())
        config = recipe({"fine_tuning": {"initial": str(path)}})
        found.append(names(config, cache_of(config, folder, BOXES), four))
    differ = {name for name in found[0] if found[0][name] != found[1][name]}
    assert differ == {"fine-tuning", "training", "calibration"}


def test_layers_of_an_earlier_training_name_that_of_svms_on_them(
    folder: Path, four: list[Annotation], before: dict[str, str]
) -> None:
    found = set()
    for value in (0, 1):
        layers = FullyConnected([np.full((2, 12), value, np.float16)], [np.zeros(2, np.float32)])
        config = recipe()
        after = names(config, cache_of(config, folder, BOXES), four, layers=layers)
        found.add(after["training"])
        assert after["fine-tuning"] == before["fine-tuning"]
    assert len(found | {before["training"]}) == 3


def test_the_same_settings_give_the_same_names_and_kinds_begin_them(
    folder: Path, four: list[Annotation], before: dict[str, str]
) -> None:
    config = recipe()
    assert names(config, cache_of(config, folder, dict(BOXES)), list(four)) == before
    assert len(set(before.values())) == len(before)
    for kind in ("fine-tuning", "training", "calibration", "network", "maps", "proposals"):
        assert before[kind].startswith(f"{kind}-")
