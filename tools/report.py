"""A report to look at, from saved detections: python tools/report.py A [B] (--voc ROOT --split val | --coco JSON)."""

from detector.cli.report import main

if __name__ == "__main__":
    main()
