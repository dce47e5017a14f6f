"""Readers of data sets, VOC folders and COCO files, with a check of them; a small synthetic set for tests."""
