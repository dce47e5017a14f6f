"""Recipes: defaults, strictness and messages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from detector.config.classifier import ClassifierConfig, load_classifier_config
from detector.config.detector import Config, load_config, parse_config
from detector.model_file import DEFAULT_MODEL

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(path for path in CONFIGS.glob("*.yaml") if not path.name.startswith("classifier"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_valid_and_open_with_their_command(path: Path) -> None:
    assert isinstance(load_config(path), Config)
    commands = ("DATA\n", f"{path.stem} DATA\n", f"{path.stem} --voc data/VOC2007 ")
    assert path.read_text(encoding="utf-8").startswith(tuple(f"# spp train {each}" for each in commands))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_go_by_their_names(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / path.stem).mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_config(path.stem) == load_config(Path(path.stem)) == load_config(path)


def test_weights_of_a_detector_bring_their_stage(tmp_path: Path) -> None:
    default = load_config("default").features
    assert (default.weights, default.stage) == ("general", "blocks.5")
    shipped = load_config("default", "shipped").features
    assert (shipped.weights, shipped.stage) == ("shipped", "blocks.5")
    assert load_config("default", str(DEFAULT_MODEL)).features.stage == "blocks.5"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("features: {weights: shipped, stage: blocks.4}")
    assert load_config(recipe).features.stage == "blocks.4"
    for other in ("random", tmp_path / "nowhere", recipe):
        assert load_config("default", other).features.stage is None


def test_imagenet_names_the_weights_that_a_recipe_without_any_has(tmp_path: Path) -> None:
    features = load_config("default", "imagenet").features
    assert (features.weights, features.stage) == (None, None)
    assert features.short_sides == load_config("default").features.short_sides
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("features: {weights: imagenet}")
    assert load_config(recipe) == Config()
    assert load_config(recipe, "shipped").features.weights == "shipped"


def test_an_unknown_name_says_which_recipes_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    known = ", ".join(path.stem for path in RECIPES)
    with pytest.raises(ValueError, match=f"^nothing: there is no such recipe; give a YAML file or one of {known}$"):
        load_config("nothing")
    with pytest.raises(ValueError, match=r"or one of classifier, classifier_paper$"):
        load_classifier_config("nothing")
    for name in ("default.yaml", "nowhere/default"):
        with pytest.raises(FileNotFoundError):
            load_config(name)


def test_a_file_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default").write_text("svm: {C: 0.5}")
    assert load_config("default").svm.C == 0.5


@pytest.mark.parametrize("config", [Config(), ClassifierConfig()], ids=["detectors", "classifiers"])
def test_every_key_and_its_default_are_documented(config: Config | ClassifierConfig) -> None:
    text = (CONFIGS / "README.md").read_text(encoding="utf-8")
    for section, defaults in config.model_dump(mode="json").items():
        table = text.partition(f"### {section}\n")[2].partition("\n#")[0]
        found: dict[str, object] = {}
        for keys, values in re.findall(r"^\| (`.*?`) \| (.*?) \|", table, re.MULTILINE):
            names = re.findall(r"`(\w+)`", keys)
            given = yaml.safe_load(f"[{values.replace('`', '')}]")
            found |= dict(zip(names, given, strict=True)) if values != "as above" else {n: defaults[n] for n in names}
        assert found == defaults


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert load_config(path) == Config()


def test_weights_and_runtime_override_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("features: {weights: a, levels: [2]}")
    changed = load_config(path, tmp_path / "b", "torch").features
    assert (changed.weights, changed.runtime, changed.levels) == (str(tmp_path / "b"), "torch", (2,))
    assert load_config(path).features.weights == "a"


def test_defaults_are_the_papers_constants() -> None:
    config = Config()
    assert config.features.levels == (6, 3, 2, 1)
    assert (config.svm.C, config.svm.positive_weight, config.svm.bias_multiplier) == (1e-3, 2.0, 10.0)
    assert (config.svm.add_above, config.svm.evict_below, config.svm.max_negative_iou) == (-1.0001, -1.2, 0.3)
    assert (config.regression.min_iou, config.regression.regularization) == (0.5, 4000.0)
    assert (config.detection.nms_iou, config.detection.max_detections) == (0.3, 100)


def test_a_configuration_survives_json() -> None:
    config = parse_config({"features": {"levels": [4, 2, 1], "short_sides": [480, 688]}}, "test")
    assert parse_config(config.model_dump(mode="json"), "json") == config


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"featurs": {}},
            "unknown key 'featurs'; allowed are proposals, features, adaptation, fine_tuning, end_to_end, svm, "
            "regression, calibration, proposal_filter, detection",
        ),
        ({"svm": {"c": 1.0}}, "unknown key 'svm.c'; allowed are solver, loss, C,"),
        ({"svm": {"C": "big"}}, "svm.C: input should be a valid number, but is 'big'"),
        ({"svm": {"C": -1.0}}, "svm.C: input should be greater than 0, but is -1.0"),
        ({"features": {"short_sides": []}}, "features.short_sides"),
        (
            {"features": {"levels": [6, 0]}},
            "features.levels.1: input should be greater than or equal to 1, but is 0",
        ),
        ({"proposals": {"mode": "slow"}}, "proposals.mode: input should be 'single', 'fast' or 'quality'"),
        (
            {"proposals": {"max_boxes": 2.5}},
            "proposals.max_boxes: input should be a valid integer, but is 2.5",
        ),
        ([1, 2], "must hold sections such as 'proposals:', but holds list"),
    ],
)
def test_faults_are_named(content: object, message: str) -> None:
    with pytest.raises(ValueError) as fault:
        parse_config(content, "recipe.yaml")
    assert str(fault.value).startswith("recipe.yaml: ")
    assert message in str(fault.value)
    assert "\n" not in str(fault.value)


def test_numbers_may_be_written_without_a_point(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("svm: {C: 1e-4, add_above: -1E0, mean_norm: 2e+1}")
    svm = load_config(path).svm
    assert (svm.C, svm.add_above, svm.mean_norm) == (1e-4, -1.0, 20.0)


@pytest.mark.parametrize("text", ["features: [", "a: !!python/object:os.system {}", "\x00"])
def test_files_that_are_not_safe_yaml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"bad\.yaml: is not YAML") as fault:
        load_config(path)
    assert "\n" not in str(fault.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("flips", "n_images", "resolved"),
    [(None, 100, True), (None, 101, False), (True, 101, True), (False, 100, False)],
)
def test_null_flips_mirror_few_images(flips: bool | None, n_images: int, resolved: bool) -> None:
    assert parse_config({"svm": {"flips": flips}}, "recipe").for_images(n_images).svm.flips is resolved


def test_the_default_recipe_mirrors_few_images() -> None:
    assert load_config("default").svm.flips is None


@pytest.mark.parametrize(
    ("content", "learns"),
    [
        ({}, False),
        ({"svm": {"flips": True}}, True),
        ({"fine_tuning": {"flips": True}}, False),
        ({"fine_tuning": {"enabled": True, "flips": True}}, True),
        ({"fine_tuning": {"enabled": True, "flips": True}, "end_to_end": {"enabled": True}}, False),
    ],
)
def test_mirrored_maps_are_cached_for_layers_and_svms(content: dict[str, dict[str, bool]], learns: bool) -> None:
    assert parse_config(content, "recipe").caches_mirrored_maps is learns
