"""Detect the objects of an image with the default model, and draw them.

python examples/detect_and_draw.py image.jpg drawn.png
"""

import sys

import detector


def main(source: str, drawn: str) -> None:
    image = detector.read_image(source)  # (H, W, 3) uint8 RGB
    found = detector.load().detect(image)
    for each in found:
        print(f"{each.class_name} {each.score:.2f}: {' '.join(f'{corner:.0f}' for corner in each.box)}")
    found.draw(image).save(drawn)


if __name__ == "__main__":
    main(*sys.argv[1:])
