"""Stages against named peers; `tools/benchmark.py` starts them."""
