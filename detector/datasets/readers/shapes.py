"""Boxes around the shapes that labeling tools draw, as corners `x1 y1 x2 y2`."""

import math
from collections.abc import Iterable, Sequence

Corners = tuple[float, float, float, float]


def box_around(points: Iterable[Sequence[float]]) -> Corners:
    """Return the box around points `x y`. Raises ValueError for fewer than two, which enclose nothing."""
    xs, ys = zip(*points, strict=True) if (points := [(point[0], point[1]) for point in points]) else ((), ())
    if len(xs) < 2:
        raise ValueError("a box needs two points or more")
    return min(xs), min(ys), max(xs), max(ys)


def corners_of(x: float, y: float, width: float, height: float) -> Corners:
    """Return the corners of a box from one corner and its sides, negative if it was drawn to the left or upwards."""
    return min(x, x + width), min(y, y + height), max(x, x + width), max(y, y + height)


def centered_box(x: float, y: float, width: float, height: float, degrees: float = 0) -> Corners:
    """Return the box around a rectangle that is turned around its center `x y`."""
    cosine, sine = _turn(degrees)
    dx = (abs(width * cosine) + abs(height * sine)) / 2
    dy = (abs(width * sine) + abs(height * cosine)) / 2
    return x - dx, y - dy, x + dx, y + dy


def box_around_ellipse(x: float, y: float, x_radius: float, y_radius: float, degrees: float = 0) -> Corners:
    """Return the box around an ellipse that is turned around its center `x y`."""
    cosine, sine = _turn(degrees)
    dx, dy = math.hypot(x_radius * cosine, y_radius * sine), math.hypot(x_radius * sine, y_radius * cosine)
    return x - dx, y - dy, x + dx, y + dy


def turned_at_corner(x: float, y: float, width: float, height: float, degrees: float) -> Corners:
    """Return the box around a rectangle that is turned clockwise around its upper left corner `x y`."""
    cosine, sine = _turn(degrees)
    right, down = (width * cosine, width * sine), (-height * sine, height * cosine)
    xs = (x, x + right[0], x + down[0], x + right[0] + down[0])
    ys = (y, y + right[1], y + down[1], y + right[1] + down[1])
    return min(xs), min(ys), max(xs), max(ys)


def _turn(degrees: float) -> tuple[float, float]:
    """Return cosine and sine, exact for quarter turns."""
    quarters = degrees / 90
    if quarters == round(quarters):
        return ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[round(quarters) % 4]
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
