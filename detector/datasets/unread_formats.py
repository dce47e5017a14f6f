"""Name the tool of a dataset that is not read, and the export of it that is."""

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from detector.images.files import SUFFIXES

_START = 1 << 16  # bytes of a file that show its format
_MAX_OPENED = 50  # files with text


class _Unread(NamedTuple):
    """A format that is not read.

    tool: its name. remedy: the export to use instead. name: pattern of the path of a file below the folder, with
    slashes. keys: texts that the start of such a file contains, all of them.
    """

    tool: str
    remedy: str
    name: str
    keys: tuple[bytes, ...] = ()


_COCO = "export it as COCO"
_UNREAD = (
    _Unread("a Supervisely project", _COCO, r"\.json$", (b'"classTitle"', b'"exterior"')),
    _Unread("a Supervisely project", _COCO, r"(^|/)meta\.json$", (b'"classes"', b'"tags"', b'"shape"')),
    _Unread("a Labelbox export", "convert it to COCO", r"\.(nd)?jsonl?$", (b'"data_row"', b'"projects"')),
    _Unread("a Labelbox export", "convert it to COCO", r"\.json$", (b'"Labeled Data"',)),
    _Unread("an export of Scale", "convert it to COCO", r"\.jsonl?$", (b'"task_id"', b'"response"')),
    _Unread("a V7 Darwin export", _COCO, r"\.json$", (b'"annotations"', b'"slots"')),
    _Unread("a V7 Darwin export", _COCO, r"\.json$", (b'"annotations"', b'"workview_url"')),
    _Unread("a SuperAnnotate project", _COCO, r"\.json$", (b'"metadata"', b'"instances"')),
    _Unread("a Dataloop export", _COCO, r"\.json$", (b'"annotations"', b'"datasetId"')),
    _Unread("a Dataloop export", _COCO, r"\.json$", (b'"annotations"', b'"itemMetadata"')),
    _Unread("a Kili export", _COCO, r"\.json$", (b'"jsonResponse"',)),
    _Unread("a Prodigy export", "convert its spans to COCO", r"\.jsonl$", (b'"_task_hash"',)),
    _Unread("a project of VIA 3", "export it as COCO in VIA 2", r"\.json$", (b'"vid_list"', b'"metadata"')),
    _Unread("a FiftyOne dataset", "export it as a COCODetectionDataset", r"\.json$", (b'"sample_fields"',)),
    _Unread("an Encord export", _COCO, r"\.json$", (b'"label_hash"',)),
    _Unread("a Hasty export", _COCO, r"\.json$", (b'"export_format_version"',)),
    _Unread("BDD100K", "convert it to COCO", r"\.json$", (b'"box2d"',)),
    _Unread("Cityscapes", "convert its polygons to COCO", r"_polygons\.json$"),
    _Unread("a CrowdHuman list", "convert it to COCO", r"\.odgt$"),
    _Unread("a SageMaker Ground Truth manifest", "convert it to COCO", r"\.manifest$"),
    _Unread("a SageMaker Ground Truth manifest", "convert it to COCO", r"\.jsonl?$", (b'"source-ref"',)),
    _Unread("a Vertex AI list", "convert it to COCO", r"\.jsonl$", (b'"imageGcsUri"',)),
    _Unread("a TFRecord dataset", _COCO, r"\.(tf)?records?(-\d+-of-\d+)?$"),
    _Unread("a Parquet or Arrow dataset", "save its images and a metadata.jsonl (ImageFolder)", r"\.(parquet|arrow)$"),
    _Unread("WIDER FACE", "convert it to COCO", r"(^|/)wider_face_\w+\.(txt|mat)$"),
    _Unread("DOTA, with oriented boxes", "convert it to COCO", r"(^|/)label_?txt[^/]*/.+\.txt$"),
    _Unread("DOTA, with oriented boxes", "convert it to COCO", r"\.txt$", (b"imagesource:", b"gsd:")),
    _Unread("KITTI", "convert its label_2 to COCO", r"(^|/)label_2/.+\.txt$"),
    _Unread("MOT Challenge", "convert its gt.txt to COCO", r"(^|/)gt/gt\.txt$"),
    _Unread("Roboflow's YOLO Keras or PyTorch export", _COCO, r"(^|/)_annotations\.txt$"),
    _Unread("MATLAB's annotations", "convert them to COCO", r"\.mat$"),
    _Unread("pickled annotations (MMDetection)", "convert them to COCO; pickles are never opened", r"\.(pkl|pickle)$"),
    _Unread("a project of VoTT without its assets", "export it as VoTT JSON", r"\.vott$"),
)
_NUMBER = rb"-?\d+(\.\d+)?"
_LINES = (
    ("KITTI", "convert its label_2 to COCO", re.compile(rb"^\w+ %b \d( %b){12,13}\s*$" % (_NUMBER, _NUMBER), re.M)),
    ("DOTA, with oriented boxes", "convert it to COCO", re.compile(rb"^(%b ){8}[A-Za-z][\w-]* \d\s*$" % _NUMBER, re.M)),
)
"""Formats of text files without a mark, by the pattern of a line."""

_MASKS = re.compile(r"(^|/)(segmentation(class|object)\w*|masks?|gtfine|trimaps?)(/|$)|[_\-.]masks?\.", re.IGNORECASE)
_OPENED = (".json", ".jsonl", ".ndjson", ".txt")


def unread_format(root: Path, files: Sequence[Path], names: Sequence[str] = ()) -> str | None:
    """Return a sentence that names the tool of the dataset at ``root`` and the remedy; None for an unknown one.

    files: those below ``root``. names: all of an archive, where not all files are unpacked.
    """
    here = {path.relative_to(root).as_posix(): path for path in files}
    for name in dict.fromkeys((*here, *names)):
        for each in _UNREAD:
            if not each.keys and re.search(each.name, name, re.IGNORECASE):
                return _sentence(each.tool, name, each.remedy)
    opened = ((name, path) for name, path in here.items() if path.suffix.lower() in _OPENED)
    for name, path in islice(opened, _MAX_OPENED):
        start = _start_of(path)
        for each in _UNREAD:
            if each.keys and re.search(each.name, name, re.IGNORECASE) and all(key in start for key in each.keys):
                return _sentence(each.tool, name, each.remedy)
        for tool, remedy, line in _LINES:
            if path.suffix.lower() == ".txt" and line.search(start):
                return _sentence(tool, name, remedy)
    masks = (name for name in here if Path(name).suffix.lower() in SUFFIXES and _MASKS.search(name))
    mask = next(masks, None)
    return mask and _sentence("a folder of masks without boxes", mask, "export the boxes around the masks as COCO")


def _sentence(tool: str, name: str, remedy: str) -> str:
    return f"this is {tool} ({name}), which is not read; {remedy}"


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_START).replace(b"\0", b"")
