"""SPP-net object detection: proposals, one convolution per scale, pyramid-pooled boxes, linear SVMs."""

__version__ = "0.1.0"
