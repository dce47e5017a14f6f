"""The export of every labeling tool, zipped as downloaded: a dry run that passes, then one command each trains,
evaluates and detects."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from detector.datasets.loading import load_splits
from tests.datasets.exports import IMAGES, write_export
from tests.scripts import spp

RECIPE = {"features": {"short_sides": [160], "levels": [2, 1]}, "proposals": {"max_boxes": 50, "min_side": 8}}


@pytest.mark.all
@pytest.mark.parametrize("name", IMAGES)
def test_every_tool_s_export_trains_evaluates_and_detects(name: str, tmp_path: Path) -> None:
    root = write_export(name, tmp_path)
    datasets = load_splits(root)
    train = next(iter(datasets.values()))
    source = ("--data", shutil.make_archive(str(tmp_path / "as downloaded"), "zip", tmp_path, name))
    (tmp_path / "recipe.yaml").write_text(json.dumps(RECIPE))
    before = sorted(tmp_path.rglob("*"))
    done = spp("train", "recipe.yaml", *source, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    n_images = sum(map(len, datasets.values()))
    n_objects = sum(len(each.labels) for dataset in datasets.values() for each in dataset)
    assert re.fullmatch(rf"{n_images} images, {n_objects} objects, [12] classes", done.stdout.splitlines()[-1])
    assert sorted(tmp_path.rglob("*")) == before
    done = spp("train", "recipe.yaml", *source, "--cache", "cache", "--output", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"classes from {len(train)} images of" in done.stdout
    # an export may have no val, or one without an object, which cannot be measured
    measured = next(
        split for split in ("val", "test", "train", "") if any(len(each.labels) for each in datasets.get(split, ()))
    )
    split = ("--split", measured) if measured in ("test", "train") else ()
    done = spp("evaluate", *source, *split, "--model", "run", "--json", "-", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == len(datasets[measured])
    done = spp("detect", train[0].path, "--model", "run", "--min-score", "-3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout
