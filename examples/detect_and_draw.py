"""Detect the objects of a photograph with the default model and draw them.

python examples/detect_and_draw.py image.jpg drawn.png
"""

import sys

from detector.images.drawing import draw_detections
from detector.images.files import read_image, write_image
from detector.pipeline import Detector


def main(source: str, drawn: str) -> None:
    image = read_image(source)  # (H, W, 3) uint8 RGB
    found = Detector.load().detect(image, min_score=0)
    for (x1, y1, x2, y2), label, score in zip(found.boxes, found.labels, found.scores, strict=True):
        print(f"{found.class_names[label]} {score:.2f}: {x1:.0f} {y1:.0f} {x2:.0f} {y2:.0f}")
    write_image(drawn, draw_detections(image, found.boxes, found.labels, found.scores, found.class_names))


if __name__ == "__main__":
    main(*sys.argv[1:])
