"""SPP-net object detection: proposals, one convolution per scale, pyramid-pooled boxes, linear SVMs."""

import os

__version__ = "0.1.0"

# Threads of OpenMP spin while they wait for each other, and so steal the cores that other processes need; a short while
# is enough. The variable is read once, when torch is loaded; the user's own word wins.
if os.environ.keys().isdisjoint(("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")):
    os.environ["GOMP_SPINCOUNT"] = "2000"
