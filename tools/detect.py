"""Name and box the objects of photographs: python tools/detect.py IMAGE..."""

from detector.cli.detect import main

if __name__ == "__main__":
    main()
