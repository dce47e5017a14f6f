"""Name and box the objects of images: python tools/detect.py IMAGE..."""

from detector.cli.main import run_verb

if __name__ == "__main__":
    run_verb("detect")
