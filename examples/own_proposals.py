"""Replace a stage: boxes from a grid in place of selective search.

python examples/own_proposals.py image.jpg
"""

import sys
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detector.images.files import read_image
from detector.pipeline import Detector


def grid(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Boxes (R, 4) `x1 y1 x2 y2` of three sizes, half of a box apart: whatever takes an image and returns boxes."""
    height, width = image.shape[:2]
    boxes = []
    for share in (1.0, 0.7, 0.4):
        h, w = height * share, width * share
        for y in np.arange(0, height - h + 1, h / 2):
            boxes += [(x, y, x + w, y + h) for x in np.arange(0, width - w + 1, w / 2)]
    return np.array(boxes, np.float32)


def main(source: str) -> None:
    image = read_image(source)
    detector = replace(Detector.load(), propose=grid)
    found = detector.detect(image)
    print(f"{len(grid(image))} boxes in place of 2,000:")
    for label, score in zip(found.labels[:5], found.scores, strict=False):
        print(f"{found.class_names[label]} {score:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
