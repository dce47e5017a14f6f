"""SPP-net object detection: proposals, one convolution per scale, pyramid-pooled boxes, linear SVMs."""
