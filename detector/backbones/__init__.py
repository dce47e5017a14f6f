"""Convolutional networks: where their weights come from, their geometry, image to feature map."""
