"""Name and box the objects of photographs: python tools/detect.py IMAGE..."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, TextIO, cast

from detector.cli.console import USAGE_ERROR, Parser, printable, progress, report, verbosity
from detector.cli.engines import add_engine_options, engine_of
from detector.cli.image_names import ImageNames
from detector.cli.options import add_model_options, model_digests
from detector.cli.outputs import check_outputs, output_folder, output_records, result_folder
from detector.cli.streams import Lines
from detector.cli.thresholds import add_threshold_options, check_thresholds
from detector.parallel.map_images import Engine, Failure, InTurn, Threads
from detector.results.files import ResultFolder
from detector.results.parts import WRITERS, open_parts
from detector.results.streams import STREAMS, json_array
from detector.runs.detect_images import Detecting, Found, detections, record_of
from detector.runtime.progress import stage, stage_times


def add_parts_options(parser: Parser) -> None:
    """``--parts`` and what goes with it."""
    parser.add_argument(
        "--parts",
        type=output_folder,
        metavar="DIR",
        help="write all detections to DIR in numbered parts; goes on where it was",
    )
    parser.add_argument("--part-size", type=int, metavar="N", help="of --parts: images a part (default: 500)")
    parser.add_argument(
        "--part-format", choices=tuple(WRITERS), help="of --parts: JSON lines (default), or Parquet, an extra"
    )


def check_parts_options(options: Namespace) -> None:
    """Raise ValueError for options that do not go together, MissingPackageError without what Parquet needs."""
    if options.parts is None and (options.part_size is not None or options.part_format is not None):
        raise ValueError("--part-size and --part-format go with --parts")
    if options.parts is not None and (options.json is not None or options.format or options.profile):
        raise ValueError("--parts goes without --json, --format and --profile")
    if options.part_size is not None and options.part_size < 1:
        raise ValueError(f"--part-size must be at least 1, but is {options.part_size}")
    if options.part_format == "parquet":
        from detector.results.parts import check_parquet

        check_parquet()


def detect_parts(options: Namespace, names: ImageNames, engine: Engine) -> int:
    """Detect in all images whose parts are not there yet; return the exit code."""
    settings, size = settings_of(options, names), options.part_size or 500
    with open_parts(options.parts, settings, size, options.part_format or "jsonl", options.overwrite) as parts:
        done = parts.manifest.count("images")
        if done and not verbosity.quiet:
            print(f"{options.parts}: {done} of {len(names)} images are there already")
        if not parts.manifest.complete:
            results = detections(Detecting(options), islice(names, done, None), engine)
            for _, (name, found) in zip(progress(range(done, len(names)), "detect"), results, strict=False):
                if isinstance(found, Failure):
                    report(ValueError(found.message))
                    parts.add({"image": name, "error": found.message})
                else:
                    parts.add(record_of(name, found))
            parts.finish()
        if not verbosity.quiet:
            print(f"{options.parts}: {parts.manifest}")
        return USAGE_ERROR if parts.manifest.count("failed") else 0


def settings_of(options: Namespace, names: ImageNames) -> dict[str, Any]:
    """Everything that the records depend on."""
    kept = ("device", "runtime", "mirror", "min_score", "min_probability", "precision", "max_detections")
    return {
        "images": {"count": len(names), "sha256": names.digest},
        "models": model_digests(options),
        **{name: getattr(options, name) for name in kept},
        "openvino": find_spec("openvino") is not None,
    }


FORMATS = (*STREAMS, "voc", "yolo", "crops")


def parser() -> Parser:
    parser = Parser(description="Name and box the objects of photographs.")
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="images, folders of images, or quoted globs; - is a list on stdin"
    )
    parser.add_argument(
        "--list", type=Path, metavar="FILE", help="a list of images of any length, a path or address a line; - is stdin"
    )
    add_model_options(parser)
    add_threshold_options(parser, "by class, where F1 was best on held-out images; 0 for a model without calibration")
    parser.add_argument("--max-detections", type=int, metavar="N", help="most detections an image (default: 100)")
    parser.add_argument("--json", type=output_records, metavar="FILE", help="write all detections to FILE; - is stdout")
    parser.add_argument(
        "--output", type=output_folder, default="detections", metavar="DIR", help="folder of the results"
    )
    parser.add_argument(
        "--format", type=formats, default=(), metavar="F,...", help=f"write to the folder: {', '.join(FORMATS)}"
    )
    parser.add_argument("--no-drawing", dest="drawing", action="store_false", help="draw no copies of the images")
    parser.add_argument("--profile", action="store_true", help="tell on stderr where the time of each image went")
    add_engine_options(parser)
    add_parts_options(parser)
    return parser


def formats(text: str) -> tuple[str, ...]:
    """Type of the option that lists formats, each once."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in FORMATS:
            raise ArgumentTypeError(f"there is no format {name!r}; there are {', '.join(FORMATS)}")
    return names


