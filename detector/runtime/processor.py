"""What computes a network, and what the processor is fast at."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

Runtime = Literal["auto", "torch", "openvino"]
Precision = Literal["auto", "float32", "bfloat16"]
"""Of a network's computation; auto is what is fast here."""


@cache
def has_bfloat16(description: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether products of bfloat16 are fast here (AVX-512 BF16, AMX), as Linux tells; elsewhere, no."""
    try:
        words = set(description.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return False
    return not words.isdisjoint(("avx512_bf16", "amx_bf16"))
