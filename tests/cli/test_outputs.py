"""What no command may do to files: replace what it reads or, unasked, what others wrote."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.cli.console import Parser, write_json
from detector.cli.main import VERBS
from detector.cli.outputs import OutputFile, check_folder, check_outputs, output_file, output_folder
from detector.model_file import DETECTOR, ModelContents, write_model
from detector.results.files import ResultFolder
from detector.runtime.array_files import Arrays
from detector.runtime.files import replacing, write_text

# a command that may be, with IN for a file that it reads and OUT for one that it writes
FILES = {
    "detect": "photo.png --model IN --json OUT",
    "explain": "photo.png --model IN --json OUT",
    "classify": "photo.png --model IN --json OUT",
    "evaluate": "--coco IN --json OUT",
    "compare": "default --coco IN --cache c --results OUT",
    "train": "default --coco IN --output OUT --cache c",
    "train_classifier": "IN --images data --cache c --output OUT",
    "calibrate": "m.safetensors --coco IN --output OUT",
    "data": "show IN --output OUT",
}
FOLDERS = {
    "detect": {"output", "parts"},
    "explain": {"output"},
    "evaluate": {"report", "save_detections"},
    "report": {"output"},
}
READ_ONLY = {"cache", "serve", "teach"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.png").write_text("{}")
    (tmp_path / "other.png").write_text("somebody's")
    (tmp_path / "data").mkdir()
    return tmp_path


def parse(command: str, output: str, *more: str, read: str = "in.png") -> Any:
    words = FILES[command].replace("IN", read).replace("OUT", output).split()
    return import_module(f"detector.cli.{command}").parser().parse_args([*words, *more])


def model(path: str) -> None:
    weights: Arrays = {"svm.weights": np.zeros((3, 1), np.float32), "svm.biases": np.zeros(1, np.float32)}
    write_model(path, DETECTOR, ModelContents(weights, ("dog",), {}, "", {}))


def test_every_command_is_here() -> None:
    modules = {verb.module for verb in VERBS.values()}
    assert modules == {*FILES, *FOLDERS, *READ_ONLY}
    for name in modules:
        outputs = import_module(f"detector.cli.{name}").parser()._outputs
        files = {dest for dest, kind in outputs.items() if isinstance(kind, OutputFile)}
        # data has sub commands
        assert len(files) == (name in FILES and name != "data")
        assert outputs.keys() - files == FOLDERS.get(name, set())
        actions = import_module(f"detector.cli.{name}").parser()._actions
        if outputs:
            assert any("--overwrite" in action.option_strings for action in actions)


@pytest.mark.parametrize("command", FILES)
def test_a_file_of_others_is_replaced_when_asked_alone(command: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=r"other\.png exists and was not written by this program; --overwrite"):
        parse(command, "other.png")
    parse(command, "other.png", "--overwrite")
    parse(command, "new" if command == "train" else "new.png")  # a training writes a model or a folder
    (folder / "empty.png").touch()
    parse(command, "empty.png")


@pytest.mark.parametrize("command", FILES)
@pytest.mark.parametrize("name", ["in.png", "data/../in.png", "link.png", "data/link.png"])
def test_what_is_read_is_never_replaced(command: str, name: str, folder: Path) -> None:
    (folder / "link.png").symlink_to("in.png")
    (folder / "data" / "link.png").symlink_to(folder / "in.png")
    with pytest.raises(ValueError, match=r"would replace an input"):
        parse(command, name, "--overwrite")


def test_files_in_folders_that_are_read_are_kept(folder: Path) -> None:
    (folder / "data" / "a.png").write_text("<annotation/>")
    for more in ([], ["--overwrite"]):
        with pytest.raises(ValueError, match="would replace a file in a folder that is read"):
            parse("data", "data/a.png", *more, read="data")
    parse("data", "data/new.jpg", read="data")


def test_what_is_written_twice_is_refused(folder: Path) -> None:
    parser = Parser()
    for name in ("--json", "--output"):
        parser.add_argument(name, type=output_file)
    with pytest.raises(ValueError, match=r"--output a would be written by --json, too"):
        parser.parse_args(["--json", "a", "--output", "./a"])


def test_own_files_are_known() -> None:
    model("m.safetensors")
    parse("train", "m.safetensors")
    parse("calibrate", "m.safetensors")  # with a calibration, the same model
    with pytest.raises(ValueError, match="not written by this program"):
        parse("evaluate", "m.safetensors")
    write_json(Path("numbers.json"), {"metric": "voc07", "mAP": 0.5})
    parse("evaluate", "numbers.json")
    with pytest.raises(ValueError, match="not written by this program"):
        parse("detect", "numbers.json")
    write_json(Path("found.json"), [{"image": "a.png", "width": 2, "height": 1, "detections": []}])
    parse("detect", "found.json")
    write_json(Path("results.json"), {"recipe": {"mAP": 0.5, "seconds": 1.0}})
    parse("compare", "results.json")
    with pytest.raises(ValueError, match="not written by this program"):
        parse("compare", "numbers.json")
    ResultFolder(Path(), ()).take(Path("sheet.jpg"))
    Path("sheet.jpg").write_text("drawn")
    parse("data", "sheet.jpg")


def test_a_model_may_be_changed_in_its_file_but_no_other_input() -> None:
    model("m.safetensors")
    parser = import_module("detector.cli.train").parser()
    parser.parse_args(["--remove-class", "dog", "--model", "m.safetensors", "--output", "m.safetensors"])
    for inputs in ("--coco m.safetensors", "default --data data --weights m.safetensors"):
        with pytest.raises(ValueError, match="would replace an input"):
            parser.parse_args([*inputs.split(), "--output", "m.safetensors"])


def test_what_is_known_to_be_read_later_is_checked_later(folder: Path) -> None:
    write_json(folder / "found.json", [])
    options = parse("detect", "found.json", "--overwrite", read="m")
    check_outputs(options, [folder / "other.png"])
    with pytest.raises(ValueError, match=r"--json found\.json would replace an input"):
        check_outputs(options, [folder / "found.json"])


@pytest.mark.parametrize("option", ["--json", "--output"])
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("a" * 300, "file name too long"),
        ("new/" + "a" * 300 + "/b", "file name too long"),
        ("loop", "too many levels of symbolic links"),
        ("other.png/below", "not a folder that may be written to"),
    ],
)
def test_names_that_cannot_be_are_refused_at_once(
    option: str, name: str, fault: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "loop").symlink_to("loop")
    parser = Parser(prog="tool")
    parser.add_argument("--json", type=output_file)
    parser.add_argument("--output", type=output_folder)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args([option, name])
    error = capsys.readouterr().err
    assert fault in error and error.count("\n") == 1


def test_devices_pipes_and_what_links_lead_to_are_written_to(folder: Path) -> None:
    (folder / "link").symlink_to("target")
    write_text(folder / "link", "new")
    assert (folder / "link").is_symlink() and (folder / "target").read_text() == "new"
    (folder / "null").symlink_to(os.devnull)
    write_text(folder / "null", "nothing")
    assert (folder / "null").is_symlink() and Path(os.devnull).is_char_device()
    parse("detect", os.devnull, read="m")
    # such as /dev/stdout, where that is a file: whoever has it open would not see what replaced it
    with (folder / "opened").open("w+") as file:
        write_text(Path(f"/dev/fd/{file.fileno()}"), "seen")
        assert file.read() == "seen"
    (folder / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="loop"), replacing(folder / "loop") as temporary:
        temporary.write_text("lost")
    assert (folder / "loop").is_symlink()


def test_a_folder_whose_name_begins_alike_is_not_read(folder: Path) -> None:
    (folder / "data2").mkdir()
    (folder / "data2" / "a.png").write_text("<annotation/>")
    with pytest.raises(ValueError, match="exists and was not written by this program"):
        parse("data", "data2/a.png", read="data")
    parse("data", "data2/a.png", "--overwrite", read="data")
    options = parse("data", "data2/new.png", read="data")
    check_folder(options, folder / "dat")
    with pytest.raises(ValueError, match="must not lie in"):
        check_folder(options, folder)
