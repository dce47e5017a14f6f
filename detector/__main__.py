"""Run `spp` as `python -m detector`."""

import os
import sys

# `python -m` lets modules of the working directory replace others; pathlib would be imported from there
if os.path.realpath(sys.path[0]) == os.getcwd() != os.path.dirname(os.path.dirname(os.path.realpath(__file__))):  # noqa: PTH109, PTH120
    del sys.path[0]

from detector.cli.main import main

if __name__ == "__main__":
    main()
