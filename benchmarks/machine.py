"""Machine and date of a benchmark."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import torch


def machine() -> str:
    """Return date, processor, cores and torch version in one line."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.machine()
    date = datetime.now(UTC).date().isoformat()
    return f"{date}; {processor}, {os.cpu_count()} cores, {torch.get_num_threads()} threads; torch {torch.__version__}"
