"""Benchmarks of single steps against named peers, started by `tools/benchmark.py`."""

import detector  # noqa: F401 (sets how threads wait, which torch reads when it is loaded)
