"""Train a classifier on the objects of drawn images, and classify those of other images.

python examples/classify.py classifier.safetensors
"""

import sys
from pathlib import Path

from detector.classification.model import Classifier
from detector.classification.training import train_classifier
from detector.config.classifier import load_classifier_config
from detector.datasets.image_classes import labeled_objects
from detector.datasets.loading import load_voc
from detector.images.files import read_image

DEMO = Path(__file__).parents[1] / "data" / "demo"


def main(model: str) -> None:
    dataset = load_voc(DEMO, "train", class_names=None)
    samples = labeled_objects(dataset)  # crops of all objects but difficult ones
    train_classifier(load_classifier_config("classifier"), samples).save(model)

    classifier = Classifier.load(model)
    for each in load_voc(DEMO, "val", dataset.class_names):
        x1, y1, x2, y2 = each.boxes[0].astype(int)
        objects = [read_image(each.path)[y1:y2, x1:x2]]  # images of any size
        probabilities = classifier.scores(objects)[0]
        truth = dataset.class_names[each.labels[0]]
        print(f"{truth}: {classifier.class_names[probabilities.argmax()]} {probabilities.max():.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
