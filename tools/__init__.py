"""Command-line scripts; run them as files, `python tools/detect.py`."""
