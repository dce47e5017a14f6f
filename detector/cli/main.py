"""Run the program `spp`: find the verb's module, import it and run it."""

from __future__ import annotations

import os
import sys
from difflib import get_close_matches
from importlib import import_module
from typing import NamedTuple, NoReturn

from detector import __version__

_USAGE_ERROR, _INTERRUPTED = 2, 130


class Verb(NamedTuple):
    """Module of `detector.cli` that holds ``parser`` and ``main`` of a verb, and its line in the help."""

    module: str
    help: str


VERBS = {
    "detect": Verb("detect", "name and box the objects of images"),
    "train": Verb("train", "train a detector, or add or remove one of its classes"),
    "evaluate": Verb("evaluate", "measure mean average precision on labeled images"),
    "data": Verb("data", "check, convert and show data sets; choose images to label next"),
    "explain": Verb("explain", "attribute scores to image regions, and diagnose missed objects"),
    "report": Verb("report", "write an HTML report of saved detections"),
    "serve": Verb("serve", "open the web page"),
    "teach": Verb("teach", "label images in the browser while a detector learns from them"),
    "classify": Verb("classify", "classify whole images"),
    "train-classifier": Verb("train_classifier", "train an image classifier"),
    "calibrate": Verb("calibrate", "fit probabilities and thresholds to labeled images"),
    "compare": Verb("compare", "train and measure variants of a recipe"),
    "cache": Verb("cache", "compute, list and delete cached feature maps and proposals"),
}


def main() -> NoReturn:
    """Run the verb that the command line names."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(help_text())
        sys.exit(0)
    verb = arguments[0]
    if verb == "--version":
        print(f"spp {__version__}")
        sys.exit(0)
    if verb not in VERBS:
        close = get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "see spp --help"
        print(f"spp: there is no verb {verb!a}; {hint}", file=sys.stderr)
        sys.exit(_USAGE_ERROR)
    sys.argv = [f"spp {verb}", *arguments[1:]]
    run_verb(verb)


def help_text() -> str:
    """Return the help of the program: one line for each verb."""
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.help}" for name, verb in VERBS.items()]
    head = "usage: spp VERB ...\n\nDetect objects on an ordinary CPU. See spp VERB --help for the options of a verb."
    return "\n".join([head, "", *lines])


def run_verb(verb: str) -> NoReturn:
    """Import the module of a verb and exit with the code of its ``main``, called with `sys.argv`."""
    try:
        from detector.cli.console import run

        run(lambda: import_module(f"detector.cli.{VERBS[verb].module}").main())
    except ImportError as error:
        if "cannot open shared object" not in str(error) or os.environ.get("DETECTOR_TRACEBACK"):
            raise
        # such as libGL.so.1, which other packages of OpenCV need
        advice = "pip install --force-reinstall opencv-python-headless" if "libGL" in str(error) else "install it"
        print(f"error: a library of the system is missing: {error}; {advice}", file=sys.stderr)
        sys.exit(_USAGE_ERROR)
    except KeyboardInterrupt:  # during that import, or as the program ends
        print("interrupted", file=sys.stderr)
        sys.exit(_INTERRUPTED)
