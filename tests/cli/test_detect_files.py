"""The command that detects: lists, odd names, and files that it must not replace or leave half-written."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from detector.cli import detect
from detector.detections import Detections
from tests.cli.detecting import CALIBRATION, Call, photograph
from tests.fakes import NAMES


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
    monkeypatch.setattr(detect.ResultWriter, "show", interrupted_after(2))
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
        (["--precision", "0.9"], "precision needs one model with a calibration"),
        (["--min-probability", "0.5"], "min_probability needs one model with a calibration"),
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
    assert "precision needs one model with a calibration" in capsys.readouterr().err


@pytest.mark.all
def test_memory_does_not_grow_with_the_images(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The records of the images that come later would take 5 kB each."""
    boxes = np.tile(np.array([[0, 0, 9, 9]], np.float32), (10, 1))
    many = Detections(boxes, np.zeros(10, int), np.arange(10, dtype=np.float32), NAMES)
    monkeypatch.setattr("detector.ensemble.Ensemble.detect", lambda *_, **settings: many)
    monkeypatch.setattr("detector.runs.detect_images.read_image", lambda path: np.zeros((10, 10, 3), np.uint8))
    monkeypatch.setattr("detector.runs.detect_images.image_size", lambda path: (10, 10))
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
