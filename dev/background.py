"""Make the background of the package: python -m dev.background VOC_ROOT [SPLIT]."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from detector.boxes import Boxes
from detector.build import build_encoder, build_proposer
from detector.config.detector import FeatureConfig, ProposalConfig
from detector.datasets.dataset import Annotation
from detector.datasets.loading import load_voc
from detector.datasets.readers.voc import VOC_CLASSES
from detector.features.encoder import RegionEncoder
from detector.images.files import read_image
from detector.model_file import GENERAL, SHIPPED, trained_stage
from detector.training.background import BACKGROUNDS, BackgroundImage, quantize, save_background

SHORT_SIDES = {GENERAL: 448, SHIPPED: 400}
N_IMAGES = 36


def main() -> None:
    """Write the background of both sets of weights of the package."""
    root, split = Path(sys.argv[1]), (*sys.argv[2:], "train")[0]
    dataset = load_voc(root, split, report=lambda issue: None)
    rows = np.sort(np.random.default_rng(0).permutation(len(dataset))[:N_IMAGES])
    for weights, short_side in SHORT_SIDES.items():
        config = FeatureConfig(weights=weights, stage=trained_stage(weights), short_sides=(short_side,))
        encoder = build_encoder(config)
        images = [_background(encoder, dataset[int(row)]) for row in rows]
        path = Path(str(BACKGROUNDS)) / f"background-{weights}.safetensors"
        save_background(path, encoder.backbone.digest, images)
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def _background(encoder: RegionEncoder, annotation: Annotation) -> BackgroundImage:
    image = read_image(annotation.path)
    boxes: Boxes = build_proposer(ProposalConfig())(image)
    maps = encoder.maps(image)
    steps, scale = quantize(maps.maps[0])
    names = [VOC_CLASSES[label] for label in annotation.labels]
    return BackgroundImage(steps, scale, maps.zooms[0], maps.image_size, boxes, annotation.boxes, names)


if __name__ == "__main__":
    main()
