"""SPP-net object detection: proposals, one convolution per scale, pyramid-pooled boxes, linear SVMs."""

import os

# Threads of OpenMP spin while they wait for each other, and steal the cores that other processes need: beside three of
# them a detection took four times as long. The variable is read once, when torch is loaded; the user's own word wins.
if os.environ.keys().isdisjoint(("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")):
    os.environ["GOMP_SPINCOUNT"] = "2000"
