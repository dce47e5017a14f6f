"""Exports of labeling tools, made by hand after their documentation; images are drawn when they are needed."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np

_HERE = Path(__file__).parent

# the images of each export, 60 x 40 pixels; a number is the EXIF orientation of a file whose stored pixels are so many
IMAGES: dict[str, tuple[str | tuple[str, int], ...]] = {
    "labelimg": ("IMG 1.jpg", "empty.png", "unlabeled.jpg", ("phone.jpg", 6)),
    "roboflow-voc": (
        "train/a_jpg.rf.0a1b2c3d4e5f60718293a4b5c6d7e8f9.jpg",
        "train/b_jpg.rf.1b1b2c3d4e5f60718293a4b5c6d7e8f9.jpg",
        "valid/a_jpg.rf.2c1b2c3d4e5f60718293a4b5c6d7e8f9.jpg",
    ),
    "cvat-voc": ("JPEGImages/frame_000000.PNG", "JPEGImages/street/frame_000000.PNG"),
    "cvat-coco": ("images/frame_000000.PNG", "images/street/frame_000000.PNG"),
    "label-studio-coco": ("images/1a2b3c4d-my_photo.jpg", ("images/5e6f7a8b-phone.jpg", 6)),
    "label-studio-voc": ("images/78cd539a-39.jpg", "images/skipped.jpg"),
    "label-studio-yolo": ("images/1a2b3c4d-a.jpg", "images/5e6f7a8b-b.jpg"),
    "roboflow-coco": tuple(
        f"{split}/{name}"
        for split in ("train", "valid", "test")
        for name in (
            f"{split}1_jpg.rf.0a1b2c3d4e5f60718293a4b5c6d7e8f9.jpg",
            "null_jpg.rf.1b1b2c3d4e5f60718293a4b5c6d7e8f9.jpg",
        )
    ),
    "roboflow-yolo": (
        "train/images/a_jpg.rf.0a1b2c3d4e5f60718293a4b5c6d7e8f9.jpg",
        "valid/images/b_jpg.rf.1b1b2c3d4e5f60718293a4b5c6d7e8f9.jpg",
    ),
    "ultralytics": ("images/train/a.jpg", "images/train/b.jpg", "images/train/c.jpg", "images/val/a.jpg"),
    "open-images": ("train/000026e7ee790996.jpg", "validation/0001eeaf4aed83f9.jpg"),
    "labelimg-yolo": ("a.jpg",),
    "cvat-yolo": ("obj_train_data/a.jpg",),
    "cvat-images": ("images/street/a.jpg", "images/a.jpg", "images/b.jpg"),
    "cvat-project": ("images/a.jpg", "images/b.jpg"),
    "cvat-video": tuple(f"images/frame_{number:06d}.PNG" for number in (10, 12, 14, 16)),
    "labelme": ("a.jpg", "b.jpg", "c.jpg"),
    "label-studio-json": ("my_photo.jpg", "photos/b c.jpg", "empty.jpg", "skipped.jpg", "unlabeled.jpg"),
    "label-studio-json-min": ("images/1a2b3c4d-a.jpg", "images/5e6f7a8b-b.jpg"),
    "via-project": ("a.jpg", "b.jpg"),
    "via-balloon": ("train/a.jpg", "val/b.jpg"),
    "via-csv": ("a.jpg", "b.jpg"),
    "roboflow-createml": (
        "train/a_jpg.rf.0a1b2c3d4e5f60718293a4b5c6d7e8f9.jpg",
        "train/null.jpg",
        "valid/b_jpg.rf.0a1b2c3d4e5f60718293a4b5c6d7e8f9.jpg",
    ),
    "createml": ("a.jpg",),
    "vott-json": ("vott-json-export/a b.jpg", "vott-json-export/b.jpg", "vott-json-export/c.jpg"),
    "vott-assets": ("a b.jpg", "b.jpg"),
    "vott-csv": ("a.jpg", "b.jpg"),
    "tensorflow-csv": ("images/a.jpg", "images/b.jpg"),
    "retinanet-csv": ("images/a.jpg", "images/b.jpg"),
    "make-sense-csv": ("a.jpg",),
    "roboflow-darknet": (
        "train/a_jpg.rf.0a1b2c3d4e5f60718293a4b5c6d7e8f9.jpg",
        "valid/b_jpg.rf.0a1b2c3d4e5f60718293a4b5c6d7e8f9.jpg",
    ),
    "image-folder": ("train/a.jpg", "train/more/b.jpg", "test/a.jpg"),
    "image-folder-csv": ("a.jpg", "b.jpg"),
    "datumaro": ("images/train/street/a.jpg", "images/validation/b.jpg"),
}


def write_export(name: str, folder: Path) -> Path:
    """The export of that name with its images, in a new folder below ``folder``."""
    root = folder / name
    shutil.copytree(_HERE / name, root)
    for each in IMAGES[name]:
        path, orientation = (each, 1) if isinstance(each, str) else each
        draw_image(root / path, orientation)
    return root


def draw_image(path: Path, orientation: int = 1, width: int = 60, height: int = 40) -> None:
    """A small image, another one for each path, of so many stored pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(sum(str(path.name).encode())).integers(0, 256, (4, 6, 3), np.uint8)
    image = cv2.resize(noise, (width, height), interpolation=cv2.INTER_NEAREST)
    data = cv2.imencode(path.suffix.lower(), image)[1].tobytes()
    if orientation != 1:
        exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation]) + b"\0\0\0\0\0\0"
        app1 = b"\xff\xe1" + (len(exif) + 8).to_bytes(2, "big") + b"Exif\0\0" + exif
        data = data[:2] + app1 + data[2:]
    path.write_bytes(data)
