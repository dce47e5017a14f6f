"""The command that detects, with a detector that takes no time: formats, thresholds, and what it must not replace."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.commands import detect
from detector.datasets.coco import load_coco
from detector.datasets.voc import load_voc
from detector.detections import Detections
from detector.ensemble import Ensemble
from detector.heads.calibration import PRECISIONS, Calibration
from detector.images.files import read_image, write_image
from tests.fakes import NAMES, coloured, fake_detector

Call = Callable[..., int]

# scores of `coloured`: red 150 twice (one box next to the other), green 100
CALIBRATION = Calibration(
    np.array([0.01, 0.1]), np.array([0, -5]), np.array([120, 101]), np.full((PRECISIONS, 2), [140.0, np.inf])
)


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command in an empty folder; its exit code."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path, calibration: Calibration | None = None, copies: int = 1) -> int:
        model = Ensemble([replace(fake_detector(), calibration=calibration)] * copies)
        monkeypatch.setattr("detector.ensemble.load_ensemble", lambda *_: model)
        monkeypatch.setattr(sys, "argv", ["spp-detect", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            detect.main()
        code = ended.value.code
        assert isinstance(code, int)
        return code

    return run


def photograph(path: Path, image: Any = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, coloured() if image is None else image)
    return path


RED, GREEN = [0.0, 0.0, 64.0, 64.0], [96.0, 0.0, 160.0, 64.0]


def test_without_calibration_all_is_as_ever(call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = photograph(tmp_path / "a.png")
    assert call(image, "--json", "found.json") == 0
    out, err = capsys.readouterr()
    assert out == f"{image}\tred\t150.000\t0.0\t0.0\t64.0\t64.0\n{image}\tgreen\t100.000\t96.0\t0.0\t160.0\t64.0\n"
    assert err == f"{image}: 2 found, drawn in detections/a.png\n"
    found = [{"label": "red", "score": 150.0, "box": RED}, {"label": "green", "score": 100.0, "box": GREEN}]
    record = {"image": str(image), "width": 160, "height": 160, "detections": found}
    assert (tmp_path / "found.json").read_text() == json.dumps([record], indent=2) + "\n"
    assert call(image, "--json", "-") == 0
    assert capsys.readouterr().out == json.dumps([record], indent=2) + "\n"


def test_calibrated_models_tell_probabilities_and_know_thresholds(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = photograph(tmp_path / "a.png")

    def labels(*arguments: str) -> list[str]:
        assert call(image, "--json", "found.json", "--no-drawing", *arguments, calibration=CALIBRATION) == 0
        (record,) = json.loads((tmp_path / "found.json").read_text())
        for each in record["detections"]:
            assert list(each) == ["label", "score", "probability", "box"]
            odds = {"red": 1.5, "green": 5}[each["label"]]
            assert each["probability"] == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-6)
        return [each["label"] for each in record["detections"]]

    # by default from the best F1 on: 120 of red, 101 of green, which scores 100
    assert labels() == ["red"]
    assert labels("--min-score", "0") == ["red", "green"]
    assert labels("--min-score", "150") == ["red"]
    assert labels("--min-probability", "0.9") == ["green"]
    assert labels("--min-probability", "0.8") == ["red", "green"]
    capsys.readouterr()
    assert labels("--precision", "0.9") == ["red"]
    err = capsys.readouterr().err
    assert "precision 0.9 was not reached, and nothing is kept, of green\n" in err
    # no file of a drawn copy, in any of them
    assert f"{image}: 1 found\n" in err
    assert not (tmp_path / "detections").exists()


def test_nothing_found_says_what_was_nearest(call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = photograph(tmp_path / "a.png")

    def words(*arguments: str | Path, calibration: Calibration | None = None) -> str:
        assert call(*arguments, "--no-drawing", calibration=calibration) == 0
        out, err = capsys.readouterr()
        assert out == ""
        return err.splitlines()[0].partition("nothing found; ")[2]

    assert (
        words(image, "--min-score", "150.5") == "the best box is 'red' with a score of 150.00, 0.50 below the threshold"
    )
    # nearest to the threshold of its own class
    thresholds = replace(CALIBRATION, best_f1=np.array([160, 101]))
    assert (
        words(image, calibration=thresholds)
        == "the best box is 'green' with a score of 100.00, 1.00 below the threshold"
    )
    black = photograph(tmp_path / "b.png", np.zeros((160, 160, 3), np.uint8))
    assert words(black) == "no box scores -1.5 or more"


def test_every_format_in_one_folder(call: Call, tmp_path: Path) -> None:
    first, second = photograph(tmp_path / "x" / "a.png"), photograph(tmp_path / "y" / "a.png")
    empty = photograph(tmp_path / "x" / "b.png", np.zeros((160, 160, 3), np.uint8))
    formats = "json,jsonl,csv,coco,voc,yolo,crops"
    images = (first, second, empty)
    assert call(*images, "--format", formats, "--output", "out") == 0
    out = tmp_path / "out"
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file() and path.name[0] != "."}
    names = ("a", "a_2", "b")
    expected = {f"{name}.png" for name in names} | {f"voc/{name}.xml" for name in names}
    expected |= {f"yolo/{name}.txt" for name in names} | {"yolo/classes.txt"}
    expected |= {f"crops/{label}/{name}.png" for label in NAMES for name in ("a", "a_2")}
    assert files == expected | {"detections.json", "detections.jsonl", "detections.csv", "coco.json"}

    records = json.loads((out / "detections.json").read_text())
    assert [each["image"] for each in records] == [str(image) for image in images]
    assert [json.loads(line) for line in (out / "detections.jsonl").read_text().splitlines()] == records
    rows = [*csv.DictReader(io.StringIO((out / "detections.csv").read_text()))]
    assert len(rows) == 4
    assert rows[0] == {
        "image": str(first),
        "width": "160",
        "height": "160",
        "label": "red",
        "score": "150.0",
        "probability": "",
        "x1": "0.0",
        "y1": "0.0",
        "x2": "64.0",
        "y2": "64.0",
    }
    dataset = load_coco(out / "coco.json", None, NAMES)
    assert [each.boxes.tolist() for each in dataset] == [[RED, GREEN], [RED, GREEN], []]
    assert dataset[0].labels.tolist() == [0, 1]
    assert (out / "yolo" / "a.txt").read_text().splitlines() == [
        "0 0.200000 0.200000 0.400000 0.400000",
        "1 0.800000 0.200000 0.400000 0.400000",
    ]
    assert (out / "yolo" / "b.txt").read_text() == ""
    assert (out / "yolo" / "classes.txt").read_text() == "red\ngreen\n"
    assert read_image(out / "crops" / "green" / "a.png").tolist() == coloured()[:64, 96:].tolist()

    # the annotations in the folders of a devkit
    root = tmp_path / "devkit"
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "new.txt").write_text("a\nb\n")
    (out / "voc").rename(root / "Annotations")
    (tmp_path / "x").rename(root / "JPEGImages")
    again = load_voc(root, "new", NAMES)
    assert [each.boxes.tolist() for each in again] == [[RED, GREEN], []]


def test_coco_files_are_read_by_pycocotools(call: Call, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    image = photograph(tmp_path / "a.png")
    assert call(image, "--format", "coco", calibration=CALIBRATION) == 0
    read = coco.COCO(str(tmp_path / "detections" / "coco.json"))
    assert read.loadCats(read.getCatIds()) == [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}]
    (row,) = read.loadAnns(read.getAnnIds(imgIds=[1]))
    assert row["bbox"] == [0, 0, 64, 64] and row["area"] == 64 * 64
    assert (row["score"], row["probability"]) == (150, pytest.approx(1 / (1 + np.exp(-1.5)), abs=1e-6))


def test_a_list_on_standard_input(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [photograph(tmp_path / name) for name in ("a b.png", "[1].png")]
    lines = io.TextIOWrapper(io.BytesIO(b"a b.png\r\n\n[1].png"))
    monkeypatch.setattr(sys, "stdin", lines)
    assert call("-", "--json", "found.json") == 0
    assert [each["image"] for each in json.loads((tmp_path / "found.json").read_text())] == [
        each.name for each in names
    ]


def test_files_of_others_are_never_replaced(call: Call, tmp_path: Path) -> None:
    image = photograph(tmp_path / "photo.png")
    other = photograph(tmp_path / "photo_2.png", np.full((5, 5, 3), 7, np.uint8))
    before = image.read_bytes(), other.read_bytes()
    for _ in range(2):  # its own are, so that a second run leaves no more of them
        assert call(image, "--output", ".", "--format", "json") == 0
        assert (image.read_bytes(), other.read_bytes()) == before
        assert sorted(path.name for path in tmp_path.glob("[!.]*")) == [
            "detections.json",
            *("photo.png", "photo_2.png", "photo_3.png"),
        ]
    # an input stays an input, who ever wrote it
    mine = tmp_path / "photo_3.png"
    drawn = mine.read_bytes()
    assert call(mine, "--output", ".") == 0
    assert mine.read_bytes() == drawn
    # `--overwrite` replaces files, but no inputs
    assert call(image, "--output", ".", "--overwrite") == 0
    assert image.read_bytes() == before[0] and other.read_bytes() != before[1]


@pytest.mark.parametrize("target", ["photo.png", "notes.json", "coco.json"])
def test_json_replaces_only_json_of_its_own(
    call: Call, tmp_path: Path, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    image = photograph(tmp_path / "photo.png")
    (tmp_path / "notes.json").write_text('[\n  {\n    "image": "x.jpg",\n    "annotations": []\n  }\n]\n')
    (tmp_path / "coco.json").write_text('{"images": []}')
    before = (tmp_path / target).read_bytes()
    assert call(image, "--json", target) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: --json {target} ") and err.count("\n") == 1
    assert (tmp_path / target).read_bytes() == before
    assert not (tmp_path / "detections").exists()
    assert call(image, "--json", target, "--overwrite") == (2 if target == "photo.png" else 0)
    # empty ones and its own are no loss
    (tmp_path / "new.json").touch()
    for _ in range(2):
        assert call(image, "--json", "new.json") == 0


def test_a_device_a_pipe_and_a_link_are_written_to(call: Call, tmp_path: Path) -> None:
    image = photograph(tmp_path / "photo.png")
    assert call(image, "--json", "/dev/null") == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)  # noqa: PTH116
    (tmp_path / "link.json").symlink_to("target.json")
    assert call(image, "--json", "link.json") == 0
    assert (tmp_path / "link.json").is_symlink()
    assert len(json.loads((tmp_path / "target.json").read_text())) == 1


def test_odd_names_cost_nothing(call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = photograph(tmp_path / "photo.png").read_bytes()
    names = [b"\xff.png", b"a" * 251 + b".png", b"tab\t.png", b"line\nend.png"]
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(data)  # noqa: PTH118
    (tmp_path / "loop.png").symlink_to("loop.png")
    images = [os.fsdecode(name) for name in names]
    formats = "json,jsonl,csv,coco,voc,yolo,crops"
    assert call(*images[:2], "loop.png", *images[2:], "--format", formats) == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 8
    assert all(len(line.split("\t")) == 7 for line in out.splitlines())
    assert [line for line in err.splitlines() if "error" in line] == [
        "error: loop.png: Too many levels of symbolic links"
    ]
    assert len([*(tmp_path / "detections").glob("*.png")]) == 4
    assert len(json.loads((tmp_path / "detections" / "detections.json").read_text())) == 4


def test_an_image_whose_copy_cannot_be_written_ends_nothing(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = photograph(tmp_path / "wide.png", np.zeros((430, 17000, 3), np.uint8)).rename(tmp_path / "wide.webp")
    good = photograph(tmp_path / "good.png")
    assert call(wide, good, "--json", "found.json") == 2
    assert "error: " in capsys.readouterr().err
    assert [each["image"] for each in json.loads((tmp_path / "found.json").read_text())] == [str(good)]


def test_results_are_there_whole_or_not_at_all(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [photograph(tmp_path / f"{number}.png") for number in range(3)]
    monkeypatch.setattr(detect.Run, "show", interrupted_after(2))
    assert call(*images, "--json", "found.json", "--format", "json,jsonl,csv,coco", "--no-drawing") == 130
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".png"] == [".spp-detect"]


def interrupted_after(n: int) -> Callable[..., None]:
    shown: list[object] = []

    def show(*arguments: object) -> None:
        shown.append(arguments)
        if len(shown) > n:
            raise KeyboardInterrupt

    return show


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--min-probability", "1.5"], "must be in 0..1, but is 1.5"),
        (["--precision", "nan"], "must be in 0..1, but is nan"),
        (["--precision", "0.995"], "--precision must be in 0.01..0.99, but is 0.995"),
        (["--min-score", "nan"], "must be a number, but is nan"),
        (["--min-score", "0", "--precision", "0.9"], "not allowed with argument"),
        (["--precision", "0.9"], "--precision needs a model with a calibration"),
        (["--min-probability", "0.5"], "--min-probability needs a model with a calibration"),
        (["--format", "json,pdf"], "there is no format 'pdf'; there are json, jsonl, csv, coco, voc, yolo, crops"),
        (["--output", "photo.png"], "photo.png is not a folder that may be written to"),
        (["--output", "photo.png/deeper"], "photo.png is not a folder that may be written to"),
    ],
)
def test_wrong_options(
    call: Call, tmp_path: Path, arguments: Sequence[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    image = photograph(tmp_path / "photo.png")
    assert call(image, *arguments) == 2
    out, err = capsys.readouterr()
    assert reason in err and err.count("\n") == 1 and not out
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_several_models_have_no_probabilities(call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = photograph(tmp_path / "photo.png")
    assert call(image, "--precision", "0.9", calibration=CALIBRATION, copies=2) == 2
    assert "--precision goes with one model" in capsys.readouterr().err


def test_memory_does_not_grow_with_the_images(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The records of the images that come later would take 5 kB each."""
    boxes = np.tile(np.array([[0, 0, 9, 9]], np.float32), (10, 1))
    many = Detections(boxes, np.zeros(10, int), np.arange(10, dtype=np.float32), NAMES)
    monkeypatch.setattr("detector.commands.detecting.Detect.detect", lambda *_: (many, ""))
    monkeypatch.setattr("detector.images.files.read_image", lambda path: np.zeros((10, 10, 3), np.uint8))
    monkeypatch.setattr("detector.images.files.image_size", lambda path: (10, 10))
    peaks = []
    for count in (20, 50, 350):
        folder = f"out{count}"
        tracemalloc.start()
        names = [f"{number}.png" for number in range(count)]
        arguments = ("--format", "json,jsonl,csv,coco", "--json", f"{count}.json", "--no-drawing", "--output", folder)
        monkeypatch.setattr(sys, "stdout", open(os.devnull, "w"))  # noqa: SIM115, PTH123
        assert call(*names, *arguments) == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < 300 * 2000
    assert len((tmp_path / "out350" / "detections.jsonl").read_text().splitlines()) == 350
