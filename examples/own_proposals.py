"""Replace a step of the pipeline: boxes of a grid instead of selective search.

python examples/own_proposals.py image.jpg
"""

import sys
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

import detector


def grid(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (R, 4) boxes `x1 y1 x2 y2` of three sizes, half a box apart. Any function of this signature will do."""
    height, width = image.shape[:2]
    boxes = []
    for share in (1.0, 0.7, 0.4):
        h, w = height * share, width * share
        for y in np.arange(0, height - h + 1, h / 2):
            boxes += [(x, y, x + w, y + h) for x in np.arange(0, width - w + 1, w / 2)]
    return np.array(boxes, np.float32)


def main(source: str) -> None:
    image = detector.read_image(source)
    model = replace(detector.load(), propose=grid)
    print(f"{len(grid(image))} boxes instead of 2,000:")
    for each in model.detect(image).top(5):
        print(f"{each.class_name} {each.score:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
