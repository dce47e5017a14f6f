"""Detect with two models together: their boxes are suppressed as if one model had found them.

python examples/two_models.py image.jpg other.safetensors
"""

import sys

import detector


def main(source: str, other: str) -> None:
    # classes are matched by name; one model may know classes that the other does not
    together = detector.Ensemble([detector.load(), detector.load(other)])
    print(f"{len(together.class_names)} classes")
    for each in together.detect(source, min_score=0):
        print(f"{each.class_name} {each.score:.2f}: {' '.join(f'{corner:.0f}' for corner in each.box)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
