"""Name and box the objects of photographs: python tools/detect.py IMAGE..."""

from detector.commands.detect import main

if __name__ == "__main__":
    main()
