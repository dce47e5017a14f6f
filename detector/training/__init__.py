"""Training: from an annotated data set to a detector. Detection needs none of it."""
