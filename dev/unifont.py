"""Make detector/images/unifont.npz of GNU Unifont: python -m dev.unifont unifont.otf

The font is https://unifoundry.com/unifont/ (Debian: fonts-unifont). The file holds the bitmaps of all assigned
characters of the Basic Multilingual Plane, 16 pixels high, and 8 or 16 wide. Marks have no width: they end where their
letter ends.
"""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 16
UNUSED = ("Cc", "Cn", "Co", "Cs")
"""Unicode's categories of control characters, and of code points without a character."""
TARGET = Path(__file__).parents[1] / "detector" / "images" / "unifont.npz"


def main() -> None:
    font = ImageFont.truetype(sys.argv[1], SIDE, layout_engine=ImageFont.Layout.BASIC)
    code_points, widths, bits = [], [], []
    for code_point in range(0x10000):
        letter = chr(code_point)
        width = round(font.getlength(letter))
        if unicodedata.category(letter) in UNUSED or width > SIDE:
            continue
        glyph = Image.new("1", (SIDE, SIDE))
        left = 0 if width else SIDE - round(font.getbbox(letter)[2])
        ImageDraw.Draw(glyph).text((left, 0), letter, 1, font)
        if glyph.getbbox() is None and not letter.isspace():
            continue
        code_points.append(code_point)
        widths.append(width)
        bits.append(np.packbits(np.asarray(glyph)))
    np.savez_compressed(
        TARGET,
        code_points=np.array(code_points, np.uint16),
        widths=np.array(widths, np.uint8),
        bits=np.array(bits),
    )
    print(f"{TARGET}: {len(code_points)} characters, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
