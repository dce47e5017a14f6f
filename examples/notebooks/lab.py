"""Helpers of the notebooks: draw images with boxes, and check answers to the exercises."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DEMO = Path(__file__).resolve().parents[2] / "data" / "demo"
"""Eight images to train on and four to test on; see its README.md."""
SAMPLES = Path(str(files("detector.web"))) / "static" / "samples"
"""Photographs of the package: cat.jpg, astronaut.jpg, coffee.jpg."""


def panels(count: int, width: float = 4.0, height: float = 3.5) -> list[Axes]:
    """Return ``count`` axes in a row, each ``width`` by ``height`` inches."""
    from matplotlib import pyplot

    _, axes = pyplot.subplots(1, count, figsize=(count * width, height), layout="constrained", squeeze=False)
    return list(axes[0])


def draw(
    axes: Axes, image: NDArray[Any], boxes: ArrayLike = (), title: str = "", colors: Sequence[str] = ("red",)
) -> None:
    """Draw an image with (R, 4) boxes ``x1 y1 x2 y2``; ``colors`` repeat."""
    from matplotlib.patches import Rectangle

    axes.imshow(image)
    for row, (x1, y1, x2, y2) in enumerate(np.reshape(np.asarray(boxes, float), (-1, 4))):
        # an image shows pixel 0 from -0.5 to 0.5; boxes count from the edge of pixel 0
        corner, color = (x1 - 0.5, y1 - 0.5), colors[row % len(colors)]
        axes.add_patch(Rectangle(corner, x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=1.5))
    axes.set(title=title, xticks=[], yticks=[])


def check(number: int, answer: object, expected: ArrayLike, hint: str = "") -> None:
    """Print whether an answer is correct; None is one that was not given.

    Numbers and arrays may differ by one part in a thousand, for rounding.
    """
    if answer is None:
        print(f"Exercise {number}: not answered yet")
    elif _equal(answer, np.asarray(expected)):
        print(f"Exercise {number}: correct")
    else:
        print(f"Exercise {number}: not correct, got {answer!r}. {hint}".rstrip())


def _equal(answer: object, expected: NDArray[Any]) -> bool:
    try:
        given = np.asarray(answer)
    except ValueError:  # rows of different lengths
        return False
    if given.shape != expected.shape:
        return False
    if not np.issubdtype(expected.dtype, np.number):
        return bool((given == expected).all())
    return np.issubdtype(given.dtype, np.number) and np.allclose(given, expected, rtol=1e-3, atol=1e-6)
