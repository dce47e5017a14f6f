"""Read the frames of films, cameras and streams, one at a time, and write films; by OpenCV and its FFmpeg."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Lock, Thread
from urllib.parse import urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.images.files import DEFAULT_MAX_PIXELS
from detector.images.opencv import without_messages
from detector.images.resizing import check_image
from detector.runtime.files import is_url, replacing

FILM_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv", ".3gp", ".ogv")
)
"""Extensions of films."""
WRITTEN_CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG", ".webm": "VP80"}
"""Codecs of the films that are written, by extension; browsers show WebM alone."""
_STREAM_SCHEMES = frozenset(("rtsp", "rtsps", "rtmp", "rtp", "udp", "tcp", "srt"))
_STREAM_SUFFIXES = FILM_SUFFIXES | {".mjpg", ".mjpeg", ".m3u8"}
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# FFmpeg prints nothing that is not returned as well; OpenCV reads the level when it first opens a film
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
_STARTS = (b"\x1aE\xdf\xa3", b"OggS", b"FLV", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"0&\xb2u\x8ef\xcf\x11")
_QUICKTIME = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_TIMEOUT = 15_000  # milliseconds until a stream that says nothing has ended
_START_LENGTH = 400
_DEFAULT_FPS = 25.0
_LOST = 0.01
"""Fraction of frames that a header may count too much, where it does not count but estimate."""
_lock = Lock()


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a film: its number from 0, its time in seconds, and its ``(H, W, 3)`` uint8 RGB image."""

    film: str
    number: int
    seconds: float
    image: NDArray[np.uint8]

    @property
    def path(self) -> str:
        """Name of the frame in messages."""
        return f"{self.film} frame {self.number}"


class Sampling:
    """Frames to take: each ``every``-th or, where it is given, ``fps`` frames per second of the film."""

    def __init__(self, every: int = 1, fps: float | None = None) -> None:
        self._every, self._fps = every, fps
        self._last = -1

    def takes(self, number: int, seconds: float) -> bool:
        """Return whether to take the next frame, of a number from 0 and a time: with ``fps``, the first of its slot."""
        if self._fps is None:
            return number % self._every == 0
        slot = int(seconds * self._fps + 1e-6)
        self._last, taken = max(slot, self._last), slot > self._last
        return taken

    def count(self, n_frames: int, fps: float) -> int:
        """Return the number of frames taken of a film, about."""
        if self._fps is None:
            return -(-n_frames // self._every)
        return min(n_frames, math.ceil(n_frames * self._fps / fps))

    def rate(self, fps: float) -> float:
        """Return the frames per second that are taken of a film of ``fps``."""
        return fps / self._every if self._fps is None else min(self._fps, fps)


def is_film(name: str) -> bool:
    """Return whether a name is that of a camera, such as "0", of a stream, or of a film, by its extension."""
    if is_url(name):
        parts = urlsplit(name)
        return parts.scheme in _STREAM_SCHEMES or Path(parts.path).suffix.lower() in _STREAM_SUFFIXES
    if _is_camera(name):
        return True
    path = Path(name)
    return path.suffix.lower() in FILM_SUFFIXES and not os.path.isdir(path)  # noqa: PTH112 (as in find_images)


def _is_camera(name: str) -> bool:
    return name.isascii() and name.isdecimal() and len(name) < 4 and not os.path.lexists(name)


class Film:
    """An open film, camera or stream; `open_film` opens one.

    name: as it was given. fps: frames per second. n_frames: as the header counts them; None where it does not.
    size: height and width. is_live: frames that come while earlier ones are worked on are dropped.
    n_read: number of frames read until now. n_damaged, n_dropped: of those that could not be decoded, and of those that
        were to be taken, but came while others were worked on.
    """

    def __init__(self, name: str, capture: cv2.VideoCapture, is_live: bool) -> None:
        self.name, self._capture, self.is_live = name, capture, is_live
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if 0 < fps < 1000 else _DEFAULT_FPS
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.n_frames = None if is_live or not 0 < count < 1e9 else int(count)
        self.size = (int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)))
        self.n_read = self.n_damaged = self.n_dropped = 0

    def frames(self, sampling: Sampling, skipped: int = 0) -> Generator[Frame, None, None]:
        """Yield the frames that the sampling takes, without the first ``skipped`` of these, in bounded memory."""
        yield from self._latest(sampling) if self.is_live else self._taken(sampling, skipped)

    @property
    def problem(self) -> str | None:
        """Reason why frames are missing, in a line, after all of `frames`; None where none are."""
        if not self.n_read:
            return f"{self.name}: has no frame that can be read"
        expected = self.n_read if self.n_frames is None else self.n_frames
        n_decoded = self.n_read - self.n_damaged
        if self.n_damaged or self.n_read < expected - max(1, _LOST * expected):
            return f"{self.name}: is damaged: {n_decoded} of {expected} frames could be read; results are of these"
        return None

    def _taken(self, sampling: Sampling, skipped: int = 0) -> Iterator[Frame]:
        while self._capture.grab():
            number = self.n_read
            self.n_read += 1
            milliseconds = self._capture.get(cv2.CAP_PROP_POS_MSEC)
            seconds = milliseconds / 1000 if milliseconds > 0 else number / self.fps
            if sampling.takes(number, seconds):
                if skipped:
                    skipped -= 1
                    continue
                decoded, image = self._capture.retrieve()
                if decoded:
                    yield Frame(self.name, number, round(seconds, 3), cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
                else:
                    self.n_damaged += 1

    def _latest(self, sampling: Sampling) -> Iterator[Frame]:
        """Yield the latest frame each time; a thread reads all of them, because a camera does not wait."""
        changed = Condition()
        waiting: list[Frame] = []
        state = {"open": True}

        def read() -> None:
            try:
                for frame in self._taken(sampling):
                    with changed:
                        if not state["open"]:
                            return
                        self.n_dropped += len(waiting)
                        waiting[:] = [frame]
                        changed.notify()
            finally:
                with changed:
                    state["open"] = False
                    changed.notify()

        reader = Thread(target=read, daemon=True)
        reader.start()
        try:
            while True:
                with changed:
                    changed.wait_for(lambda: waiting or not state["open"])
                    if not waiting:
                        return
                    frame = waiting.pop()
                yield frame
        finally:
            with changed:
                state["open"] = False
            reader.join(_TIMEOUT / 1000)


@contextmanager
def open_film(name: str) -> Iterator[Film]:
    """Open a film, a camera by its number, or a stream by its URL.

    Raises OSError for a file that cannot be opened, and ValueError for a camera or stream that is not there, for a
    file that is no film, and for frames of more than `DEFAULT_MAX_PIXELS` pixels.
    """
    is_camera, is_stream = _is_camera(name), is_url(name)
    shown = re.sub("//[^/@]*@", "//", name) if is_stream else name  # without a password
    if not is_camera and not is_stream:
        check_film(Path(name))
    with _lock, without_messages():
        if is_camera:
            capture = cv2.VideoCapture(int(name))
        elif is_stream:
            timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _TIMEOUT, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _TIMEOUT]
            capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, timeouts)
        else:
            with _files_only():
                # an absolute path has no protocol
                capture = cv2.VideoCapture(os.path.abspath(name), cv2.CAP_FFMPEG)  # noqa: PTH100 (links stay)
    try:
        if not capture.isOpened():
            if is_camera:
                raise ValueError(f"camera {name}: is not there, or another program uses it")
            reason = "cannot be reached, or is no film" if is_stream else "is damaged, or a film of an unknown kind"
            raise ValueError(f"{shown}: {reason}")
        film = Film(shown, capture, is_camera or (is_stream and capture.get(cv2.CAP_PROP_FRAME_COUNT) <= 0))
        height, width = film.size
        if height * width > DEFAULT_MAX_PIXELS:
            raise ValueError(f"{shown}: has frames of {width} x {height} pixels, more than {DEFAULT_MAX_PIXELS}")
        yield film
    finally:
        capture.release()


