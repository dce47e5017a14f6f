"""Detection in many images: workers, lists, parts; whatever happens on the way, the bytes are those of one process."""

from __future__ import annotations

import io
import json
import random
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.cli import detect
from detector.cli.console import run
from detector.cli.images import named_images
from tests.cli.fake_detecting import FakeDetectorFactory, run_detect
from tests.cli.many_images import contents, write_images

Call = Callable[..., int]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command in an empty folder; its exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(detect, "DetectorFactory", FakeDetectorFactory)

    def call_detect(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["spp detect", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run(detect.main)
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return call_detect


def test_workers_write_and_say_what_one_process_does(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = write_images(tmp_path / "images", 12)
    everything = ("--json", "found.json", "--format", "json,jsonl,csv,coco,voc,yolo,crops", "--output", "out")
    said = []
    for more in ((), ("--workers", "2")):
        assert call(images, *everything, "--overwrite", *more) == 2
        said.append((capsys.readouterr(), (tmp_path / "found.json").read_bytes(), contents(tmp_path / "out")))
    assert said[0] == said[1]
    assert len(json.loads(said[0][1])) == 10
    assert said[0][0].err.count("error: ") == 2


def test_lists_are_taken_line_by_line(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "images", 4)
    lines = b"images/3.png\r\n\n./images/1.png\nimages/3.png\n"
    (tmp_path / "list.txt").write_bytes(lines)
    expected = ["images/3.png", "images/1.png", "images/3.png"]
    for name in ("list.txt", "-"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
        assert call("--list", name, "--no-drawing", "--json", "found.json") == 0
        assert [each["image"] for each in json.loads((tmp_path / "found.json").read_text())] == expected


def test_parts_hold_every_image_once(call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write_images(tmp_path / "images", 12)
    assert call(images, "--no-drawing", "--format", "jsonl", "--output", "out") == 2
    capsys.readouterr()
    assert call(images, "--parts", "parts", "--part-size", "5") == 2
    parts = tmp_path / "parts"
    assert sorted(contents(parts)) == ["manifest.json", *(f"part-{number:05d}.jsonl" for number in range(3))]
    records = [json.loads(line) for path in sorted(parts.glob("part-*")) for line in path.read_text().splitlines()]
    assert [each["image"] for each in records] == [str(images / f"{number}.png") for number in range(12)]
    good = [each for each in records if "error" not in each]
    assert good == [json.loads(line) for line in (tmp_path / "out" / "detections.jsonl").read_text().splitlines()]
    assert {each["image"] for each in records if "error" in each} == {str(images / f"{n}.png") for n in (4, 9)}
    manifest = json.loads((parts / "manifest.json").read_text())
    assert manifest["complete"]
    assert [(each["images"], each["failed"]) for each in manifest["parts"]] == [(5, 1), (5, 1), (2, 0)]
    out, err = capsys.readouterr()
    n_detections = sum(len(each["detections"]) for each in good)
    assert out == f"parts: 12 images, {n_detections} detections in 3 parts, 2 images failed\n"
    assert err.count("error: ") == 2
    assert not (tmp_path / "detections").exists()


def test_a_run_goes_on_where_it_was(call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write_images(tmp_path / "images", 12)
    assert call(images, "--parts", "whole", "--part-size", "3") == 2
    done: list[Any] = []
    taken = FakeDetectorFactory.__call__

    def interrupted(self: FakeDetectorFactory) -> Any:
        detect_in = taken(self)

        def one(name: str) -> Any:
            done.append(name)
            if len(done) == 8:
                raise KeyboardInterrupt
            return detect_in(name)

        return one

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeDetectorFactory, "__call__", interrupted)
        patch.setattr("detector.cli.detect.engine_of", lambda options: detect.Threads(1))
        assert call(images, "--parts", "parts", "--part-size", "3") == 130
    there = contents(tmp_path / "parts")
    assert json.loads(there["manifest.json"])["complete"] is False
    # what a killed run leaves besides
    (tmp_path / "parts" / f".{'0' * 32}.tmp").write_text("half")
    (tmp_path / "parts" / "part-00003.jsonl").write_text("not in the manifest")
    capsys.readouterr()
    assert call(images, "--parts", "parts", "--part-size", "3", "--workers", "2") == 2
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert capsys.readouterr().out.startswith("parts: 6 of 12 images are there already\n")
    # a third time there is nothing to do
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeDetectorFactory, "__call__", lambda self: pytest.fail("nothing to load"))
        assert call(images, "--parts", "parts", "--part-size", "3") == 2


def test_parts_of_another_run_are_not_mixed(call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write_images(tmp_path / "images", 4)
    assert call(images, "--parts", "parts") == 0
    before = contents(tmp_path / "parts")
    for arguments, named in (
        ((images, "--min-score", "3"), "min_score"),
        ((images, "--part-size", "3"), "part size"),
        ((images / "1.png",), "images"),
    ):
        capsys.readouterr()
        assert call(*arguments, "--parts", "parts") == 2
        err = capsys.readouterr().err
        assert f"made with other settings ({named})" in err and err.count("\n") == 1
        assert contents(tmp_path / "parts") == before
    assert call(images / "1.png", "--parts", "parts", "--overwrite") == 0
    assert json.loads((tmp_path / "parts" / "manifest.json").read_text())["parts"][0]["images"] == 1
    assert call(images, "--parts", images) == 2
    assert "holds other files than parts" in capsys.readouterr().err
    assert len([*images.iterdir()]) == 4
    manifest = tmp_path / "parts" / "manifest.json"
    whole = manifest.read_text()
    for broken in ("", "[]", whole.replace("part-00000", "../other"), whole.replace('"parts": [', '"parts": [3, ')):
        manifest.write_text(broken)
        assert call(images / "1.png", "--parts", "parts", "--overwrite") == 2
        assert "holds other files than parts" in capsys.readouterr().err
    manifest.write_text(whole)
    (tmp_path / "parts" / "part-00000.jsonl").unlink()
    assert call(images / "1.png", "--parts", "parts") == 2
    assert "part-00000.jsonl is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("device", "meta"), ("runtime", "torch"), ("min_score", 1), ("min_probability", 0.5), ("precision", 0.5)),
        *(("max_detections", 5), ("tiles", 4), ("model", [Path("other")])),
    ],
)
def test_parts_depend_on_every_option_of_detection(
    option: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detect, "model_digests", lambda options: [str(each) for each in options.model or ()])
    images = write_images(tmp_path / "images", 2)
    plain, changed = (detect.parser().parse_args([str(images)]) for _ in range(2))
    setattr(changed, option, value)
    settings = [detect.part_settings(each, named_images(each.images, None)) for each in (plain, changed)]
    differing = {name for name in settings[0] if settings[0][name] != settings[1][name]}
    assert differing == {"models" if option == "model" else option}


def test_parquet_holds_what_json_lines_hold(call: Call, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    images = write_images(tmp_path / "images", 6)
    assert call(images, "--parts", "jsonl") == 2
    assert call(images, "--parts", "parquet", "--part-format", "parquet", "--part-size", "6") == 2
    rows = parquet.read_table(tmp_path / "parquet" / "part-00000.parquet").to_pylist()
    lines = (tmp_path / "jsonl" / "part-00000.jsonl").read_text().splitlines()
    for row, line in zip(rows, lines, strict=True):
        record = json.loads(line)
        assert {name: row[name] for name in record if name != "detections"} == {
            name: value for name, value in record.items() if name != "detections"
        }
        # JSON has the shortest digits that tell a float32 from its neighbors
        found = [{**each, "score": np.float32(each["score"]).item()} for each in record.get("detections", [])]
        assert (row["detections"] or []) == [{"probability": None, **each} for each in found]


def test_addresses_are_read_by_fsspec(call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fsspec = pytest.importorskip("fsspec")
    image = write_images(tmp_path / "images", 2) / "1.png"
    with fsspec.open("memory://bucket/1.png", "wb") as file:
        file.write(image.read_bytes())
    (tmp_path / "list.txt").write_text("memory://bucket/1.png\nmemory://bucket/2.png\n")
    assert call("--list", "list.txt", "--json", "found.json", "--output", "out") == 2
    (record,) = json.loads((tmp_path / "found.json").read_text())
    assert record["image"] == "memory://bucket/1.png" and len(record["detections"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: memory://bucket/2.png: ")
    assert (tmp_path / "out" / "1.png").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "give IMAGEs, or --list FILE"),
        (["a.png", "--list", "list.txt"], "give IMAGEs, or --list FILE"),
        (["--list", "list.txt"], "list.txt: no such file or directory"),
        (["--list", "empty.txt"], "empty.txt: names no image"),
        (["a.png", "--workers", "0"], "--workers must be at least 1, but is 0"),
        (["a.png", "--part-size", "3"], "--part-size and --part-format go with --parts"),
        (["a.png", "--parts", "out", "--part-size", "0"], "--part-size must be at least 1, but is 0"),
        (["a.png", "--parts", "out", "--json", "-"], "--parts goes without --json, --format and --profile"),
    ],
)
def test_wrong_options(
    call: Call, tmp_path: Path, arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.txt").touch()
    assert call(*arguments) == 2
    out, err = capsys.readouterr()
    assert err == f"error: {reason}\n" and not out
    assert [path.name for path in tmp_path.iterdir()] == ["empty.txt"]


@pytest.mark.all
def test_ten_kills_with_any_number_of_workers_change_nothing(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 240)

    def run(folder: Path, workers: int, seconds: float | None) -> bool:
        """Whether it came to its end before it was killed after so many seconds."""
        arguments = (images, "--parts", folder, "--part-size", "20", "--workers", workers, "--quiet")
        child = get_context("spawn").Process(target=run_detect, args=[str(each) for each in arguments])
        child.start()
        child.join(seconds)
        if child.is_alive():
            child.kill()
            child.join()
        assert child.exitcode in (2, -signal.SIGKILL)
        return child.exitcode == 2

    start = time.monotonic()
    assert run(tmp_path / "undisturbed", 1, None)
    longest = time.monotonic() - start
    expected = contents(tmp_path / "undisturbed")
    rng = random.Random(20)
    kills = 0
    while kills < 10:
        folder = tmp_path / f"disturbed{kills}"
        while not run(folder, rng.choice([1, 2, 3]), rng.uniform(0.3, 1) * longest if kills < 10 else None):
            kills += 1
        assert contents(folder) == expected
