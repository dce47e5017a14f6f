"""Name and box the objects of films, cameras and streams, frame by frame, for spp detect."""

from __future__ import annotations

import hashlib
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from detector.cli.console import USAGE_ERROR, console, lines_stream, print_error, printable, progress, result_line
from detector.cli.options import model_digests
from detector.cli.outputs import check_folder_writable, check_outputs, is_drawn_film, result_folder
from detector.images.film import Film, Frame, Sampling, check_film, film_writer, is_film, open_film
from detector.parallel.map_images import Engine, Factory, Failure, map_images
from detector.results.counts import COUNTS, counts_table
from detector.results.files import ResultFolder
from detector.results.parts import Parts, open_parts
from detector.results.streams import STREAMS, csv_table, json_array
from detector.runs.detect_images import ImageDetections
from detector.runtime.files import is_url

_FORMATS = (*STREAMS, COUNTS)
_MAX_FPS = 1000


def detect_films(options: Namespace, films: Sequence[str], engine: Engine, factory: Factory) -> int:
    """Detect in all frames to take of films, one film after the other, and return the exit code.

    factory: a `DetectorFactory`. A film that cannot be read costs a line; what could be read of a damaged one is
    written.
    """
    check_options(options, films)
    if options.parts is not None:
        return detect_in_parts(options, films[0], engine, factory)
    failed = False
    with ExitStack() as stack:
        results = FilmResults(options, stack)
        for name in films:
            try:
                with open_film(name) as film:
                    failed |= not results.take(film, sampling_of(options), frames_of(film, options, engine, factory))
            except BrokenPipeError:
                raise
            except (ValueError, OSError) as error:
                print_error(error, name)
                failed = True
    return USAGE_ERROR if failed else 0


def check_options(options: Namespace, films: Sequence[str]) -> None:
    """Raise ValueError, before a model is loaded, for options that do not go with films, and files that are none."""
    others = [each for each in options.images if not is_film(each)]
    if others:
        raise ValueError(f"{films[0]} is a film and {others[0]} is not: detect in films and images one after the other")
    if options.every is not None and options.every < 1:
        raise ValueError(f"--every must be at least 1, but is {options.every}")
    if options.fps is not None and not 0 < options.fps <= _MAX_FPS:
        raise ValueError(f"--fps must be above 0 and at most {_MAX_FPS}, but is {options.fps:g}")
    unfit = [name for name in options.format if name not in _FORMATS]
    if unfit:
        raise ValueError(f"--format {unfit[0]} is of images; for films there are {', '.join(_FORMATS)}")
    check_outputs(options, map(Path, films))
    if is_drawn_film(options.output):
        if options.format:
            raise ValueError("--format writes to a folder: give --output DIR, which gets the drawn film, too")
        if len(films) > 1 or not options.drawing:
            raise ValueError(f"--output {options.output} is the drawn copy of one film; give a folder")
        inputs = [*map(Path, films), *([] if options.json is None else [options.json])]
        ResultFolder(options.output.parent, inputs, options.overwrite).check([options.output.name])
    elif options.drawing or options.format:
        check_folder_writable(options.output)
    if options.parts is not None and len(films) > 1:
        raise ValueError("--parts holds one film: detect in each with a folder of its own")
    for name in films:
        if Path(name).exists():
            check_film(Path(name))


def sampling_of(options: Namespace) -> Sampling:
    """Return the frames to take, which `Sampling` counts again for each film."""
    return Sampling(options.every or 1, options.fps)


def frames_of(
    film: Film, options: Namespace, engine: Engine, factory: Factory, skipped: int = 0
) -> Iterator[tuple[Frame, ImageDetections | Failure]]:
    """Yield each frame to take of a film with its detections, and show the progress.

    Interrupting a camera or stream ends it in order.
    """
    sampling = sampling_of(options)
    results = map_images(factory, film.frames(sampling, skipped), engine)
    n_frames = None if film.n_frames is None else max(0, sampling.count(film.n_frames, film.fps) - skipped)
    try:
        yield from progress(results if n_frames is None else _Counted(results, n_frames), f"detect in {film.name}")
    except KeyboardInterrupt:
        if not film.is_live:
            raise
    finally:
        results.close()


class _Counted:
    """An iterable of about ``count`` items."""

    def __init__(self, items: Iterable[Any], count: int) -> None:
        self._items, self._count = items, count

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __len__(self) -> int:
        return self._count


def record_of(frame: Frame, found: ImageDetections) -> dict[str, Any]:
    """Return what JSON says about a frame: the record of an image, with the number and the time of the frame."""
    record = found.to_record(frame.film)
    return {"image": record.pop("image"), "frame": frame.number, "time": frame.seconds, **record}


