"""Cleaning deletes what the program wrote, and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from detector.features.cache_cleaning import clean_cache
from detector.runtime.array_files import write_arrays
from detector.runtime.files import cache_of, cache_root, slug, write_json
from tests.scripts import spp

MAPS, STATE = "maps-0123456789abcdef", "training-0123456789abcdef.safetensors"


def fill(cache: Path) -> None:
    for name in (MAPS, "proposals-0123456789abcdef"):
        write_json(cache / name / "settings.json", {"backbone": "x"})
        write_arrays(cache / name / "a.safetensors", {"boxes": np.zeros(9)}, {})
    (cache / MAPS / f".a.safetensors.{'0' * 12}.tmp").write_bytes(b"cut short")
    (cache / MAPS / f".{'0' * 32}.tmp").write_bytes(b"cut short")
    write_arrays(cache / STATE, {"duals": np.zeros(9)}, {})


def left(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_caches_go_and_other_files_stay(tmp_path: Path) -> None:
    for cache in (tmp_path, tmp_path / "demo-01234567"):
        fill(cache)
    others = [
        "notes.txt",
        f"{MAPS}.txt",
        "training-0123456789abcdee.safetensors",
        "maps-0123456789abcdee/a.safetensors",
        "maps-fedcba9876543210/a.safetensors",
        "maps-fedcba9876543210/settings.json",
        "demo-01234567/maps-0123456789abcdef/cat.jpg",
    ]
    for other in others:
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_text("mine")
    outside = tmp_path / "elsewhere"
    fill(outside / "deep" / "er")
    (tmp_path / "maps-aaaaaaaaaaaaaaaa").symlink_to(outside / "deep" / "er" / MAPS)
    before = sum(path.stat().st_size for path in (tmp_path / MAPS).iterdir())
    freed = clean_cache(tmp_path)
    assert {each.path.relative_to(tmp_path).as_posix(): each.n_files for each in freed} == {
        MAPS: 4,
        "proposals-0123456789abcdef": 2,
        STATE: 1,
        f"demo-01234567/{MAPS}": 4,
        "demo-01234567/proposals-0123456789abcdef": 2,
        f"demo-01234567/{STATE}": 1,
    }
    assert freed[0].n_bytes == before
    assert {name for name in left(tmp_path) if not (tmp_path / name).is_dir()} == {
        *others,
        *(f"elsewhere/deep/er/{name}" for name in left(outside / "deep" / "er") if "." in name),
    }


def test_only_what_is_old_enough_goes(tmp_path: Path) -> None:
    fill(tmp_path / "old")
    fill(tmp_path / "new")
    long_ago = time.time() - 10 * 86400
    for path in (tmp_path / "old").rglob("*"):
        os.utime(path, (long_ago, long_ago))
    # one file that was written lately keeps its folder
    os.utime(tmp_path / "old" / MAPS / "a.safetensors")
    clean_cache(tmp_path, older_than_days=9)
    assert {name for name in left(tmp_path / "old") if "/" not in name} == {MAPS}
    assert len(left(tmp_path / "new")) == 9
    clean_cache(tmp_path, older_than_days=0)
    assert left(tmp_path) == set()


def test_the_command_says_what_it_freed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "cache")
    done = spp("cache", "--clean", "--cache", "cache", cwd=tmp_path)
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 4)
    assert done.stdout.splitlines()[-1] == "cache: 0.0 MB freed"
    assert left(tmp_path / "cache") == set()
    for words in (["--older-than", "3"], ["--clean", "--older-than", "-1"], ["--clean", "--cache", "nowhere"], []):
        done = spp("cache", *words, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), words


def test_the_place_of_a_cache_is_the_users_and_the_datas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "spp-detector" / "features"
    (tmp_path / "a" / "demo").mkdir(parents=True)
    one, two = cache_of(tmp_path / "a" / "demo"), cache_of(tmp_path / "b" / "demo")
    assert one.parent == two.parent == cache_root() and one != two
    assert one.name.startswith("demo-") and one == cache_of(tmp_path / "a" / "b" / ".." / "demo")
    assert slug(tmp_path / "my export (2).zip") == "my-export-2"
    assert slug(Path("/")) == "data"
    for value in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_root() == Path.home() / ".cache" / "spp-detector" / "features"
