"""What may be done to pooled values before they meet a linear model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def signed_power(pooled: NDArray[np.float32], power: float) -> NDArray[np.float32]:
    """``sign(x) * |x| ** power`` of every value, float32; power 1 changes nothing, 1/2 is the signed square root."""
    if power == 1:
        return pooled
    magnitude = np.abs(pooled)
    np.sqrt(magnitude, out=magnitude) if power == 0.5 else np.power(magnitude, power, out=magnitude)
    return np.copysign(magnitude, pooled, out=magnitude)
