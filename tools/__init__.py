"""Scripts of a checkout, such as `python tools/detect.py`; `spp` has the same verbs."""
