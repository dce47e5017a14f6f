"""What the scripts of `tools/` and the installed commands do: options in, library calls, one line for a mistake."""

import sys
from types import TracebackType


def _tell(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


# Ctrl-C while a command is still imported, before `console.run` could tell it
sys.excepthook = _tell
