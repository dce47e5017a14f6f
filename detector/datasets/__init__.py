"""Readers of data sets as labeling tools write them, and writers; a check of them; a small synthetic set.

`opening.open_dataset` is the way in: `layouts` recognizes what lies at a path; `voc_exports`, `coco_exports`, `yolo`
and `open_images` make `records` of it; `assembling` finds their images and brings boxes onto them.
"""
