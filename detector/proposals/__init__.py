"""Box proposals: selective search, its segmentation, and other sources of boxes."""
