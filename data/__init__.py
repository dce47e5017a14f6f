"""Readers of data sets: VOC folders, and a small synthetic set for tests."""
