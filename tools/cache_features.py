"""Compute feature maps and proposals of a data set once.

python tools/cache_features.py CONFIG (--voc ROOT --split train | --coco JSON) --cache DIR
python tools/cache_features.py --cache DIR --cache-info
"""

from detector.commands.cache import main
from detector.commands.console import run

if __name__ == "__main__":
    run(main)
