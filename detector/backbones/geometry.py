"""Where the cells of a feature map lie in the image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Geometry:
    """Cell k of a feature map, along either axis, is centered at pixel offset + k * stride of its image.

    Pixels are counted from 0 at the center of the first pixel, so that a receptive field of pixels 0 to 10 is
    centered at 5. receptive_field is the side, in pixels, of the square that a cell sees.
    """

    stride: int
    offset: float
    receptive_field: int


@dataclass(frozen=True)
class Axis:
    """The pixels first..last that cell 0 sees along one axis; cell k sees them moved by k * stride."""

    stride: int = 1
    first: int = 0
    last: int = 0

    def window(self, kernel: int, stride: int, padding: int, dilation: int) -> Axis:
        """The cells after a window that moves by ``stride`` over these, ``padding`` of them before the first."""
        return Axis(
            self.stride * stride,
            self.first - padding * self.stride,
            self.last + (dilation * (kernel - 1) - padding) * self.stride,
        )

    def union(self, other: Axis) -> Axis:
        """Cells that see what either sees; ValueError for other strides."""
        if self.stride != other.stride:
            raise ValueError(f"branches of strides {self.stride} and {other.stride} meet")
        return Axis(self.stride, min(self.first, other.first), max(self.last, other.last))

    @property
    def geometry(self) -> Geometry:
        """Of a map whose other axis is alike."""
        return Geometry(self.stride, (self.first + self.last) / 2, self.last - self.first + 1)
