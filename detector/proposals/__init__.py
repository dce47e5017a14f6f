"""First stage, image -> boxes: selective search, its segmentation, and other sources of boxes."""
