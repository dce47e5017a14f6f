"""Classify images of any size: convolutions, spatial pyramid, fully connected layers."""
