"""Measure mean average precision by VOC's rules: python tools/evaluate_voc.py --data PATH --model MODEL"""

from detector.cli.main import run_verb

if __name__ == "__main__":
    run_verb("evaluate")
