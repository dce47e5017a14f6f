"""Name and box the objects of images: spp detect IMAGE..."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from detector.cli.console import (
    USAGE_ERROR,
    Parser,
    console,
    lines_stream,
    print_error,
    printable,
    progress,
    result_line,
)
from detector.cli.images import ImageNames, named_images
from detector.cli.options import (
    add_engine_options,
    add_model_options,
    add_scores_option,
    add_threshold_options,
    add_tiles_option,
    check_thresholds,
    engine_of,
    load_model,
    model_digests,
    thresholds,
)
from detector.cli.outputs import (
    FolderOrFilm,
    check_folder_writable,
    check_outputs,
    is_drawn_film,
    output_folder,
    output_records,
    result_folder,
)
from detector.images.film import is_film
from detector.parallel.map_images import Engine, Failure, Sequential, Threads
from detector.results.counts import COUNTS, counts_table
from detector.results.files import ResultFolder, label_stems
from detector.results.parts import WRITERS, open_parts
from detector.results.streams import STREAMS, json_array
from detector.runs.detect_images import DetectorFactory, ImageDetections, detect_images
from detector.runtime.progress import timer, timings

LABELS = {"voc": ".xml", "yolo": ".txt"}
"""Formats of one file per image, and the endings of the files."""
CLASS_NAMES = "classes.txt"
FORMATS = (*STREAMS, *LABELS, "crops", COUNTS)


def parser() -> Parser:
    parser = Parser(description="Name and box the objects of images and films.")
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="images, folders of images, quoted globs, films, cameras (0), or streams; - reads a list on stdin",
    )
    parser.add_argument(
        "--list", type=Path, metavar="FILE", help="a list of any length, one path or URL per line; - is stdin"
    )
    add_model_options(parser)
    add_threshold_options(parser)
    add_scores_option(parser)
    add_tiles_option(parser)
    parser.add_argument("--max-detections", type=int, metavar="N", help="maximum detections per image (default: 100)")
    parser.add_argument("--json", type=output_records, metavar="FILE", help="write all detections to FILE; - is stdout")
    parser.add_argument(
        "--output",
        type=FolderOrFilm(),
        default=Path("detections"),
        metavar="DIR",
        help="folder of the results, or the drawn film, such as boxes.mp4",
    )
    sampled = parser.add_mutually_exclusive_group()
    sampled.add_argument("--every", type=int, metavar="N", help="of films: take each N-th frame (default: 1)")
    sampled.add_argument("--fps", type=float, metavar="F", help="of films: take F frames per second")
    parser.add_argument(
        "--format", type=formats, default=(), metavar="F,...", help=f"write to the folder: {', '.join(FORMATS)}"
    )
    parser.add_argument("--no-drawing", dest="drawing", action="store_false", help="draw no copies of the images")
    parser.add_argument("--profile", action="store_true", help="print the time of each step, image by image, to stderr")
    add_engine_options(parser)
    parser.add_argument(
        "--parts", type=output_folder, metavar="DIR", help="write all detections to DIR in numbered parts; resumable"
    )
    parser.add_argument("--part-size", type=int, metavar="N", help="of --parts: images per part (default: 500)")
    parser.add_argument(
        "--part-format", choices=tuple(WRITERS), help="of --parts: JSON lines (default), or Parquet, an extra"
    )
    return parser


def formats(text: str) -> tuple[str, ...]:
    """Parse an option that lists formats, and return each once."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in FORMATS:
            raise ArgumentTypeError(f"there is no format {name!r}; there are {', '.join(FORMATS)}")
    return names


