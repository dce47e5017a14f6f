"""Load, on import, what processes forked from here would each load again: compiled kernels and OpenVINO."""

from __future__ import annotations

from contextlib import suppress

from detector.proposals.selective_search import selective_search
from detector.runtime.openvino import import_openvino
from tests.fakes import colored, fake_detector

with suppress(ImportError):  # an extra
    import_openvino()

selective_search(colored())
fake_detector().detect(colored())
