"""Run a verb as users expect: exit codes, one-line errors, log and progress on stderr, orderly ends."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedWriter, FileIO, TextIOBase, TextIOWrapper
from pathlib import Path
from threading import current_thread, main_thread
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, cast

from tqdm import tqdm

from detector import __version__
from detector.cli.outputs import Output, check_outputs
from detector.parallel.map_images import one_line
from detector.runtime import files
from detector.runtime.optional import MissingPackageError
from detector.runtime.progress import ProgressBars, Task

if TYPE_CHECKING:
    from detector.detections import Detection

USAGE_ERROR = 2
_INTERRUPTED = 130
_OVERWRITE = "also replace files that this program did not write, and finished trainings"


class Parser(argparse.ArgumentParser):
    """An argument parser with ``--version``, ``-q`` and ``-v``; a wrong option costs one line and exit code 2."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        # explicit, because argparse names `python -m detector` otherwise
        super().__init__(*args, **{"prog": Path(sys.argv[0]).name, **settings})
        self.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
        self.add_argument(
            "-q", "--quiet", action=_SetVerbosity, const=logging.ERROR, help="print only results and errors"
        )
        self.add_argument("-v", "--verbose", action=_SetVerbosity, const=logging.DEBUG, help="also print timings")
        self._outputs: dict[str, Output] = {}

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        """Add an option; an output ``type`` of `outputs` also adds ``--overwrite``."""
        action = super().add_argument(*names, **settings)
        if isinstance(settings.get("type"), Output):
            if not self._outputs:
                super().add_argument("--overwrite", action="store_true", help=_OVERWRITE)
            self._outputs[action.dest] = settings["type"]
        return action

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the options, with those that name outputs in ``outputs``, checked against the others."""
        options, rest = super().parse_known_args(args, namespace)
        if self._outputs:
            options.outputs = self._outputs
            if not rest:
                check_outputs(options)
        return options, rest

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: {printable(message)}; see --help\n")


class _SetVerbosity(argparse.Action):
    """An option without a value that sets the lowest level of log records to print."""

    def __init__(self, option_strings: Sequence[str], dest: str, const: int, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, const=const, help=help)

    def __call__(self, *_: object) -> None:
        console.setLevel(self.const)


class Console(logging.Handler):
    """Print log records to stderr, above progress bars.

    Records below warnings wait until the work begins, so that a mistake that ends the program before costs one line.
    Only what is printed depends on ``-q`` and ``-v``: a log file takes all records.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        self._held: list[logging.LogRecord] | None = None

    @property
    def quiet(self) -> bool:
        """True where only errors are printed."""
        return self.level > logging.WARNING

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Print what is logged inside the block, which holds a whole program."""
        self.setLevel(logging.INFO)
        self._held = []
        logging.getLogger().addHandler(self)
        try:
            yield
            self.begin()
        finally:
            logging.getLogger().removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, or hold it back."""
        if self._held is not None and record.levelno < logging.WARNING:
            self._held.append(record)
        else:
            tqdm.write("\n".join(map(printable, self.format(record).split("\n"))), file=sys.stderr)

    def begin(self) -> None:
        """Print the held records, and from now on hold back none."""
        held, self._held = self._held, None
        for record in held or ():
            self.emit(record)


console = Console()
"""The handler of this process."""


def run(main: Callable[[], int]) -> NoReturn:
    """Exit with the code that ``main`` returns; with 2 and one line for ValueError, OSError or a missing package.

    Set DETECTOR_TRACEBACK=1 to see where an error came from.
    """
    _open_streams()
    logging.getLogger("detector").setLevel(logging.DEBUG)
    try:
        with console.attached(), _terminated_in_order():
            code = main()
        with _named_errors():
            sys.stdout.flush()
    except BrokenPipeError:
        # the reader of our output is gone, as in `spp detect ... | head`
        _discard_output(sys.stdout)
        code = 0
    except (ValueError, OSError, MemoryError, MissingPackageError) as error:
        if os.environ.get("DETECTOR_TRACEBACK"):
            raise
        print_error(error)
        code = USAGE_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = _INTERRUPTED
    try:
        sys.stdout.flush()
    except OSError:  # printed above
        _discard_output(sys.stdout)
    sys.exit(code)


