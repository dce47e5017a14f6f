"""Windows and OS/2 bitmaps of every kind, made by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RAW, RLE8, RLE4, BITFIELDS = 0, 1, 2, 3


def bitmap(
    rows: Sequence[bytes],
    width: int,
    bits: int,
    *,
    palette: Sequence[tuple[int, int, int]] = (),
    compression: int = RAW,
    masks: Sequence[int] = (),
    header: int = 40,
    top_down: bool = False,
    pixels: bytes | None = None,
) -> bytes:
    """Return a file of rows of packed pixels, from the top; ``pixels`` replaces them where they are compressed.

    header: its size, which says the version: 12 and 64 are OS/2's. masks: of red, green, blue and alpha.
    """
    height = len(rows)
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
        colors = b"".join(bytes((b, g, r)) for r, g, b in palette)
    else:
        sizes = (width, -height if top_down else height, 1, bits, compression, 0, 2835, 2835, len(palette), 0)
        info = struct.pack("<IiiHHIIiiII", header, *sizes)
        info += b"".join(struct.pack("<I", mask) for mask in masks)
        info = info.ljust(header, b"\0") if header > 40 else info
        colors = b"".join(bytes((b, g, r, 0)) for r, g, b in palette)
    if pixels is None:
        padded = [row + bytes(-len(row) % 4) for row in rows]
        pixels = b"".join(padded if top_down else padded[::-1])
    offset = 14 + len(info) + len(colors)
    start = b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset)
    return start + info + colors + pixels


def packed(indices: NDArray[np.uint8], bits: int) -> list[bytes]:
    """Return rows of palette indices of 1, 4 or 8 bits each."""
    shifts = [((row[:, None] >> np.arange(bits)[::-1]) & 1).astype(np.uint8).ravel() for row in indices]
    return [np.packbits(each).tobytes() for each in shifts]


def run_lengths(indices: NDArray[np.uint8], bits: int) -> bytes:
    """Return 4-bit or 8-bit indices as runs of single pixels, with an end of each line and of the bitmap."""
    data = b""
    for row in indices[::-1]:
        for index in row.tolist():
            data += bytes((1, index if bits == 8 else index << 4))
        data += b"\0\0"
    return data + b"\0\1"
