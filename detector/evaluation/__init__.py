"""Detections and truth become numbers."""
