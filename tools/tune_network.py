"""Fine-tune the last convolutions of a recipe's network on boxes, and write them to a file; train with it afterwards.

python tools/tune_network.py CONFIG --from LAYER (--voc ROOT --split train | --coco JSON) --cache DIR --output LAYERS
python tools/train_svm.py CONFIG --tuned LAYERS ...
"""

from detector.cli.tune_network import main

if __name__ == "__main__":
    main()
