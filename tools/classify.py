"""Tell what photographs show: python tools/classify.py IMAGE... --model MODEL"""

from detector.cli.classify import main

if __name__ == "__main__":
    main()
