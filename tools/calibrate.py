"""Give a trained model probabilities and thresholds: see detector/commands/calibrate.py."""

from detector.commands.calibrate import main

if __name__ == "__main__":
    main()
