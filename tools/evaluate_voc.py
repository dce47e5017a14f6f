"""Mean average precision by VOC's rules on a VOC list or a COCO file.

python tools/evaluate_voc.py (--voc ROOT --split val | --coco JSON) [--model M | --detections DIR]
"""

from detector.cli.evaluate import main

if __name__ == "__main__":
    main()
