"""Processes that are forked after a model was loaded compute the same, and end in order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CAT = Path(__file__).parents[2] / "detector" / "web" / "static" / "samples" / "cat.jpg"

_FORK = """
import os, signal, sys
def in_child(call):
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a deadlock ends by this signal
        print("child", call(), flush=True)
        sys.exit()
    return os.waitpid(child, 0)[1]
"""
_GRAPH = """
import numpy as np
from detector.runtime.openvino import CompiledGraph, import_openvino
op = import_openvino("openvino.opset13")
values = op.parameter([256, 512], np.float32)
weights = np.arange(512 * 512, dtype=np.float32).reshape(512, 512) / 1e6
layer = op.relu(op.matmul(values, op.constant(weights), False, True))
graph = CompiledGraph(import_openvino().Model([layer], [values], "layer"), "float32", side_by_side=SIDE_BY_SIDE)
rows = np.ones((256, 512), np.float32)
compute = lambda: float(graph(rows).sum())
"""
_MODEL = f"""
import detector
model = detector.load(runtime="RUNTIME")
compute = lambda: model.detect({str(CAT)!r}).scores.tolist()
"""
_END = """
before = compute()
code = in_child(compute)
print("parent", compute(), flush=True)
sys.exit(code != 0 or compute() != before)
"""


def forked_and_parent(code: str) -> list[str]:
    """Return what a child and its parent computed, with two threads."""
    threads = {"OMP_NUM_THREADS": "2", "DETECTOR_THREADS": "2"}
    command = [sys.executable, "-c", _FORK + code + _END]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads}, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.partition(" ")[2] for line in done.stdout.splitlines()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("side_by_side", [False, True])
def test_a_graph_is_compiled_again_in_a_forked_process(side_by_side: bool) -> None:
    child, parent = forked_and_parent(_GRAPH.replace("SIDE_BY_SIDE", str(side_by_side)))
    assert child == parent


@pytest.mark.all
@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_a_model_detects_in_a_forked_process(runtime: str) -> None:
    child, parent = forked_and_parent(_MODEL.replace("RUNTIME", runtime))
    assert child == parent
    assert parent.startswith("[1.3"), "the score of the cat"
