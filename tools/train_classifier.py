"""Train a classifier of images of any size.

python tools/train_classifier.py CONFIG --images ROOT --cache DIR --output MODEL
python tools/train_classifier.py CONFIG --voc ROOT --split train [--objects] --cache DIR --output MODEL
"""

from detector.cli.train_classifier import main

if __name__ == "__main__":
    main()
