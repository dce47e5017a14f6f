"""Tell what photographs show: python tools/classify.py IMAGE... --model MODEL"""

from detector.commands.classify import main
from detector.commands.console import run

if __name__ == "__main__":
    run(main)
