"""Train a detector on cached features, or one class of a trained detector.

python tools/train_svm.py [CONFIG] (--data PATH | --voc ROOT --split train | --coco JSON) [--output PATH]
python tools/train_svm.py [CONFIG] --data PATH --dry-run
python tools/train_svm.py --add-class NAME (--data PATH | --voc ROOT --split train | --coco JSON) --output MODEL
python tools/train_svm.py --remove-class NAME --output MODEL
"""

from detector.cli.train import main

if __name__ == "__main__":
    main()
