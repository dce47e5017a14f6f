"""Detections of images written to files, in the forms that other programs read."""
