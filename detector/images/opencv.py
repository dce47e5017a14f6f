"""OpenCV's messages on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from cv2.utils import logging

_lock = Lock()


@contextmanager
def without_messages() -> Iterator[None]:
    """Keep OpenCV from printing inside the block what it also returns or raises.

    One thread at a time is inside: another one would restore the wrong level.
    """
    with _lock:
        before = logging.getLogLevel()
        logging.setLogLevel(logging.LOG_LEVEL_SILENT)
        try:
            yield
        finally:
            logging.setLogLevel(before)
