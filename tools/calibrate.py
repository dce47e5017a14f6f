"""Give a trained model probabilities and thresholds: see detector/cli/calibrate.py."""

from detector.cli.calibrate import main

if __name__ == "__main__":
    main()
