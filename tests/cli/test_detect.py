"""The command that detects: probabilities, thresholds and formats."""

from __future__ import annotations

import csv
import io
import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detector.cli.detect import parser
from detector.datasets.loading import load_coco, load_voc
from detector.heads.calibration import PRECISIONS, Calibration
from detector.images.files import read_image
from detector.thresholds import MIN_PROBABILITY
from tests.cli.detecting import CALIBRATION, GREEN, RED, Call, photograph
from tests.fakes import NAMES, colored


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


def test_calibrated_models_have_probabilities_and_thresholds(
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

    assert words(image, "--min-score", "150.5") == "the best box is 'red' with 150.00, below the threshold of 150.50"
    # nearest to the threshold of its own class
    learned = {"slopes": np.full(2, 0.01), "offsets": np.zeros(2), "at_precision": np.zeros((PRECISIONS, 2))}
    equal = replace(CALIBRATION, best_f1=np.array([180, 105]), **learned)
    assert words(image, calibration=equal) == "the best box is 'green' with 73 %, below the threshold of 74 %"
    too_weak = replace(CALIBRATION, at_precision=np.full((PRECISIONS, 2), np.inf))
    assert words(image, calibration=too_weak).startswith("the model is too weak to show boxes by default: ")
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
    expected = {f"{name}.png" for name in ("a", "a_2", "b")} | {"yolo/classes.txt"}
    # names of labels are those of their images, with folders where names alone do not differ
    expected |= {f"{path}" for name in ("x/a", "y/a", "x/b") for path in (f"voc/{name}.xml", f"yolo/{name}.txt")}
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
        "probability": "",
        "score": "150.0",
        "x1": "0.0",
        "y1": "0.0",
        "x2": "64.0",
        "y2": "64.0",
    }
    dataset = load_coco(out / "coco.json", None, NAMES)
    assert [each.boxes.tolist() for each in dataset] == [[RED, GREEN], [RED, GREEN], []]
    assert dataset[0].labels.tolist() == [0, 1]
    assert (out / "yolo" / "x" / "a.txt").read_text().splitlines() == [
        "0 0.200000 0.200000 0.400000 0.400000",
        "1 0.800000 0.200000 0.400000 0.400000",
    ]
    assert (out / "yolo" / "x" / "b.txt").read_text() == ""
    assert (out / "yolo" / "classes.txt").read_text() == "red\ngreen\n"
    assert read_image(out / "crops" / "green" / "a.png").tolist() == colored()[:64, 96:].tolist()

    # the annotations in the folders of a devkit
    root = tmp_path / "devkit"
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "new.txt").write_text("a\nb\n")
    (out / "voc" / "x").rename(root / "Annotations")
    (tmp_path / "x").rename(root / "JPEGImages")
    again = load_voc(root, "new", NAMES)
    assert [each.boxes.tolist() for each in again] == [[RED, GREEN], []]


def test_labels_that_would_not_pair_with_their_images_are_refused(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [photograph(tmp_path / name) for name in ("img.jpg", "img.png", "img_2.jpg", "classes.png")]
    (tmp_path / "out" / "voc").mkdir(parents=True)
    (tmp_path / "out" / "voc" / "img_2.xml").write_text("of another program")
    for images, message in (
        (names[:3], "img.jpg and img.png would share one file of labels, img: rename one of the images"),
        (names[3:], "yolo/classes.txt holds the class names"),
        (names[1:3], "img_2.xml exists and was not written by this program; --overwrite replaces it"),
    ):
        relative = [each.name for each in images]
        assert call(*relative, "--format", "yolo,voc", "--no-drawing", "--output", "out") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
        assert not (tmp_path / "out" / "yolo").exists()
    assert call("img.jpg", "img_2.jpg", "--format", "yolo", "--no-drawing", "--output", "out") == 0
    assert sorted(path.name for path in (tmp_path / "out" / "yolo").iterdir()) == [
        "classes.txt",
        "img.txt",
        "img_2.txt",
    ]


def test_the_help_names_the_floor_of_probability() -> None:
    assert f"a probability of {MIN_PROBABILITY:g}" in " ".join(parser().format_help().split())


def test_lines_have_probabilities_and_scores_on_request(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = photograph(tmp_path / "a.png").name
    rest = "0.0\t0.0\t64.0\t64.0\n"
    assert call(image, "--no-drawing", calibration=CALIBRATION) == 0
    assert capsys.readouterr().out == f"a.png\tred\t82 %\t{rest}"
    assert call(image, "--no-drawing", "--scores", calibration=CALIBRATION) == 0
    assert capsys.readouterr().out == f"a.png\tred\t82 %\t150.000\t{rest}"
    for scores in ((), ("--scores",)):
        assert call(image, "--no-drawing", "--min-score", "120", *scores) == 0
        assert capsys.readouterr().out == f"a.png\tred\t150.000\t{rest}"


def test_quiet_prints_results_alone(call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [photograph(tmp_path / "a.png").name, photograph(tmp_path / "b.png", np.zeros_like(colored())).name]
    assert call(*images, "-q", "--no-drawing") == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2 and err == ""
    assert call(*images, "-q", "--no-drawing", "--json", "-") == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 2 and err == ""
    assert call(*images, "gone.png", "-q", "--no-drawing") == 2
    assert capsys.readouterr().err == "error: gone.png: No such file or directory\n"


def test_coco_files_are_read_by_pycocotools(call: Call, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    image = photograph(tmp_path / "a.png")
    assert call(image, "--format", "coco", calibration=CALIBRATION) == 0
    read = coco.COCO(str(tmp_path / "detections" / "coco.json"))
    assert read.loadCats(read.getCatIds()) == [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}]
    (row,) = read.loadAnns(read.getAnnIds(imgIds=[1]))
    assert row["bbox"] == [0, 0, 64, 64] and row["area"] == 64 * 64
    assert (row["score"], row["probability"]) == (150, pytest.approx(1 / (1 + np.exp(-1.5)), abs=1e-6))


def test_a_folder_that_is_not_written_to_need_not_be_writable(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = photograph(tmp_path / "a.png")
    (tmp_path / "detections").write_text("in the way of a folder")
    assert call(image, "--no-drawing", "--json", "-") == 0
    capsys.readouterr()
    assert call(image) == 2
    assert capsys.readouterr().err.startswith("error: detections cannot be written")


def test_an_image_is_no_folder_of_results(call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(photograph(tmp_path / "a.png"), "--output", "result.jpg") == 2
    assert "--output: result.jpg must be a folder, in which results" in capsys.readouterr().err


def test_an_image_through_a_pipe(call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = photograph(tmp_path / "a.png").read_bytes()
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(content))
    writer.start()
    assert call("pipe", "--json", "/dev/stdout") == 0
    writer.join()
    (record,) = json.loads(capsys.readouterr().out)
    assert len(record["detections"]) == 2
    assert (tmp_path / "detections" / "pipe.png").is_file()
