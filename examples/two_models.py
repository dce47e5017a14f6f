"""Detect with two models together: what each found is suppressed as if one had found it.

python examples/two_models.py image.jpg other.safetensors
"""

import sys

from detector.ensemble import Ensemble
from detector.images.files import read_image
from detector.pipeline import Detector


def main(source: str, other: str) -> None:
    image = read_image(source)
    # classes are matched by name: those that only one model knows, it finds alone
    together = Ensemble([Detector.load(), Detector.load(other)])
    print(f"{len(together.class_names)} classes")
    found = together.detect(image, min_score=0)
    for label, score, box in zip(found.labels, found.scores, found.boxes, strict=True):
        print(f"{found.class_names[label]} {score:.2f}: {' '.join(f'{corner:.0f}' for corner in box)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
