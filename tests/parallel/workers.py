"""Work that processes of the tests do; loaded there, so that it imports next to nothing."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.parallel.map_images import EndRun


@dataclass(frozen=True)
class Doing:
    """A factory of `do`, which notes in a folder what happens, each in a file of its own."""

    folder: Path

    def __call__(self) -> Callable[[str], Any]:
        return self.do

    def do(self, item: str) -> Any:
        """Items say what is to happen: ``die`` always, ``die once`` or ``die twice``, be ``bad``, be a ``bug``."""
        word, _, rest = item.partition(" ")
        if word == "die":
            times = len([*self.folder.glob(f"{item}.*")])
            if times < {"once": 1, "twice": 2}.get(rest.split(" ")[0], 99):
                (self.folder / f"{item}.{times}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        if word == "bad":
            raise ValueError(f"{item} is bad")
        if word == "missing":
            Path(self.folder / item).read_text()
        if word == "bug":
            raise KeyError(item)
        if word == "full":
            raise EndRun(OSError("no space left"))
        if word == "pid":
            return os.getpid()
        if word == "sleep":
            (self.folder / f"{os.getpid()}.pid").touch()
            threading.Event().wait()
        if word == "environment":
            return {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "DETECTOR_THREADS")}
        return item.upper()


class NeverReady:
    """A factory that ends the process."""

    def __call__(self) -> Callable[[Any], Any]:
        os._exit(7)


class Raising:
    """A factory that finds no model."""

    def __call__(self) -> Callable[[Any], Any]:
        raise FileNotFoundError(2, "No such file or directory", "model")


def interrupt_me(folder: Path) -> None:
    """Map items that never end."""
    from detector.parallel.map_images import map_images
    from detector.parallel.processes import Processes

    # a shell that starts the tests in the background has them ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for _ in map_images(Doing(folder), ["sleep"] * 4, Processes(2)):
            pass
    except KeyboardInterrupt:
        (folder / "interrupted").touch()
