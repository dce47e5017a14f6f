"""Datasets: read exports of labeling tools, check, split, inspect and write them.

`loading` is the way in, and `check` is the same with issues reported. `format_detection` recognizes a path, `readers`
turn it into `records`, and `resolving` finds their images and returns a `dataset`.
"""
