"""Run one source of boxes in a process of its own, in any Python with numpy and OpenCV.

Prints "ready". Then, for every line on stdin, [image.npy, boxes.npy] as JSON, it proposes boxes for the image, writes
them, and prints CPU seconds, wall seconds, and the peak memory in MB above that at "ready". Linux only.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SWITCHES = {
    "single": "switchToSingleStrategy",
    "fast": "switchToSelectiveSearchFast",
    "quality": "switchToSelectiveSearchQuality",
}


def proposer(method: Any) -> Any:
    family, _, variant = method.partition(":")
    if family == "opencv":
        return lambda image: opencv_boxes(image, variant)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    if family == "selectivesearch":
        from detector.proposals.sources import selectivesearch_package

        return lambda image: selectivesearch_package(image, max_boxes=10**9)
    from detector.proposals.selective_search import selective_search

    mode, _, rest = variant.partition("-")
    threads = None if rest == "threads" else 1
    ranking = "random" if rest == "random" else "diverse"
    return lambda image: selective_search(image, mode, threads=threads, ranking=ranking)


def opencv_boxes(image: Any, mode: Any) -> Any:
    # type stubs of opencv-python do not know the contrib modules
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()  # type: ignore[attr-defined]
    search.setBaseImage(image[..., ::-1].copy())
    getattr(search, SWITCHES[mode])()
    boxes = search.process().astype(np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    large = ((boxes[:, 2:] - boxes[:, :2]) >= 20).all(axis=1)
    return boxes[large]


def memory(field: str) -> float:
    """Return MB of this process: VmRSS, now, or VmHWM, the peak since `reset_peak`. Linux only."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


def reset_peak() -> None:
    # the compiler's own peak would hide that of any small image
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    method = sys.argv[1]
    if not method.endswith("-threads"):
        cv2.setNumThreads(1)
    propose = proposer(method)
    propose(np.random.default_rng(0).integers(0, 256, (60, 60, 3)).astype(np.uint8))
    before = memory("VmRSS")
    print("ready", flush=True)
    for line in sys.stdin:
        image_path, boxes_path = json.loads(line)
        image = np.load(image_path)
        reset_peak()
        wall, cpu = time.perf_counter(), time.process_time()
        boxes = propose(image)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        np.save(boxes_path, boxes)
        print(json.dumps([cpu, wall, memory("VmHWM") - before]), flush=True)


if __name__ == "__main__":
    main()
