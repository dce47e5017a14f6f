"""Geometry of a feature map: where its cells are in the image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Geometry:
    """Position of the cells: cell k, along either axis, has its center at pixel offset + k * stride of the image.

    Pixels are counted from 0 at the center of the first pixel: a receptive field of pixels 0 to 10 has its center at 5.
    receptive_field: side, in pixels, of the square that a cell sees.
    """

    stride: int
    offset: float
    receptive_field: int


@dataclass(frozen=True)
class Axis:
    """Pixels first..last that cell 0 sees along one axis; cell k sees them shifted by k * stride."""

    stride: int = 1
    first: int = 0
    last: int = 0

    def window(self, kernel: int, stride: int, padding: int, dilation: int) -> Axis:
        """Return the cells of a window that slides by ``stride`` over these, starting ``padding`` cells before."""
        return Axis(
            self.stride * stride,
            self.first - padding * self.stride,
            self.last + (dilation * (kernel - 1) - padding) * self.stride,
        )

    def union(self, other: Axis) -> Axis:
        """Return cells that see what either sees. Raises ValueError for unequal strides."""
        if self.stride != other.stride:
            raise ValueError(f"branches of strides {self.stride} and {other.stride} meet")
        return Axis(self.stride, min(self.first, other.first), max(self.last, other.last))

    @property
    def geometry(self) -> Geometry:
        """Return the geometry of a map with equal axes."""
        return Geometry(self.stride, (self.first + self.last) / 2, self.last - self.first + 1)
