"""Images to label next, with drafts of their boxes: the command ``next`` of `detector.cli.data`."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from detector.boxes import clip
from detector.cli.console import Parser, printable, progress, report
from detector.cli.options import add_computing_options
from detector.cli.outputs import cache_folder, output_folder
from detector.cli.thresholds import add_threshold_options, check_thresholds, default_thresholds, thresholds
from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.writing import WRITTEN_FORMATS, check_new_folder, write_dataset
from detector.images.files import find_images
from detector.runtime.files import cache_root

if TYPE_CHECKING:
    from detector.detections import Detections
    from detector.ensemble import Ensemble

_log = logging.getLogger(__name__)


def add_options(parser: Parser) -> None:
    """The options of ``spp data next``."""
    parser.add_argument(
        "images", nargs="+", metavar="UNLABELED", help="images without labels: files, folders, or quoted globs"
    )
    parser.add_argument("--model", type=Path, help="a model file (default: the one that comes with the package)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="where the backbone's weights are, if not there")
    add_computing_options(parser)
    parser.add_argument("--count", type=int, default=10, metavar="N", help="how many images (default: 10)")
    parser.add_argument(
        "--format", choices=WRITTEN_FORMATS, default="voc", help="the layout of the drafts (default: voc)"
    )
    parser.add_argument(
        "--output",
        type=output_folder,
        default=Path("to-label"),
        metavar="DIR",
        help="the folder to write images and drafts to (default: to-label)",
    )
    parser.add_argument(
        "--cache", type=cache_folder, metavar="DIR", help="folder of cached features (default: one in the user's cache)"
    )
    add_threshold_options(parser, "by class, where F1 was best on held-out images; 0 for a model without calibration")


@dataclass(frozen=True, eq=False)
class Seen:
    """An image as a model sees it: size ``(height, width)``, all that it finds, its doubt, and its look ``(C,)``."""

    path: Path
    size: tuple[int, int]
    found: Detections
    doubt: float
    look: NDArray[np.float32]


def next_images(options: Namespace) -> int:
    """Write the images whose labels would teach most to a folder, with drafts of their boxes, and tell them."""
    from detector.ensemble import load_ensemble
    from detector.runs.next_images import choose

    if options.count < 1:
        raise ValueError(f"--count must be at least 1, but is {options.count}")
    check_thresholds(options)
    paths = find_images(options.images)
    check_output(options, paths)
    model = load_ensemble(
        None if options.model is None else [options.model],
        options.device,
        None if options.weights is None else [options.weights],
        runtime=options.runtime,
    )
    least = thresholds(options, model)
    least = default_thresholds(model) if least is None else least
    seen = see_all(model, paths, options.cache)
    if not seen:
        raise ValueError(f"none of the {len(paths)} images could be read")
    rows = choose(np.array([each.doubt for each in seen]), np.stack([each.look for each in seen]), options.count)
    drafts = {row: draft(seen[row], least) for row in rows}
    dataset = Dataset(tuple(drafts.values()), model.class_names, "drafts")
    write_dataset({"": dataset}, options.output, options.format, options.overwrite)
    for row in rows:
        print(f"{printable(seen[row].path)}\t{seen[row].doubt:.3f}\t{len(drafts[row].labels)}")
    _log.info("%s: %d of %d images, with drafts of their boxes", options.output, len(rows), len(seen))
    return 0 if len(seen) == len(paths) else 2


def check_output(options: Namespace, paths: Sequence[Path]) -> None:
    """Raise the errors of an output folder that holds something, or that would replace the images."""
    check_new_folder(options.output, options.overwrite)
    target = options.output.resolve()
    if inside := [path for path in paths if target in path.resolve().parents]:
        raise ValueError(f"{options.output}: must not hold what is read, but holds {inside[0]}")


def see_all(model: Ensemble, paths: Sequence[Path], cache: Path | None) -> list[Seen]:
    """The images that can be read, as a model of one detector sees them; the others are told.

    What is computed of an image is kept in the cache: a run that was killed finds it there.
    """
    from detector.runs.next_images import doubt, look

    (detector,) = model.detectors
    if cache is None:
        cache = cache_root() / "unlabeled"
        _log.info("features are kept in %s; spp cache --clean frees the space", cache)
    features = detector.cache(cache)
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    seen = []
    for path in progress(paths, "images"):
        image_id = str(path.resolve())  # one cache for all folders
        try:
            found = detector.detect_cached(features, Annotation(image_id, path, *nothing))
            maps = features.maps(image_id, path)
        except (ValueError, OSError) as error:
            report(error if str(path) in str(error) else ValueError(f"{path}: {error}"))
            continue
        seen.append(Seen(path, maps.image_size, found, doubt(found), look(maps)))
    return seen


def draft(seen: Seen, least: NDArray[np.float32]) -> Annotation:
    """What reaches the thresholds ``(K,)``, in whole pixels, which all labeling tools read."""
    found = seen.found.reaching(least)
    boxes = clip(np.rint(found.boxes), *seen.size)
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return Annotation(seen.path.stem, seen.path, boxes[kept], found.labels[kept], np.zeros(kept.sum(), np.bool_))
