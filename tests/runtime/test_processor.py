"""What the processor is fast at."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detector.runtime.openvino import has_bfloat16


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx2 avx512f avx512_vnni", False),
        ("fpu avx512_bf16 avx2", True),
        ("fpu amx_bf16", True),
        ("not_avx512_bf16", False),
        ("", False),
    ],
)
def test_bfloat16_is_read_off_the_flags(flags: str, expected: bool, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:\n")
    assert has_bfloat16(tmp_path / "cpuinfo") is expected
    assert not has_bfloat16(tmp_path / "nowhere")


def test_torch_says_the_same_of_this_processor() -> None:
    features = torch.cpu.get_capabilities()
    assert has_bfloat16() == bool(features.get("avx512_bf16") or features.get("amx_bf16"))