def check_film(path: Path) -> None:
    """Raise OSError for a file that cannot be opened, and ValueError for one that does not begin like a film.

    Playlists, which may name other files and hosts, are no films.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_START_LENGTH)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from error
    is_film = (
        start.startswith(_STARTS)
        or start[4:8] in _QUICKTIME
        or (start[:4] == b"RIFF" and start[8:11] == b"AVI")
        or any(start[at : at + 1] == start[at + 188 : at + 189] == b"G" for at in (0, 4))  # MPEG transport streams
    )
    if not is_film:
        raise ValueError(f"{path}: is {'empty' if not start else 'no film of a known kind'}")


@contextmanager
def _files_only() -> Iterator[None]:
    """Keep FFmpeg from opening anything but local files inside the block."""
    before = os.environ.get(_OPTIONS)
    os.environ[_OPTIONS] = "protocol_whitelist;file"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_OPTIONS]
        else:
            os.environ[_OPTIONS] = before


@contextmanager
def film_writer(path: Path, fps: float) -> Iterator[Callable[[NDArray[np.uint8]], None]]:
    """Yield a function that adds an ``(H, W, 3)`` uint8 RGB frame to a film; it appears when the block succeeds.

    The extension of the path names the format. Frames have the size of the first. Raises OSError for a film that cannot
    be written, and ValueError for an extension that is none of `WRITTEN_CODECS`.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITTEN_CODECS:
        raise ValueError(f"{path}: films are written as {', '.join(WRITTEN_CODECS)}")
    writer = cv2.VideoWriter()
    size: list[int] = []
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        # FFmpeg takes the format from the name
        named = temporary.with_name(f"{temporary.name}{suffix}")

        def add(image: NDArray[np.uint8]) -> None:
            bgr = cv2.cvtColor(check_image(image), cv2.COLOR_RGB2BGR)
            if not size:
                size[:] = bgr.shape[1::-1]
                code = cv2.VideoWriter.fourcc(*WRITTEN_CODECS[suffix])
                with without_messages():
                    writer.open(str(named), cv2.CAP_FFMPEG, code, fps, tuple(size))
                if not writer.isOpened():
                    raise OSError(f"{path}: a film of {size[0]} x {size[1]} pixels cannot be written")
            writer.write(bgr if [*bgr.shape[1::-1]] == size else cv2.resize(bgr, tuple(size)))

        try:
            yield add
            writer.release()
            if size:
                named.rename(temporary)
            else:
                temporary.touch()
        finally:
            writer.release()
            named.unlink(missing_ok=True)
