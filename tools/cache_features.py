"""Compute feature maps and proposals of a data set once: python tools/cache_features.py CONFIG --data PATH"""

from detector.cli.main import run_verb

if __name__ == "__main__":
    run_verb("cache")
