"""Caching, training and evaluation by worker processes: the files are those of one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.config.detector import Config
from detector.datasets.dataset import Dataset
from detector.parallel.processes import Processes
from tests.parallel.same_bytes import check_same_evaluation, check_same_training


@pytest.mark.all
def test_processes_write_the_bytes_of_one(
    config: Config, train_set: Dataset, test_set: Dataset, tmp_path: Path
) -> None:
    model = check_same_training(Processes(2), config, train_set, tmp_path)
    check_same_evaluation(Processes(2), model, test_set)
