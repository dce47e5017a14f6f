"""Colour spaces of selective search (Uijlings et al. 2013, section 3.2)."""

import cv2
import numpy as np
from numpy.typing import NDArray

COLOUR_SPACES = ("hsv", "lab", "rgi", "hue", "intensity")


def convert_colours(image: NDArray[np.uint8], colour_space: str) -> NDArray[np.uint8]:
    """Convert an image to one of `COLOUR_SPACES`, every channel stretched to 0..255.

    image: (H, W, 3) uint8 RGB. Returns (H, W, 3) uint8. "hue" and "intensity" have one channel, which is
    repeated three times as in the released code, so that the constant k of the segmentation weighs the same
    in every space. "rgi" is r and g of normalised RGB, and intensity. Lab is OpenCV's (D65); MATLAB's of the
    release is D50.
    """
    if colour_space == "hsv":
        return cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    if colour_space == "lab":
        return cv2.cvtColor(image, cv2.COLOR_RGB2Lab)
    if colour_space == "rgi":
        total = np.maximum(image.sum(axis=2, dtype=np.float32), 1)[..., None]
        normalised = (image[..., :2] * np.float32(255) / total + np.float32(0.5)).astype(np.uint8)
        return np.dstack([normalised, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)])
    if colour_space == "hue":
        hue = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)[..., 0]
        return np.dstack([hue, hue, hue])
    if colour_space == "intensity":
        return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    raise ValueError(f"colour space must be one of {', '.join(COLOUR_SPACES)}, but got {colour_space!r}")
