"""Train a detector on a dozen drawn images, save it, and measure it on other images.

python examples/train_on_demo.py demo.safetensors cache
"""

import sys
from pathlib import Path

from detector.build import build_cache
from detector.config.detector import load_config
from detector.datasets.loading import load_voc
from detector.evaluation.voc import evaluate_voc
from detector.training.train import train

DEMO = Path(__file__).parents[1] / "data" / "demo"


def main(model: str, directory: str) -> None:
    config = load_config("default")  # a recipe by name, or the path of a YAML file
    train_set = load_voc(DEMO, "train", class_names=None)  # None: the classes that occur
    val_set = load_voc(DEMO, "val", train_set.class_names)
    # feature maps and proposals are computed once: later trainings reuse them
    cache = build_cache(config, Path(directory))
    detector = train(config, train_set, train_set.class_names, cache)
    detector.save(model)
    found = [detector.detect_cached(cache, each) for each in val_set]
    print(f"mAP {100 * evaluate_voc(found, val_set, val_set.class_names).mAP:.1f} on {len(val_set)} images")


if __name__ == "__main__":
    main(*sys.argv[1:])
