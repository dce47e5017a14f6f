"""Train a detector on cached features: python tools/train_svm.py [CONFIG] --data PATH"""

from detector.cli.main import run_verb

if __name__ == "__main__":
    run_verb("train")
