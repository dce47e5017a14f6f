"""Compare settings of a recipe: train each on one part of a split and measure mAP on the rest.

python tools/compare_settings.py CONFIG --voc ROOT --split train --cache DIR --results FILE
    --try svm.C=0.003 --try svm.C=0.003,detection.box_refinements=0

Variants that differ from the one before in ``detection`` alone are not trained again.
"""

from detector.cli.compare import main

if __name__ == "__main__":
    main()
