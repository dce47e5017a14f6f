"""Files that are whole or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch as torch_file
import torch

from detector.runtime.array_files import read_arrays, write_arrays
from detector.runtime.files import cache_root, fingerprint, replacing


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with replacing(file) as first, replacing(file) as second:
        first.write_text("first")
        second.write_text("second")
    assert file.read_text() == "first"
    assert list(tmp_path.iterdir()) == [file]


def test_arrays_survive(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"a": np.arange(6.0).reshape(2, 3), "empty": np.zeros((0, 4), np.float32)}
    path = tmp_path / "x" / "file.safetensors"
    write_arrays(path, arrays, {"key": "value", "list": [1, 2], "z": None})
    read, metadata = read_arrays(path)
    assert metadata == {"key": "value", "list": [1, 2], "z": None}
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype
    content = path.read_bytes()
    for _ in range(10):
        write_arrays(path, arrays, {"z": None, "key": "value", "list": [1, 2]})
        assert path.read_bytes() == content


def test_missing_and_unwritable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        read_arrays(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_arrays(tmp_path / "file" / "below", {"a": np.zeros(1)}, {})


def test_fingerprints_depend_on_values_not_on_order() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_arrays_come_back_whatever_their_order_in_memory(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_arrays(tmp_path / "a.safetensors", {"turned": array.T, "every other": array[:, ::2]}, {})
    arrays, _ = read_arrays(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(arrays["turned"], array.T)
    np.testing.assert_array_equal(arrays["every other"], array[:, ::2])


def test_files_that_others_wrote_are_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    torch_file.save_file({"a": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match="file: was not written by this program"):
        read_arrays(file)
    torch_file.save_file({"a": torch.zeros(2)}, file, {"spp-detector": "[]"})
    with pytest.raises(ValueError, match="file: was not written by this program"):
        read_arrays(file)
    torch_file.save_file({"a": torch.zeros(2, dtype=torch.bfloat16)}, file, {"spp-detector": '{"crc32": "0"}'})
    with pytest.raises(ValueError, match="file: is damaged"):
        read_arrays(file)
    with pytest.raises(OSError, match=f"{tmp_path}: cannot be read as a file"):
        read_arrays(tmp_path)


def test_without_a_home_folder_the_variable_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(OSError, match="has no home folder: set XDG_CACHE_HOME"):
        cache_root()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "spp-detector" / "features"