def main() -> int:
    options = parser().parse_args()
    check_options(options)
    engine = engine_of(options)
    from detector.cli.image_names import named_images

    names = named_images(options.images, options.list)
    if options.parts is not None:
        return detect_parts(options, names, engine)
    writes_images = options.drawing or not set(options.format) <= set(STREAMS)
    # a list is not held in memory for what no image is written next to
    images = [] if options.list is not None and not writes_images else list(map(Path, names))
    check_outputs(options, images)
    folder = result_folder(options, "output", images)
    with ExitStack() as stack:
        run = Run(options, folder)
        # records are written as they come, so that memory does not grow with the images
        if options.json is not None:
            run.streams.append(stack.enter_context(json_array(options.json)))
        for name in options.format:
            if name in STREAMS:
                file, write = STREAMS[name]
                run.streams.append(stack.enter_context(write(folder.fixed(file), run.class_names)))
        if str(options.json) != "-":
            run.lines = cast(TextIO, Lines(sys.stdout, bool(run.streams)))
        in_process = isinstance(engine, Threads)
        if in_process and len(names) == 1:
            engine = InTurn()
        results = detections(Detecting(options, writes_images and in_process), names, engine)
        failed = False
        for name, found in results:
            failed |= not run.take(name, found)
        return USAGE_ERROR if failed else 0


def check_options(options: Namespace) -> None:
    """Raise ValueError for options that do not go together."""
    if bool(options.images) == (options.list is not None):
        raise ValueError("give IMAGEs, or --list FILE")
    if options.max_detections is not None and options.max_detections < 1:
        raise ValueError(f"--max-detections must be at least 1, but is {options.max_detections}")
    check_thresholds(options)
    check_parts_options(options)


@dataclass
class Run:
    """What one call writes of every image; class_names are known when something was found."""

    options: Namespace
    folder: ResultFolder
    class_names: list[str] = field(default_factory=list)
    streams: list[Callable[[Mapping[str, Any]], None]] = field(default_factory=list)
    lines: TextIO = field(default_factory=lambda: sys.stderr)

    def take(self, name: str, found: Found | Failure) -> bool:
        """Tell and write what is found in an image; whether that went well, which costs this image alone."""
        try:
            if isinstance(found, Failure):
                raise ValueError(found.message)
            if not self.class_names:
                self.begin(found.class_names)
            self.show(name, found)
        except BrokenPipeError:  # the reader of our output is gone, as in `detect.py ... | head`
            raise
        except (ValueError, OSError) as error:  # such as a copy that its format cannot hold
            report(error if name in str(error) else ValueError(f"{name}: {error}"))
            return False
        for add in self.streams:
            add(record_of(name, found))
        return True

    def show(self, name: str, found: Found) -> None:
        """Print a line a detection, and write the files of this image."""
        told = printable(name)
        if found.note:
            print(f"{told}: nothing found; {found.note}", file=sys.stderr)
        for item in found.detections.to_records():
            corners = "\t".join(f"{corner:.1f}" for corner in item["box"])  # type: ignore[union-attr]
            print(f"{told}\t{printable(str(item['label']))}\t{item['score']:.3f}\t{corners}", file=self.lines)
        with stage_times() as times:
            drawn = self.write_files(name, found)
        where = "" if drawn is None else f", drawn in {printable(drawn)}"
        print(f"{told}: {len(found.detections)} found{where}", file=sys.stderr)
        if self.options.profile:
            spent = ", ".join(f"{part} {seconds:.3f} s" for part, seconds in {**found.times, **times}.items())
            print(f"{told}: {spent}", file=sys.stderr)

    def begin(self, class_names: Sequence[str]) -> None:
        """Note the classes of the model."""
        self.class_names.extend(class_names)
        if "yolo" in self.options.format:
            from detector.results.files import write_class_names

            write_class_names(self.folder.fixed("yolo/classes.txt"), class_names)

    def write_files(self, name: str, found: Found) -> Path | None:
        """Write the files of this image, all with the same number; return that of the drawn copy, if there is one."""
        from detector.images.drawing import draw_detections
        from detector.images.files import WRITTEN_SUFFIXES, read_image, write_image
        from detector.results.files import write_crops, write_voc, write_yolo

        wanted = self.options.format
        path, detections = Path(name), found.detections
        suffix = path.suffix if path.suffix.lower() in WRITTEN_SUFFIXES else ".png"
        patterns = {"drawn": f"*{suffix}"} if self.options.drawing else {}
        patterns |= {form: f"{form}/*.{end}" for form, end in (("voc", "xml"), ("yolo", "txt")) if form in wanted}
        if not patterns and "crops" not in wanted:
            return None
        image = read_image(name) if found.image is None else found.image
        files = dict(zip(patterns, self.folder.numbered(path.stem, [*patterns.values()]), strict=True))
        with stage("drawing"):
            if "drawn" in files:
                drawn = draw_detections(
                    image, detections.boxes, detections.labels, detections.scores, detections.class_names
                )
                write_image(files["drawn"], drawn)
        if "voc" in files:
            write_voc(files["voc"], path, image, detections)
        if "yolo" in files:
            write_yolo(files["yolo"], image, detections)
        if "crops" in wanted:
            write_crops(self.folder, path.stem, suffix, image, detections)
        return files.get("drawn")
