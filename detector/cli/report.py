"""A report to look at, from saved detections: spp report A [B] (--voc ROOT --split val | --coco JSON).

A and B are folders of comp4 files, ours or anybody's, COCO result files, or folders of earlier reports. Of two runs,
the report is on the second one, and shows what changed.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any, get_args

from detector.cli.console import Parser
from detector.cli.options import add_data_options, data_source, load_data, precomputed_boxes, split_name
from detector.cli.outputs import output_folder, result_folder
from detector.datasets.dataset import Dataset
from detector.evaluation.coco import CocoIds, coco_ids, plain_ids, read_coco_results
from detector.evaluation.coverage import Coverage, cover, gather_coverage
from detector.evaluation.outcomes import gather_outcomes
from detector.evaluation.voc import ClassDetections, Metric
from detector.evaluation.voc_results import read_detections
from detector.results.files import ResultFolder
from detector.runtime.optional import optional


def parser() -> Parser:
    parser = Parser(description="A report to look at, from saved detections; of two runs, with what changed.")
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="a folder of comp4_det_<split or JSON>_<class>.txt files, a COCO result file, or the folder of a report; "
        "two of them are compared",
    )
    add_data_options(parser)
    parser.add_argument("--metric", choices=("voc07", "area"), default="voc07", help="11 points (default) or area")
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="the metrics.json of another run")
    parser.add_argument(
        "--output", type=output_folder, default="report", metavar="DIR", help="folder of the report (default: report)"
    )
    return parser


def main() -> int:
    options = parser().parse_args()
    if len(options.runs) > 2:
        raise ValueError(f"one run is reported on, or two are compared, but there are {len(options.runs)}")
    data_source(options)
    need_objects = options.classes is not None
    dataset = load_data(options, open_images=False, need_objects=need_objects, default_split="val")
    folder = report_folder(options, "output", dataset)
    baseline = prepare_report(options, dataset)
    split = split_name(options)
    ids = ids_of(options, dataset)
    found = [
        gather_outcomes(read_run(path, split, ids, dataset), dataset, dataset.class_names) for path in options.runs
    ]
    from detector.report.write import make_report

    path = make_report(
        folder,
        found[-1],
        dataset,
        options.metric,
        ids=ids,
        coverage=known_coverage(options.proposals, dataset),
        circumstances={"detections": str(options.runs[-1])},
        baseline=baseline,
        previous=found[0] if len(found) > 1 else None,
        names=(str(options.runs[0]), str(options.runs[-1])),
    )
    print(path)
    return 0


def report_folder(options: Namespace, name: str, dataset: Dataset) -> ResultFolder:
    """The folder of a report that an option names; ValueError where the files of a report cannot be written there."""
    from detector.report.write import REPORT_FILES

    runs: list[Path] = getattr(options, "runs", [])
    read = [each.path for each in dataset] + [file for run in runs if run.is_dir() for file in run.iterdir()]
    folder = result_folder(options, name, read)
    folder.check(REPORT_FILES)
    return folder


def prepare_report(options: Namespace, dataset: Dataset) -> dict[str, Any] | None:
    """The content of the baseline, if given; told before any work: what is missing, or cannot be compared."""
    if options.metric not in get_args(Metric):
        raise ValueError(f"--report goes with --metric {' or '.join(get_args(Metric))}, but not {options.metric}")
    for package in ("matplotlib", "jinja2"):
        optional(package, "report")
    from detector.report.write import read_baseline

    return options.baseline and read_baseline(options.baseline, options.metric, len(dataset))


def known_coverage(proposals: Path | None, dataset: Dataset) -> Coverage | None:
    """What boxes that were computed elsewhere cover, if given."""
    boxes = precomputed_boxes(proposals)
    if boxes is None:
        return None
    parts = [boxes[each.image_id] for each in dataset]
    covers = [cover(part, each.boxes) for part, each in zip(parts, dataset, strict=True)]
    return gather_coverage(covers, [len(part) for part in parts])


def ids_of(options: Namespace, dataset: Dataset) -> CocoIds:
    """What COCO's files call the images and classes of the data set that was loaded."""
    is_file = options.data is not None and options.data.suffix == ".json" and options.data.is_file()
    path = options.data if is_file else options.coco
    return plain_ids(dataset) if path is None else coco_ids(path, dataset)


def read_run(path: Path, split: str, ids: CocoIds, dataset: Dataset) -> dict[str, ClassDetections]:
    """Saved detections of whatever form."""
    saved = path / "detections.json"
    if saved.is_file() or path.is_file():
        return read_coco_results(saved if saved.is_file() else path, ids, dataset.class_names)
    return read_detections(path, split, dataset.class_names, [each.image_id for each in dataset])
