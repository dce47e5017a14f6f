"""What all commands do alike: exit codes, one line for a user's mistake, progress, JSON, a walk over images."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn, TextIO, cast

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from detector import __version__
from detector.cli.outputs import Output, check_outputs
from detector.cli.streams import Lines, ended_in_order, flush_output, forget_output, keep_errors, open_streams
from detector.parallel.map_images import one_line
from detector.results.streams import json_array
from detector.runtime import files
from detector.runtime.optional import MissingPackageError
from detector.runtime.progress import Estimate

FIRST_SECONDS = 10.0
SECONDS = 30.0

_log = logging.getLogger(__name__)


def printable(name: str | Path) -> str:
    """A path or name as a line of results may hold it: tabs, line ends and bytes that are no UTF-8 are escaped."""
    escaped = str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in escaped)


class Verbosity(logging.Filter):
    """The least level of log records that the terminal shows; a log file takes all of them."""

    level = logging.INFO

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is shown."""
        return record.levelno >= self.level

    @property
    def quiet(self) -> bool:
        """Whether only errors are told."""
        return self.level > logging.WARNING


verbosity = Verbosity()
"""Of this process: `-q` and `-v` of every command set it."""


class Console(logging.Handler):
    """Shows log records on stderr, above bars. What is told in passing waits until the work begins: a mistake that ends
    a command before costs one line."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        self.addFilter(verbosity)
        self._held: list[logging.LogRecord] | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """For the block of a command, which begins its work, or ends well, or fails."""
        self._held = []
        logging.getLogger().addHandler(self)
        try:
            yield
            self.begin()
        finally:
            logging.getLogger().removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Show or hold back a record."""
        if self._held is not None and record.levelno < logging.WARNING:
            self._held.append(record)
        else:
            tqdm.write("\n".join(map(printable, self.format(record).split("\n"))), file=sys.stderr)

    def begin(self) -> None:
        """Show what was held back, and from now on hold back nothing."""
        held, self._held = self._held, None
        for record in held or ():
            self.emit(record)


console = Console()
"""Of this process."""


class Telling:
    """`Progress` for loops one after another: a bar each on a terminal; elsewhere a line after ten seconds, and then
    every thirty, even where a single item takes longer.

    As a context manager it also tells while an item is under way. write: takes a line. bars: draw bars instead.
    """

    def __init__(
        self,
        estimate: Estimate | None = None,
        write: Callable[[str], None] = _log.info,
        bars: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._estimate = estimate or Estimate(clock=clock)
        self._write, self._clock = write, clock
        self._bars = sys.stderr.isatty() and not verbosity.quiet if bars is None else bars
        self._due = clock() + FIRST_SECONDS
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __call__(self, items: Iterable[Any], title: str) -> Generator[Any, None, None]:
        """Pass items on."""
        console.begin()
        n_items = len(items) if isinstance(items, Sized) else None
        with self._lock:
            self._estimate.begin(title, n_items)
        bar = tqdm(items, desc=title, file=sys.stderr, disable=not self._bars or n_items == 0)
        try:
            for each in bar:
                yield each
                with self._lock:
                    self._estimate.advance()
                    left = str(self._estimate).partition("; ")[2]
                bar.set_postfix_str(left, refresh=False)
                self.tell()
        finally:
            with self._lock:
                done, seconds = self._estimate.end()
            if n_items != 0:
                _log.debug("%s: %d in %.1f s", title, done, seconds)

    def tell(self) -> None:
        """Write a line if one is due."""
        with self._lock:
            if not self._bars and self._estimate.runs and self._clock() >= self._due:
                self._write(str(self._estimate))
                self._due = self._clock() + SECONDS

    def __enter__(self) -> Telling:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            self.tell()


USAGE_ERROR = 2
_INTERRUPTED = 130
_OVERWRITE = "replace files that this program did not write, too, and trainings"

Handler = Callable[[Path, NDArray[np.uint8], TextIO], dict[str, Any]]


class Parser(argparse.ArgumentParser):
    """A parser that knows ``--version``, ``-q`` and ``-v``; a wrong option costs one line and exit code 2."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        # explicit, because argparse names `python -m detector` otherwise
        super().__init__(*args, **{"prog": Path(sys.argv[0]).name, **settings})
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
