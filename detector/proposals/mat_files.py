"""Read MATLAB files in a process of its own: scipy may take any memory, or crash, on damaged ones."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

if __name__ != "__main__":
    from detector.runtime.optional import optional

_MAX_SECONDS = 50
_MAX_BYTES = 3_000_000_000


def read_mat(path: Path) -> dict[str, NDArray[Any]]:
    """Return the cells `images` and `boxes` of a MATLAB file as one array per image id, as written.

    Raises OSError for an unreadable file, ValueError for another file, and MissingPackageError without scipy.
    """
    optional("scipy", "proposals")
    with path.open("rb"):
        pass
    with tempfile.TemporaryDirectory(prefix="spp-detector-") as folder:
        target = Path(folder) / "boxes.npz"
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-P", __file__, str(path), str(target), json.dumps(sys.path)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_MAX_SECONDS, env=environment)
        except subprocess.TimeoutExpired:
            raise ValueError("not a complete MATLAB file (reading it takes too long)") from None
        if done.returncode or not target.exists():
            said = done.stdout.decode("utf-8", "replace").strip()
            raise ValueError(said or f"not a complete MATLAB file (its reader ended with {done.returncode})")
        with np.load(target, allow_pickle=False) as found:
            ids = json.loads(found["ids"].tobytes())
            return {image_id: found[f"boxes{number}"] for number, image_id in enumerate(ids)}


def _convert(path: str, target: str) -> None:
    """Write the cells of a file as an archive of plain arrays. Raises ValueError for another file."""
    import scipy.io

    try:
        found = scipy.io.loadmat(path)
    except NotImplementedError:  # what scipy raises at MATLAB 7.3, which is HDF5
        raise ValueError("a MATLAB 7.3 file; save it with -v7") from None
    except Exception as error:  # scipy raises IndexError, OSError, zlib.error and more at a damaged file
        raise ValueError(f"not a complete MATLAB file ({error})") from None
    for name in ("images", "boxes"):
        if name not in found:
            raise ValueError(f"must hold the cells images and boxes, but has no {name}")
    ids = [str(np.asarray(cell).item()) for cell in found["images"].ravel()]
    cells = [np.asarray(cell, np.float64) for cell in found["boxes"].ravel()]
    if len(ids) != len(cells):
        raise ValueError(f"holds {len(ids)} images but boxes of {len(cells)}")
    arrays: dict[str, Any] = {f"boxes{number}": cell for number, cell in enumerate(cells)}
    np.savez(target, ids=np.frombuffer(json.dumps(ids).encode(), np.uint8), **arrays)


if __name__ == "__main__":
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MAX_BYTES, _MAX_BYTES))
    sys.path[:] = json.loads(sys.argv[3])
    try:
        _convert(*sys.argv[1:3])
    except (ValueError, TypeError) as error:
        print(error)
        sys.exit(1)
