"""Write an HTML report of saved detections, or of the changes between two runs.

spp report A [B] (--data PATH | --voc ROOT --split val | --coco JSON)

A and B are folders of comp4 files, ours or another program's, COCO result files, or folders of earlier reports. The
report on two runs is on the second one, and shows what changed.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from detector.cli.console import Parser
from detector.cli.data_options import add_data_options, data_source, load_data, precomputed_boxes, split_name
from detector.cli.outputs import output_folder, result_folder
from detector.datasets.dataset import Dataset
from detector.datasets.format_detection import coco_files
from detector.evaluation.coco_results import CocoIds, coco_ids, plain_ids, read_coco_results
from detector.evaluation.coverage import Coverage, image_coverage, join_coverage
from detector.evaluation.outcomes import ClassDetections, gather_outcomes
from detector.evaluation.voc import Metric, default_metric
from detector.evaluation.voc_results import read_detections
from detector.results.files import ResultFolder
from detector.runtime.optional import optional


def parser() -> Parser:
    parser = Parser(description="Write an HTML report of saved detections, or of the changes between two runs.")
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="a folder of files comp4_det_<split or JSON>_<class>.txt, a COCO result file, or the folder of a report; "
        "two are compared",
    )
    add_data_options(parser)
    add_metric_option(parser, get_args(Metric))
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="metrics.json of another run to compare with")
    parser.add_argument(
        "--output", type=output_folder, default="report", metavar="DIR", help="folder of the report (default: report)"
    )
    return parser


def main() -> int:
    options = parser().parse_args()
    if len(options.runs) > 2:
        raise ValueError(f"give one run, or two to compare, but not {len(options.runs)}")
    data_source(options)
    need_objects = options.classes is not None
    dataset = load_data(options, open_images=False, need_objects=need_objects, default_split="val")
    options.metric = options.metric or default_metric(dataset)
    folder = report_folder(options, "output", dataset)
    baseline = prepare_report(options, dataset)
    ids = coco_ids_of(options, dataset)
    runs = [read_run(path, split_name(options), ids, dataset) for path in options.runs]
    outcomes = [gather_outcomes(run, dataset, dataset.class_names) for run in runs]
    from detector.report.write import make_report

    path = make_report(
        folder,
        outcomes[-1],
        dataset,
        options.metric,
        ids=ids,
        coverage=coverage_of_boxes(options.proposals, dataset),
        circumstances={"detections": str(options.runs[-1])},
        baseline=baseline,
        previous=outcomes[0] if len(outcomes) > 1 else None,
        names=(str(options.runs[0]), str(options.runs[-1])),
    )
    print(path)
    return 0


def add_metric_option(parser: Parser, metrics: Sequence[str]) -> None:
    """Add ``--metric``, which is None where `default_metric` is to decide."""
    parser.add_argument(
        "--metric",
        choices=metrics,
        help="11 points of VOC2007, area under the curve (mAP50), or COCO's (default: area; voc07 for VOC2007)",
    )


def report_folder(options: Namespace, name: str, dataset: Dataset) -> ResultFolder:
    """Return the folder of a report that an option names. Raises ValueError where its files cannot be written."""
    from detector.report.write import REPORT_FILES

    runs: list[Path] = getattr(options, "runs", [])
    read = [each.path for each in dataset] + [file for run in runs if run.is_dir() for file in run.iterdir()]
    folder = result_folder(options, name, read)
    folder.check(REPORT_FILES)
    return folder


def prepare_report(options: Namespace, dataset: Dataset) -> dict[str, Any] | None:
    """Return the content of the baseline, if given; raise, before any work, for what a report cannot do."""
    if options.metric not in get_args(Metric):
        raise ValueError(f"--report needs --metric {' or '.join(get_args(Metric))}, but got {options.metric}")
    from detector.report.plots import import_matplotlib
    from detector.report.write import read_baseline

    import_matplotlib()
    optional("jinja2", "report")
    return options.baseline and read_baseline(options.baseline, options.metric, len(dataset))


def coverage_of_boxes(proposals: Path | None, dataset: Dataset) -> Coverage | None:
    """Return the coverage of the boxes in a file, if given."""
    boxes = precomputed_boxes(proposals)
    if boxes is None:
        return None
    return join_coverage([image_coverage(boxes[each.image_id], each.boxes) for each in dataset])


def coco_ids_of(options: Namespace, dataset: Dataset) -> CocoIds:
    """Return the ids of images and classes in COCO files: those of the data, if they are such files."""
    if options.coco is not None:
        return coco_ids([options.coco], dataset)
    joined = options.data is None or options.more_data
    return plain_ids(dataset) if joined else coco_ids(coco_files(options.data), dataset)


def read_run(path: Path, split: str, ids: CocoIds, dataset: Dataset) -> dict[str, ClassDetections]:
    """Read saved detections: a report's folder, a COCO result file, or a folder of comp4 files."""
    saved = path / "detections.json"
    if saved.is_file() or path.is_file():
        return read_coco_results(saved if saved.is_file() else path, ids, dataset)
    return read_detections(path, split, dataset.class_names, [each.image_id for each in dataset])
