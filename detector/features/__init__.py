"""Features of boxes: mapping to cells, spatial pyramid pooling, the encoder and its cache on disk."""
