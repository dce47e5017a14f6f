"""Arrays that are computed once: a file of another kind counts as none."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from detector.runtime.array_files import Arrays, cached_arrays, stored_arrays, write_arrays


def test_a_file_of_another_kind_is_reported_and_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "a.safetensors"
    write_arrays(file, {"boxes": np.zeros((2, 4))}, {"step": 3})
    assert stored_arrays(file, needs=("boxes", "step")) is not None
    assert not caplog.records
    wanted: Arrays = {"map0": np.ones(3)}
    with caplog.at_level(logging.WARNING):
        found = cached_arrays(file, lambda: wanted, needs=("map0",))
    assert found is wanted
    assert [each.getMessage() for each in caplog.records] == [
        f"{file}: is of another kind, it lacks 'map0'; computing it again"
    ]
    np.testing.assert_array_equal(cached_arrays(file, lambda: pytest.fail("is there"), needs=("map0",))["map0"], 1)
