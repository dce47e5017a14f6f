"""Look at, check and convert data sets of labelling tools: python tools/data.py check|convert|show PATH"""

from detector.commands.data import main

if __name__ == "__main__":
    main()