class FilmResults:
    """Print and write the detections of each frame as they come. No file is begun before there are detections."""

    def __init__(self, options: Namespace, stack: ExitStack) -> None:
        self._options, self._stack = options, stack
        self._class_names: list[str] = []
        self._streams: list[Callable[[Mapping[str, Any]], None]] = []
        self._folder = None if is_drawn_film(options.output) else result_folder(options, "output")
        self._count: Any = None
        self._lines = lines_stream(options.json, needed=options.json is not None or bool(options.format))

    def take(self, film: Film, sampling: Sampling, frames: Iterator[tuple[Frame, ImageDetections | Failure]]) -> bool:
        """Print and write all frames of a film; return whether all could be read. A line sums them up."""
        n_frames = n_found = n_failed = 0
        path: Path | None = None
        with ExitStack() as drawing:
            draw: Callable[[Any], None] | None = None
            for frame, found in frames:
                if isinstance(found, Failure):
                    print_error(ValueError(found.message))
                    n_failed += 1
                    continue
                if not self._class_names:
                    self._begin(found.class_names)
                if self._count is not None and found.expected is not None:
                    self._count(frame.film, found.expected, frame.seconds)
                if self._options.drawing:
                    if draw is None:
                        path = self._path_of(film)
                        draw = drawing.enter_context(film_writer(path, sampling.rate(film.fps)))
                    draw(np.asarray(found.detections.draw(frame.image, self._options.scores)))
                self._show(frame, found)
                n_frames += 1
                n_found += len(found.detections)
        if not console.quiet and n_frames:
            where = "" if path is None else f", drawn in {printable(path)}"
            dropped = f", {film.n_dropped} dropped of {film.n_read} that came" if film.is_live else ""
            print(f"{printable(film.name)}: {n_frames} frames{dropped}, {n_found} found{where}", file=sys.stderr)
        if film.problem is not None:
            print_error(ValueError(film.problem))
        return film.problem is None and not n_failed

    def _begin(self, class_names: Sequence[str]) -> None:
        self._class_names.extend(class_names)
        options = self._options
        if options.json is not None:
            self._streams.append(self._stack.enter_context(json_array(options.json)))
        for name in options.format:
            assert self._folder is not None
            if name == COUNTS:
                path = self._folder.fixed("counts.csv")
                self._count = self._stack.enter_context(counts_table(path, self._class_names, films=True))
                continue
            file, write = STREAMS[name]
            path = self._folder.fixed(file)
            table = csv_table(path, ("frame", "time")) if name == "csv" else write(path, self._class_names)
            add = self._stack.enter_context(table)
            self._streams.append(_as_images(add) if name == "coco" else add)

    def _path_of(self, film: Film) -> Path:
        """Return the file of the drawn copy of a film."""
        if self._folder is None:
            return Path(self._options.output)
        stem = Path(film.name).stem or "film"
        (path,) = self._folder.numbered("camera" + stem if film.name.isdecimal() else stem, ["*.mp4"])
        return path

    def _show(self, frame: Frame, found: ImageDetections) -> None:
        """Print one line per detection, and write the record of a frame."""
        for each in found.detections:
            print(printable(frame.path), result_line(each, self._options.scores), sep="\t", file=self._lines)
        if self._options.profile:
            spent = ", ".join(f"{step} {seconds:.3f} s" for step, seconds in found.times.items())
            print(f"{printable(frame.path)}: {spent}", file=sys.stderr)
        for add in self._streams:
            add(record_of(frame, found))


def _as_images(add: Callable[[Mapping[str, Any]], None]) -> Callable[[Mapping[str, Any]], None]:
    """Return a function of records of frames, which have names of images in a file that knows no frames."""

    def add_image(record: Mapping[str, Any]) -> None:
        add({**record, "image": f"{Path(record['image']).stem}_{record['frame']:06d}.jpg"})

    return add_image


# ---- resumable parts


def detect_in_parts(options: Namespace, name: str, engine: Engine, factory: Factory) -> int:
    """Detect in all frames whose parts are still missing, and return the exit code."""
    with open_film(name) as film, _parts_of(options, name, film) as parts:
        done = parts.manifest.count("images")
        if done and not console.quiet:
            print(f"{options.parts}: {done} frames are there already")
        problem = None
        if not parts.manifest.complete:
            for frame, found in frames_of(film, options, engine, factory, skipped=done):
                if isinstance(found, Failure):
                    print_error(ValueError(found.message))
                    parts.add({"image": film.name, "frame": frame.number, "error": found.message})
                else:
                    parts.add(record_of(frame, found))
            parts.finish()
            problem = film.problem
        if not console.quiet:
            print(f"{options.parts}: {parts.manifest}".replace(" images", " frames"))
        if problem is not None:
            print_error(ValueError(problem))
        return USAGE_ERROR if problem is not None or parts.manifest.count("failed") else 0


@contextmanager
def _parts_of(options: Namespace, name: str, film: Film) -> Iterator[Parts]:
    if film.is_live or is_url(name):
        raise ValueError(f"--parts resumes a file, but {film.name} is none")
    kept = ("device", "runtime", "min_score", "min_probability", "precision", "max_detections", "tiles", "every", "fps")
    with Path(name).open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    settings = {
        "film": {"name": name, "sha256": sha256},
        "models": model_digests(options),
        **{key: getattr(options, key) for key in kept},
        "openvino": find_spec("openvino") is not None,
    }
    size, form = options.part_size or 500, options.part_format or "jsonl"
    with open_parts(options.parts, settings, size, form, options.overwrite) as parts:
        yield parts