def main() -> int:
    options = parser().parse_args()
    check_options(options)
    engine = engine_of(options)
    if films := [each for each in options.images if is_film(each)]:
        from detector.cli.detect_films import detect_films

        return detect_films(options, films, engine, factory_of(options))
    if options.every is not None or options.fps is not None:
        raise ValueError("--every and --fps go with films, cameras and streams")
    if is_drawn_film(options.output):
        raise ValueError(f"--output {options.output}: must be a folder; a film is drawn of a film")
    names = named_images(options.images, options.list)
    if options.parts is not None:
        return detect_in_parts(options, names, engine)
    if options.drawing or options.format:
        check_folder_writable(options.output)
    writes_images = options.drawing or not set(options.format) <= set(STREAMS)
    # a list is not held in memory where no image is written next to its images
    images = [] if options.list is not None and not writes_images else list(map(Path, names))
    check_outputs(options, images)
    folder = result_folder(options, "output", images)
    labels = label_files(options, folder, images)
    with ExitStack() as stack:
        writer = ResultWriter(options, folder, labels, stack)
        in_process = isinstance(engine, Threads)
        if in_process and len(names) == 1:
            engine = Sequential()
        failed = False
        for name, found in detect_images(factory_of(options, writes_images and in_process), names, engine):
            failed |= not writer.take(name, found)
    return USAGE_ERROR if failed else 0


def label_files(options: Namespace, folder: ResultFolder, images: Sequence[Path]) -> dict[str, dict[Path, str]]:
    """Return the names of the label files of all images, by format and image.

    Raises ValueError, before any work, where two images would share one, or one is not free.
    """
    forms = [form for form in LABELS if form in options.format]
    stems = label_stems(images) if forms else {}
    files = {form: {image: f"{form}/{stem}{LABELS[form]}" for image, stem in stems.items()} for form in forms}
    for form, names in files.items():
        folder.check(names.values())
        if (clash := f"{form}/{CLASS_NAMES}") in names.values():
            raise ValueError(f"{clash} holds the class names, not the labels of an image: rename the image")
    return files


def check_options(options: Namespace) -> None:
    """Raise ValueError for options that do not go together, MissingPackageError without what Parquet needs."""
    if bool(options.images) == (options.list is not None):
        raise ValueError("give IMAGEs, or --list FILE")
    if options.max_detections is not None and options.max_detections < 1:
        raise ValueError(f"--max-detections must be at least 1, but is {options.max_detections}")
    check_thresholds(options)
    if options.parts is None and (options.part_size is not None or options.part_format is not None):
        raise ValueError("--part-size and --part-format go with --parts")
    if options.parts is not None and (options.json is not None or options.format or options.profile):
        raise ValueError("--parts goes without --json, --format and --profile")
    if options.part_size is not None and options.part_size < 1:
        raise ValueError(f"--part-size must be at least 1, but is {options.part_size}")
    if options.part_format == "parquet":
        from detector.results.parts import check_parquet

        check_parquet()


def factory_of(options: Namespace, keep_image: bool = False) -> Callable[[], Callable[[str], ImageDetections]]:
    """Return the factory of the function that detects in an image; it can be sent to other processes."""
    limits = Namespace(**{name: getattr(options, name) for name in ("min_score", "min_probability", "precision")})
    load = partial(load_model, options.model, options.device, options.runtime, options.tiles)
    counts = COUNTS in options.format
    return DetectorFactory(load, partial(thresholds, limits), options.max_detections, keep_image, counts)


def detect_in_parts(options: Namespace, names: ImageNames, engine: Engine) -> int:
    """Detect in all images whose parts are still missing, and return the exit code."""
    settings, size = part_settings(options, names), options.part_size or 500
    with open_parts(options.parts, settings, size, options.part_format or "jsonl", options.overwrite) as parts:
        done = parts.manifest.count("images")
        if done and not console.quiet:
            print(f"{options.parts}: {done} of {len(names)} images are there already")
        if not parts.manifest.complete:
            results = detect_images(factory_of(options), islice(names, done, None), engine)
            for _, (name, found) in zip(progress(range(done, len(names)), "detect"), results, strict=False):
                if isinstance(found, Failure):
                    print_error(ValueError(found.message))
                    parts.add({"image": name, "error": found.message})
                else:
                    parts.add(found.to_record(name))
            parts.finish()
        if not console.quiet:
            print(f"{options.parts}: {parts.manifest}")
        return USAGE_ERROR if parts.manifest.count("failed") else 0


