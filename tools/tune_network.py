"""Fine-tune the last layers of a network: python tools/tune_network.py CONFIG --from LAYER --output LAYERS"""

from detector.cli.console import run
from detector.cli.tune_network import main

if __name__ == "__main__":
    run(main)
