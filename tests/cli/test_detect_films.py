"""The command that detects: films."""

from __future__ import annotations

import csv
import json
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from detector.cli import detect_films
from detector.cli.detect_films import frames_of
from detector.images.film import Film, Frame, Sampling, open_film
from detector.parallel.map_images import Sequential
from tests.cli.detecting import CALIBRATION, Call, photograph
from tests.images.films import FakeCapture, write_cut_film, write_film
from tests.scripts import spp


def test_a_film_is_drawn_and_its_frames_are_written(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_film(tmp_path / "film.mp4", 20, red_every=2)
    arguments = (
        "film.mp4",
        "--format",
        "jsonl,csv,coco,counts",
        "--json",
        "all.json",
        "--fps",
        "5",
        "--min-probability",
        "0.7",
    )
    assert call(*arguments, calibration=CALIBRATION) == 0
    out, err = capsys.readouterr()
    assert "film.mp4: 10 frames, 20 found, drawn in detections/film.mp4\n" in err
    assert out.splitlines()[0].startswith("film.mp4 frame 0\tred\t8") and len(out.splitlines()) == 20
    records = json.loads((tmp_path / "all.json").read_text())
    assert [each["frame"] for each in records] == [2 * n for n in range(10)]
    assert [each["time"] for each in records] == pytest.approx([0.2 * n for n in range(10)])
    assert {len(each["detections"]) for each in records} == {2}
    results = tmp_path / "detections"
    lines = [json.loads(line) for line in (results / "detections.jsonl").read_text().splitlines()]
    assert lines == records and set(lines[0]) == {"image", "frame", "time", "width", "height", "detections"}
    with (results / "detections.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [(row["image"], row["frame"], row["time"]) for row in rows[2:4]] == [("film.mp4", "2", "0.2")] * 2
    coco = json.loads((results / "coco.json").read_text())
    assert [each["file_name"] for each in coco["images"]][:2] == ["film_000000.jpg", "film_000002.jpg"]
    with (results / "counts.csv").open(newline="") as file:
        seconds = [*csv.DictReader(file)]
    assert [(row["second"], row["frames"]) for row in seconds] == [("0", "5"), ("1", "5")]
    # one of each, and one box next to the red one
    for row in seconds:
        assert abs(float(row["green"]) - 1) <= 2 * float(row["green error"]) < 0.5
    with open_film(str(results / "film.mp4")) as drawn:
        assert len(list(drawn.frames(Sampling()))) == 10 and drawn.fps == 5


def test_every_nth_frame_and_a_drawn_film_of_a_name(call: Call, tmp_path: Path) -> None:
    write_film(tmp_path / "film.avi", 7)
    assert call("film.avi", "--every", "3", "--output", "boxes.mp4") == 0
    with open_film(str(tmp_path / "boxes.mp4")) as drawn:
        assert len(list(drawn.frames(Sampling()))) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boxes.mp4", "film.avi"]
    assert call("film.avi", "--output", "boxes.mp4") == 2
    assert call("film.avi", "--output", "boxes.mp4", "--overwrite") == 0
    assert call("film.avi", "--output", "film.avi", "--overwrite") == 2
    assert call("film.avi", "--no-drawing") == 0 and not (tmp_path / "detections").exists()


def test_a_damaged_film_gives_what_could_be_read_and_a_line(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cut_film(tmp_path / "cut.avi")
    assert call("cut.avi", "--every", "10", "--format", "jsonl", "--no-drawing") == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1 and "is damaged" in errors[0]
    assert len((tmp_path / "detections" / "detections.jsonl").read_text().splitlines()) == 4


def test_a_whole_film_does_not_hide_that_an_earlier_one_is_damaged(call: Call, tmp_path: Path) -> None:
    write_film(tmp_path / "whole.avi", 2)
    write_cut_film(tmp_path / "cut.avi")
    for films, code in ((("cut.avi", "whole.avi"), 2), (("missing.avi", "whole.avi"), 2), (("whole.avi",), 0)):
        assert call(*films, "--every", "10", "--no-drawing") == code


@pytest.mark.parametrize("is_live", [True, False])
def test_interrupting_a_camera_ends_it_in_order(is_live: bool) -> None:
    def factory() -> Any:
        def work(frame: Frame) -> int:
            if frame.number == 3:
                raise KeyboardInterrupt
            return frame.number

        return work

    capture: Any = FakeCapture(50 if not is_live else 4)
    film = Film("0", capture, is_live)
    options = Namespace(every=None, fps=None)
    taken: list[Any] = []
    with nullcontext() if is_live else pytest.raises(KeyboardInterrupt):
        taken.extend(found for _, found in frames_of(film, options, Sequential(), factory))
    assert taken == sorted(taken) and 3 not in taken


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("missing.mp4",), "missing.mp4: no such file or directory"),
        (("empty.mp4",), "empty.mp4: is empty"),
        (("987",), "camera 987: is not there"),
        (("film.avi", "a.png"), "film.avi is a film and a.png is not"),
        (("film.avi", "--every", "0"), "--every must be at least 1"),
        (("film.avi", "--fps", "0"), "--fps must be above 0"),
        (("film.avi", "--fps", "nan"), "--fps must be above 0"),
        (("film.avi", "--every", "2", "--fps", "2"), "not allowed with"),
        (("film.avi", "--format", "voc"), "--format voc is of images"),
        (("film.avi", "--output", "b.mp4", "--format", "csv"), "--format writes to a folder"),
        (("film.avi", "film.avi", "--output", "b.mp4"), "is the drawn copy of one film"),
        (("film.avi", "film.avi", "--parts", "p"), "--parts holds one film"),
        (("987", "--parts", "p"), "camera 987: is not there"),
        (("a.png", "--every", "2"), "--every and --fps go with films"),
        (("a.png", "--output", "b.mp4"), "must be a folder"),
        (("film.avi", "--format", "counts"), "counts need one model with probabilities"),
        (("a.png", "--format", "counts"), "counts need one model with probabilities"),
    ],
)
def test_mistakes_cost_a_line_and_leave_nothing(
    arguments: tuple[str, ...], line: str, call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_film(tmp_path / "film.avi", 2)
    photograph(tmp_path / "a.png")
    (tmp_path / "empty.mp4").touch()
    assert call(*arguments, *(() if "--parts" in arguments else ("--json", "found.json"))) == 2
    err = capsys.readouterr().err
    assert line in err and len(err.splitlines()) == 1
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left <= {"film.avi", "a.png", "empty.mp4", "detections/.spp-detect"}


def test_a_film_resumes_in_parts(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_film(tmp_path / "film.avi", 11, red_every=2)
    arguments = ("film.avi", "--parts", "parts", "--part-size", "3", "--every", "2")
    assert call(*arguments) == 0
    assert "6 frames, 12 detections in 2 parts" in capsys.readouterr().out
    parts = sorted((tmp_path / "parts").glob("part-*"))
    content = [path.read_bytes() for path in parts]
    frames = [json.loads(line)["frame"] for each in content for line in each.splitlines()]
    assert frames == [0, 2, 4, 6, 8, 10]
    # as a killed run leaves it
    manifest = json.loads((tmp_path / "parts" / "manifest.json").read_text())
    manifest["parts"], manifest["complete"] = manifest["parts"][:1], False
    (tmp_path / "parts" / "manifest.json").write_text(json.dumps(manifest))
    parts[1].unlink()
    assert call(*arguments) == 0
    assert "3 frames are there already" in capsys.readouterr().out
    assert [path.read_bytes() for path in parts] == content
    assert call("film.avi", "--parts", "parts", "--part-size", "3") == 2
    # nor does a run with another model, or of another film by the same name, go on
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(detect_films, "model_digests", lambda options: ["another"])
        assert call(*arguments) == 2
    assert "made with other settings (models)" in capsys.readouterr().err
    write_film(tmp_path / "film.avi", 12)
    assert call(*arguments) == 2
    assert "made with other settings (film)" in capsys.readouterr().err


@pytest.mark.all
def test_workers_give_the_same_bytes_of_films_and_tiles(tmp_path: Path) -> None:
    write_film(tmp_path / "film.mp4", 5, red_every=2)
    found = []
    for workers in ((), ("--workers", "2")):
        options = ("--tiles", "4", "--min-score", "-3", "--no-drawing", "--json", "-", *workers)
        done = spp("detect", "film.mp4", *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found.append(done.stdout)
    assert found[0] == found[1] and len(json.loads(found[0])) == 5
