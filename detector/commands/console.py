"""What all commands do alike: exit codes, one line for a user's mistake, progress, JSON, a walk over images."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, TextIO, cast

import numpy as np
from numpy.typing import NDArray

from detector import __version__
from detector.commands.outputs import Output, check_outputs
from detector.commands.streams import Lines, ended_in_order, flush_output, forget_output, keep_errors, open_streams
from detector.commands.telling import Telling, console, printable, verbosity
from detector.runtime import files
from detector.runtime.json_stream import json_array
from detector.runtime.map_images import one_line
from detector.runtime.optional import MissingPackageError

USAGE_ERROR = 2
_INTERRUPTED = 130
_OVERWRITE = "replace files that this program did not write, too, and trainings"

Handler = Callable[[Path, NDArray[np.uint8], TextIO], dict[str, Any]]


class Parser(argparse.ArgumentParser):
    """A parser that knows ``--version``, ``-q`` and ``-v``; a wrong option costs one line and exit code 2."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
        self.add_argument("-q", "--quiet", action=_Tell, const=logging.ERROR, help="tell nothing but errors")
        self.add_argument("-v", "--verbose", action=_Tell, const=logging.DEBUG, help="tell what takes how long, too")
        self._outputs: dict[str, Output] = {}

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        """With ``type`` one of `outputs`, there is also the option ``--overwrite``."""
        action = super().add_argument(*names, **settings)
        if isinstance(settings.get("type"), Output):
            if not self._outputs:
                super().add_argument("--overwrite", action="store_true", help=_OVERWRITE)
            self._outputs[action.dest] = settings["type"]
        return action

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Options, among them ``outputs``: those that name what is written, which is checked against the others."""
        options, rest = super().parse_known_args(args, namespace)
        if self._outputs:
            options.outputs = self._outputs
            if not rest:
                check_outputs(options)
        return options, rest

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: {printable(message)}; see --help\n")


class _Tell(argparse.Action):
    """An option without a value that sets what is told from here on."""

    def __init__(self, option_strings: Sequence[str], dest: str, const: int, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, const=const, help=help)

    def __call__(self, *_: object) -> None:
        verbosity.level = self.const


def run(main: Callable[[], int]) -> NoReturn:
    """Exit with the code that ``main`` returns; with 2 and one line for ValueError, OSError or a missing package.

    Set DETECTOR_TRACEBACK=1 to see where an error came from.
    """
    open_streams()
    keep_errors()
    verbosity.level = logging.INFO
    logging.getLogger("detector").setLevel(logging.DEBUG)
    try:
        with console.shown(), ended_in_order():
            code = main()
        flush_output()
    except BrokenPipeError:
        # the reader of our output is gone, as in `detect.py ... | head`
        forget_output()
        code = 0
    except (ValueError, OSError, MemoryError, MissingPackageError) as error:
        if os.environ.get("DETECTOR_TRACEBACK"):
            raise
        report(error)
        code = USAGE_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = _INTERRUPTED
    try:
        sys.stdout.flush()
    except OSError:  # told already
        forget_output()
    sys.exit(code)


def command(main: Callable[[], int]) -> Callable[[], NoReturn]:
    """Make of ``main`` what scripts and installed commands call: `run` of it."""

    @wraps(main)
    def script() -> NoReturn:
        run(main)

    return script


def report(error: BaseException) -> None:
    """Say in one line on stderr what went wrong."""
    print(f"error: {printable(one_line(error))}", file=sys.stderr)


def for_each_image(
    paths: Iterable[Path],
    prepare: Callable[[], Handler],
    json_file: Path | None,
    also: Sequence[Callable[[Mapping[str, Any]], None]] = (),
) -> int:
    """Read and handle images, write what is found as JSON where ``json_file`` says so, and return the exit code.

    prepare: makes the handler, when the first image could be read. The handler takes path, image and the stream for
        lines of results, and returns what belongs into the JSON about it; ValueError and OSError cost this image alone.
    also: what else is called with the JSON's record of each image.
    An image that cannot be read or handled costs a line on stderr; the others are still done.
    """
    from detector.images.files import read_image

    to_stdout = str(json_file) != "-"
    handle: Handler | None = None
    failed = False
    with ExitStack() as stack:
        # records are written as they come, so that memory does not grow with the images
        records = [*also] if json_file is None else [stack.enter_context(json_array(json_file)), *also]
        lines = cast(TextIO, Lines(sys.stdout, bool(records))) if to_stdout else sys.stderr
        for path in paths:
            try:
                image = read_image(path)
            except (ValueError, OSError) as error:
                report(error)
                failed = True
                continue
            handle = handle or prepare()
            try:
                found = handle(path, image, lines)
            except BrokenPipeError:  # the reader of our output is gone, as in `detect.py ... | head`
                raise
            except (ValueError, OSError) as error:  # such as an image too narrow for the network
                report(error if str(path) in str(error) else ValueError(f"{path}: {error}"))
                failed = True
                continue
            for add in records:
                add({"image": str(path), "width": image.shape[1], "height": image.shape[0], **found})
    return USAGE_ERROR if failed else 0


def progress(items: Iterable[Any], title: str) -> Iterator[Any]:
    """Pass ``items`` on, with a bar on stderr; where that is no terminal, a line every thirty seconds."""
    with Telling() as telling:
        yield from telling(items, title)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON, whole or not at all; ``-`` is standard output."""
    if str(path) == "-":
        print(json.dumps(content, indent=2))
    else:
        files.write_json(path, content)
