"""The state of a mining pass on disk, so that a training that was killed goes on to the same result.

Features are not stored: which boxes of which images are in the bank says it all, and pooling them again from the
cache gives the same bits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detector.heads.linear_svm import LinearSVMs
from detector.runtime.array_cache import stored_arrays
from detector.runtime.files import Arrays, write_arrays
from detector.training.mining import MiningState
from detector.training.sample_bank import Bank
from detector.training.scouting import MiningImages

_KEPT = ("keys", "duals", "weights", "biases", "next_picture")


def save_state(path: Path, state: MiningState) -> None:
    """Write a state as it is right after a fit."""
    assert state.svms is not None
    bank = state.bank
    arrays: Arrays = {"keys": bank.keys, "duals": bank.duals}
    arrays |= {"weights": state.svms.weights, "biases": state.svms.biases}
    write_arrays(path, arrays, {"next_picture": state.next_image})


def load_state(path: Path, images: MiningImages, bank: Bank) -> MiningState | None:
    """The state of `save_state`, with its samples pooled into the empty ``bank``; None where there is none.

    A damaged file is reported and counts as none.
    """
    if (stored := stored_arrays(path, "starting over", _KEPT)) is None:
        return None
    arrays, metadata = stored
    keys = arrays["keys"].astype(np.int64)
    runs = np.split(np.arange(len(keys)), np.flatnonzero(np.diff(keys[:, 0])) + 1)
    for run in runs:
        image, rows = int(keys[run[0], 0]), keys[run, 1]
        samples = images[image]
        bank.add(samples.features(rows), samples.targets[rows], image, rows)
    bank.duals[:] = arrays["duals"]
    svms = LinearSVMs(arrays["weights"].astype(np.float32), arrays["biases"].astype(np.float32))
    return MiningState(bank, metadata["next_picture"], svms=svms)
