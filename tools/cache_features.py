"""Compute feature maps and proposals of a data set once.

python tools/cache_features.py CONFIG (--voc ROOT --split train | --coco JSON) --cache DIR
python tools/cache_features.py --cache DIR --cache-info
python tools/cache_features.py --clean [--older-than DAYS] [--cache DIR]
"""

from detector.cli.cache import main

if __name__ == "__main__":
    main()
