"""Try the detector in the browser: python tools/serve.py"""

from detector.cli.serve import main

if __name__ == "__main__":
    main()
