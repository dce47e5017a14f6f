"""Look at, check and convert data sets of labeling tools: python tools/data.py check|convert|show PATH"""

from detector.cli.data import main

if __name__ == "__main__":
    main()
