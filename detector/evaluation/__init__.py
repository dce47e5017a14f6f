"""Detections and ground truth become numbers."""
