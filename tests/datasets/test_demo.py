"""The images in data/demo are those that their README describes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from detector.datasets.loading import load_voc
from detector.images.files import read_image
from tests.synthetic import SYNTHETIC_CLASSES

DATA = Path(__file__).parents[2] / "data"


def test_the_command_in_the_readme_draws_the_demo(tmp_path: Path) -> None:
    program = re.search(r"```python\n(.*?)```", (DATA / "demo" / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert program is not None
    exec(program[1].replace('"data/demo"', repr(str(tmp_path))), {})
    for split, count in (("train", 8), ("val", 4)):
        drawn, kept = (load_voc(root, split, SYNTHETIC_CLASSES) for root in (tmp_path, DATA / "demo"))
        assert [each.image_id for each in drawn] == [each.image_id for each in kept]
        assert len(kept) == count
        for one, other in zip(drawn, kept, strict=True):
            np.testing.assert_array_equal(one.boxes, other.boxes)
            np.testing.assert_array_equal(one.labels, other.labels)
            np.testing.assert_array_equal(one.difficult, other.difficult)
            # another version of OpenCV may round JPEG's numbers otherwise
            assert np.abs(read_image(one.path).astype(int) - read_image(other.path)).max() <= 8


def test_the_demo_is_small() -> None:
    assert sum(path.stat().st_size for path in (DATA / "demo").rglob("*") if path.is_file()) < 300_000