def part_settings(options: Namespace, names: ImageNames) -> dict[str, Any]:
    """Return all that the records depend on, as JSON-able values."""
    kept = ("device", "runtime", "min_score", "min_probability", "precision", "max_detections", "tiles")
    return {
        "images": {"count": len(names), "sha256": names.digest},
        "models": model_digests(options),
        **{name: getattr(options, name) for name in kept},
        "openvino": find_spec("openvino") is not None,
    }


@dataclass
class ResultWriter:
    """Print and write the detections of each image as they come, so that memory does not grow with the images.

    labels: names of the label files, by format and image.
    class_names: empty until the first detections come.
    """

    options: Namespace
    folder: ResultFolder
    labels: Mapping[str, Mapping[Path, str]]
    stack: ExitStack
    class_names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._streams: list[Callable[[Mapping[str, Any]], None]] = []
        if self.options.json is not None:
            self._streams.append(self.stack.enter_context(json_array(self.options.json)))
        for name in self.options.format:
            if name in STREAMS:
                file, write = STREAMS[name]
                self._streams.append(self.stack.enter_context(write(self.folder.fixed(file), self.class_names)))
        self._count = None
        if COUNTS in self.options.format:
            self._count = self.stack.enter_context(counts_table(self.folder.fixed("counts.csv"), self.class_names))
        self._lines = lines_stream(self.options.json, needed=bool(self._streams) or self._count is not None)

    def take(self, name: str, found: ImageDetections | Failure) -> bool:
        """Print and write the detections of an image; return whether that worked. An error costs this image alone."""
        try:
            if isinstance(found, Failure):
                raise ValueError(found.message)
            if not self.class_names:
                self._begin(found.class_names)
            self.show(name, found)
        except BrokenPipeError:  # the reader of our output is gone, as in `spp detect ... | head`
            raise
        except (ValueError, OSError) as error:  # such as a copy that its format cannot hold
            print_error(error, name)
            return False
        for add in self._streams:
            add(found.to_record(name))
        if self._count is not None and found.expected is not None:
            self._count(name, found.expected, None)
        return True

    def _begin(self, class_names: Sequence[str]) -> None:
        self.class_names.extend(class_names)
        if "yolo" in self.options.format:
            from detector.results.files import write_class_names

            write_class_names(self.folder.fixed(f"yolo/{CLASS_NAMES}"), class_names)

    def show(self, name: str, found: ImageDetections) -> None:
        """Print one line per detection, and write the files of this image."""
        shown = printable(name)
        for each in found.detections:
            print(shown, result_line(each, self.options.scores), sep="\t", file=self._lines)
        with timings() as times:
            drawn = self._write_files(name, found)
        if not console.quiet:
            if found.note:
                print(f"{shown}: nothing found; {found.note}", file=sys.stderr)
            where = "" if drawn is None else f", drawn in {printable(drawn)}"
            print(f"{shown}: {len(found.detections)} found{where}", file=sys.stderr)
        if self.options.profile:
            spent = ", ".join(f"{step} {seconds:.3f} s" for step, seconds in {**found.times, **times}.items())
            print(f"{shown}: {spent}", file=sys.stderr)

    def _write_files(self, name: str, found: ImageDetections) -> Path | None:
        """Write the files of an image, and return that of the drawn copy, if there is one."""
        from detector.images.files import WRITTEN_SUFFIXES, read_image, write_image
        from detector.results.files import write_crops, write_voc, write_yolo

        wanted = self.options.format
        path, detections = Path(name), found.detections
        suffix = path.suffix if path.suffix.lower() in WRITTEN_SUFFIXES else ".png"
        if not self.options.drawing and not self.labels and "crops" not in wanted:
            return None
        image = read_image(name) if found.image is None else found.image
        drawn = None
        if self.options.drawing:
            (drawn,) = self.folder.numbered(path.stem, [f"*{suffix}"])
            with timer("drawing"):
                write_image(drawn, np.asarray(detections.draw(image, self.options.scores)))
        if "voc" in wanted:
            write_voc(self.folder.fixed(self.labels["voc"][path]), path, image, detections)
        if "yolo" in wanted:
            write_yolo(self.folder.fixed(self.labels["yolo"][path]), image, detections)
        if "crops" in wanted:
            write_crops(self.folder, path.stem, suffix, image, detections)
        return drawn
