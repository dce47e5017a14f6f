"""Recipes that would take all memory, never end, or train to NaN are refused in one short line."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.config.classifier import ClassifierConfig
from detector.config.detector import Config
from detector.config.recipes import read_recipe

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("svm: {mean_norm: .inf}", "svm.mean_norm: input should be a finite number, but is inf"),
        ("svm: {C: .nan}", "svm.C: input should be a finite number"),
        ("svm: {max_samples: 1000000000000000}", "svm.max_samples: input should be less than or equal to 1000000000"),
        ("features: {short_sides: [20000]}", "features.short_sides.0: input should be less than or equal to 2000"),
        ("features: {levels: [1000000000]}", "features.levels.0"),
        ("fine_tuning: {width: 1000000000}", "fine_tuning.width"),
        ("end_to_end: {min_sizes_end: [400, 20000]}", "end_to_end.min_sizes_end.1"),
        ("end_to_end: {second_min_iou: 0}", "end_to_end.second_min_iou"),
        ("end_to_end: {second_min_iou: 0.6}", "end_to_end.second_min_iou needs regression.fit: end_to_end"),
        ("proposals: {zoom: 0}", "proposals.zoom"),
        ("proposals: {zoom: 1.1}", "proposals.zoom"),
        (
            "detection: {box_refinements: 1000000000}",
            "detection.box_refinements: input should be less than or equal to 100",
        ),
        ("svm: {seed: 123456789012345678901234567890}", "svm.seed"),
        (BOMB, "unknown key 'a'"),
        (f"{BOMB}svm: *i", "svm: input should be a valid dictionary"),
        (f"svm: {{C: &a [{'x,' * 400}]}}", "svm.C"),
        ("fine_tuning: {enabled: !!bool maybe}", "is not YAML: a value is not of its type"),
        ("svm: !!timestamp x", "is not YAML: a value is not of its type"),
        ("[" * 50_000, "is not YAML: it is nested too deeply"),
        ("a: " + "{b: " * 50_000, "is not YAML: it is nested too deeply"),
        ("#" * 1_000_001, "is larger than 1000000 bytes"),
    ],
)
def test_recipes_that_cannot_be(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        read_recipe(path, Config)
    assert str(error.value).startswith(f"{path}: ") and line in str(error.value)
    assert len(str(error.value)) < 1000


def test_a_value_that_aliases_make_endless_is_shortened(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    lists = BOMB.replace("a: &a", "svm: {C: 1}\nx: &a", 1)
    path.write_text(f"svm:\n  C: {BOMB.splitlines()[0][3:]}\n" + f"# {lists[:10]}")
    with pytest.raises(ValueError, match=r"svm\.C: input should be a valid number, but is \['x', 'x'.*\.\.\.\]$"):
        read_recipe(path, Config)


def test_classifiers_are_bounded_alike(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("images: {short_side: 20000}")
    with pytest.raises(ValueError, match=r"images\.short_side: input should be less than or equal to 4096"):
        read_recipe(path, ClassifierConfig)