def print_error(error: BaseException, name: str = "") -> None:
    """Print one line to stderr that says what went wrong; ``name`` is put in front where the message lacks it."""
    print(f"error: {printable(one_line(error, name))}", file=sys.stderr)


def printable(name: str | Path) -> str:
    """Return a path or name for a line of output: tabs, line ends and bytes that are not UTF-8 are escaped."""
    escaped = str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in escaped)


def result_line(each: Detection, scores: bool) -> str:
    """Return class, probability and corners of a detection, separated by tabs; with ``scores``, also the score.

    Without probability, the score takes its place.
    """
    certainty = [each.confidence] if each.probability is not None else []
    certainty += [f"{each.score:.3f}"] if scores or not certainty else []
    return "\t".join([printable(each.class_name), *certainty, *(f"{corner:.1f}" for corner in each.box)])


def lines_stream(json: Path | None, needed: bool = False) -> TextIO:
    """Return the stream of result lines: standard output or, where JSON goes there, standard error.

    With ``-q``, standard error takes no results. needed: see `ResultLines`.
    """
    if str(json) != "-":
        return cast(TextIO, ResultLines(sys.stdout, needed))
    return cast(TextIO, ResultLines(None, needed)) if console.quiet else sys.stderr


def progress_bars(plan: Sequence[Task] = ()) -> ProgressBars:
    """Return `ProgressBars` that draw on a terminal and log elsewhere; the work begins."""
    console.begin()
    return ProgressBars(plan, bars=sys.stderr.isatty() and not console.quiet)


def progress(items: Iterable[Any], title: str) -> Iterator[Any]:
    """Yield ``items``, with a bar on a terminal, and elsewhere a line every thirty seconds."""
    with progress_bars() as bars:
        yield from bars(items, title)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON, whole or not at all; ``-`` is standard output."""
    if str(path) == "-":
        print(json.dumps(content, indent=2))
    else:
        files.write_json(path, content)


# ---- standard streams and signals


def _open_streams() -> None:
    """Open closed standard streams on the null device: files that are opened later would take their places."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    # a name that the encoding lacks is escaped, as on standard error
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    with suppress(OSError):  # a stream that is not a file, as in a notebook
        if isinstance(sys.stderr, TextIOWrapper) and sys.stderr.fileno() == 2:
            binary = BufferedWriter(FileIO(2, "w", closefd=False))
            sys.stderr = _Messages(binary, sys.stderr.encoding, "backslashreplace", line_buffering=True)


class _Messages(TextIOWrapper):
    """Standard error. Where it cannot be written, as on a full disk, messages are lost, but no results."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            _discard_output(self)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            _discard_output(self)


class ResultLines(TextIOBase):
    """A stream of result lines on standard output, or on none.

    A reader that goes away, as in `spp detect ... | head`, raises BrokenPipeError, unless ``needed`` says that other
    results are still to be written: then only the lines are lost.
    """

    def __init__(self, stream: TextIO | None, needed: bool) -> None:
        self._stream, self._needed = stream, needed

    def write(self, text: str) -> int:
        try:
            with _named_errors():
                if self._stream is not None:
                    self._stream.write(text)
        except BrokenPipeError:
            if not self._needed:
                raise
            _discard_output(sys.stdout)
        return len(text)

    def flush(self) -> None:
        """Do nothing: the stream is flushed at the end."""


@contextmanager
def _named_errors() -> Iterator[None]:
    """Name standard output in write errors, other than that of a reader who went away."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from None


def _discard_output(stream: TextIO) -> None:
    """Redirect a standard stream, with what it still holds, to the null device: Python would try again at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


@contextmanager
def _terminated_in_order() -> Iterator[None]:
    """Unwind the block on SIGTERM and SIGHUP, which removes half-written files, and exit with 128 and the number."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    kept = {}
    for number in numbers if current_thread() is main_thread() else ():
        if signal.getsignal(number) == signal.SIG_DFL:
            kept[number] = signal.signal(number, _terminate)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _terminate(number: int, frame: FrameType | None) -> None:
    # ignore a second signal: it would end the unwinding in the middle
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)
