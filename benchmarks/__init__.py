"""Stages against named peers; `tools/benchmark.py` starts them."""

import detector  # noqa: F401 (says how threads wait, which torch reads when it is loaded)
