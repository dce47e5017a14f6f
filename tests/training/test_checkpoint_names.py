"""Names of caches and checkpoints: they follow from all that changes the content, so that nothing stale is read.

Every key of a recipe is changed in turn. The table says which names must change; all others must stay.
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
from detector.training.end_to_end import training as end_to_end
from detector.training.train import checkpoint_files
from detector.training.training_set import TrainingSet
from tests.training.recipe_changes import CHANGES, TOGETHER, recipe
from tests.training.small import annotation, image_of

# used after the convolutions: they change no map
POOLING = {"levels", "margin", "target", "scale_rule", "power"}
SHARED_WITH_END_TO_END = {"initial", "width", "dropout", "foreground_fraction", "min_iou", "flips", "seed"}
# used after fc6 and fc7 are trained
LAYERS_STAY = {"layer", "head"}

KEYS = [(section, key) for section, keys in CHANGES.items() for key in keys]


def changed_names(section: str, key: str) -> set[str]:
    """Return the kinds of files whose names another value of a key must change."""
    found: set[str] = set()
    if key == "runtime":
        return found  # a runtime that changes maps changes their names, and with them all others
    if section == "proposals":
        found |= {"proposals"}
    if section == "features" and key not in POOLING:
        found |= {"maps", "mirrored maps"}
    if section == "features" or (section, key) == ("svm", "difficult"):
        found |= {"fine-tuning", "end-to-end"}
    if section == "fine_tuning" and key not in LAYERS_STAY:
        found |= {"fine-tuning"}
        found |= {"end-to-end"} if key in SHARED_WITH_END_TO_END else set()
    if section == "end_to_end" and key != "enabled":
        found |= {"end-to-end"}
    if section == "calibration" and key != "cross_validate_below":
        found |= {"end-to-end"}  # which then trains on other images
    # SVMs depend on everything but the calibration of their scores
    return found | (set() if section == "calibration" else {"training"})


@functools.cache
def network_of(name: str, stage: str | None, weights: str | None) -> Network:
    """Load a network once for all recipes with the same one."""
    return load_network(name, stage, weights)


def names(
    config: Config, cache: FeatureCache, annotations: Sequence[Annotation], layers: FullyConnected | None = None
) -> dict[str, str]:
    """Return the names of all files and folders that a training by a recipe keeps, by kind."""
    images = TrainingSet(annotations, 3, cache, config.svm.max_negative_iou, config.svm.difficult)
    checkpoints = checkpoint_files(config, images, layers)
    return {
        "maps": cache.maps_directory.name,
        "mirrored maps": cache.mirrored_maps_directory.name,
        "proposals": cache.proposals_directory.name,
        "fine-tuning": checkpoints.layers.name,
        "training": checkpoints.svms.name,
        "end-to-end": end_to_end_name(config, images),
    }


def end_to_end_name(config: Config, images: TrainingSet) -> str:
    """Return the name of the state of an end-to-end training, which is known when it starts."""

    class Named(Exception):  # noqa: N818 (a signal)
        pass

    found = []
    plain = end_to_end.state_file

    def named(*arguments: Any) -> Path:
        found.append(plain(*arguments).name)
        raise Named

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(end_to_end, "state_file", named)
        patched.setattr(end_to_end, "load_network", network_of)
        # the trained layers themselves are no part of the name
        patched.setattr(end_to_end, "split_network", lambda *_: ("relu4", torch.nn.Sequential()))
        patched.setattr(end_to_end, "load_torch_backbone", lambda *_: images.cache.encoder.backbone)
        with pytest.raises(Named):
            end_to_end.train_end_to_end(config, images)
    return found[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an image, and files of tensors that fit anywhere."""
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
    """Return four images; an end-to-end training holds one out."""
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


def test_the_table_has_every_key_of_a_recipe() -> None:
    config = Config()
    assert CHANGES.keys() == Config.model_fields.keys()
    for section, keys in CHANGES.items():
        assert keys.keys() == type(getattr(config, section)).model_fields.keys(), section


@pytest.mark.parametrize(("section", "key"), KEYS, ids=lambda each: each)
def test_a_key_changes_only_the_names_of_files_that_depend_on_it(
    section: str, key: str, folder: Path, four: list[Annotation], before: dict[str, str]
) -> None:
    value = filled_in(section, key, folder)
    together = TOGETHER.get(value if value == "end_to_end" else key, {})
    if key == "enabled" and section == "fine_tuning":
        together = {"end_to_end": {"enabled": False}}
    config = recipe(together, {section: {key: value}})
    cache = cache_of(config, folder, BOXES)
    after = names(config, cache, four)
    assert {name for name in before if before[name] != after[name]} == changed_names(section, key)


@pytest.mark.parametrize("change", ["name", "box", "label", "difficult", "one more", "proposals"])
def test_other_objects_or_boxes_are_another_training(
    change: str, folder: Path, four: list[Annotation], before: dict[str, str]
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
        "end-to-end",
    }


def test_another_file_at_the_same_path_is_another_training(folder: Path, four: list[Annotation]) -> None:
    path = folder / "changing"
    found = []
    for width in ("0.05", "0.06"):
        path.write_bytes((folder / f"weights {width}").read_bytes())
        config = recipe({"fine_tuning": {"initial": str(path)}})
        found.append(names(config, cache_of(config, folder, BOXES), four))
    differ = {name for name in found[0] if found[0][name] != found[1][name]}
    assert differ == {"fine-tuning", "end-to-end", "training"}


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


def test_equal_settings_give_equal_names_with_their_kind_in_front(
    folder: Path, four: list[Annotation], before: dict[str, str]
) -> None:
    config = recipe()
    assert names(config, cache_of(config, folder, dict(BOXES)), list(four)) == before
    assert len(set(before.values())) == len(before)
    for kind in ("fine-tuning", "training", "end-to-end", "maps", "proposals"):
        assert before[kind].startswith(f"{kind}-")
