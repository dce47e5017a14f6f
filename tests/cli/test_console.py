"""What the scripts share: exit codes, one-line errors, whole JSON files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pytest

from detector import __version__
from detector.cli.console import Parser, progress, run, write_json
from detector.cli.data_options import precomputed_boxes
from detector.cli.images import for_each_image
from detector.cli.outputs import output_file
from detector.images.files import write_image
from detector.runtime.optional import MissingPackageError


def outcome(main: Callable[[], int]) -> int | str | None:
    with pytest.raises(SystemExit) as exit_:
        run(main)
    return exit_.value.code


def raising(error: BaseException) -> Callable[[], int]:
    def main() -> int:
        raise error

    return main


def test_exit_codes(capfd: pytest.CaptureFixture[str]) -> None:
    assert outcome(lambda: 0) == 0
    assert outcome(lambda: 2) == 2
    assert outcome(raising(ValueError("boxes must\nfit"))) == 2
    assert outcome(raising(FileNotFoundError(2, "No such file or directory", "a.jpg"))) == 2
    assert outcome(raising(MissingPackageError("timm is not installed"))) == 2
    assert outcome(raising(KeyboardInterrupt())) == 130
    assert capfd.readouterr().err.splitlines() == [
        "error: boxes must fit",
        "error: a.jpg: no such file or directory",
        "error: timm is not installed",
        "interrupted",
    ]


def test_a_command_ends_the_process(capfd: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        raise ValueError("boxes must fit")

    with pytest.raises(SystemExit, match=r"^2$"):
        run(main)
    assert capfd.readouterr().err == "error: boxes must fit\n"
    with pytest.raises(SystemExit, match=r"^0$"):
        Parser(prog="spp-tool").parse_args(["--version"])
    assert capfd.readouterr().out == f"spp-tool {__version__}\n"


def test_an_image_that_fails_costs_itself_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    for name, width in (("narrow.png", 1), ("good.png", 5)):
        write_image(tmp_path / name, np.zeros((4, width, 3), np.uint8))
    prepared = []

    def prepare() -> Any:
        prepared.append(True)
        return handle

    def handle(path: Path, image: Any, lines: TextIO) -> dict[str, Any]:
        if image.shape[1] < 2:
            raise ValueError("is too narrow")
        print(f"{path.name} handled", file=lines)
        return {"found": [image.shape[1]]}

    paths = [tmp_path / name for name in ("bad.png", "narrow.png", "good.png")]
    assert for_each_image(paths, prepare, tmp_path / "found.json") == 2
    record = {"image": str(paths[2]), "width": 5, "height": 4, "found": [5]}
    assert json.loads((tmp_path / "found.json").read_text()) == [record]
    said = capfd.readouterr()
    assert said.out == "good.png handled\n"
    first, second = said.err.splitlines()
    assert first.startswith(f"error: {paths[0]}: ") and second == f"error: {paths[1]}: is too narrow"
    assert prepared == [True]
    assert for_each_image(paths[2:], prepare, Path("-")) == 0
    said = capfd.readouterr()
    assert (json.loads(said.out), said.err) == ([record], "good.png handled\n")
    assert for_each_image(paths[:1], lambda: pytest.fail("nothing to handle"), None) == 2


def test_our_own_mistakes_keep_their_traceback() -> None:
    with pytest.raises(TypeError, match="a bug"):
        run(raising(TypeError("a bug")))


def test_a_traceback_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTOR_TRACEBACK", "1")
    with pytest.raises(ValueError, match="boxes"):
        run(raising(ValueError("boxes")))


def test_a_reader_that_goes_away_is_no_error() -> None:
    assert outcome(raising(BrokenPipeError())) == 0


@pytest.mark.parametrize(
    ("name", "fault"), [(".", "is a folder"), ("file/m", "cannot be written"), ("file/a/m", "cannot be written")]
)
def test_what_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str, fault: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    parser = Parser(prog="tool")
    parser.add_argument("--output", type=output_file)
    with pytest.raises(SystemExit) as exit_:
        parser.parse_args(["--output", name])
    assert exit_.value.code == 2
    error = capfd.readouterr().err
    assert f"--output: {name} {fault}" in error and error.count("\n") == 1
    for good in ("-", "file", "new/folder/model"):
        assert parser.parse_args(["--output", good]).output == Path(good)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_wrong_options_cost_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        Parser(prog="tool").parse_args(["--nonsense"])
    assert exit_.value.code == 2
    assert capfd.readouterr().err == "tool: unrecognized arguments: --nonsense; see --help\n"


def test_json_is_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "below" / "result.json"
    write_json(path, [{"a": 1.5}])
    assert json.loads(path.read_text()) == [{"a": 1.5}]
    with pytest.raises(TypeError):
        write_json(path, object())
    assert json.loads(path.read_text()) == [{"a": 1.5}]
    write_json(Path("-"), {"b": None})
    assert json.loads(capsys.readouterr().out) == {"b": None}


def test_progress_passes_items_on() -> None:
    assert list(progress([3, 1, 2], "numbers")) == [3, 1, 2]


def test_boxes_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text('{"000005": [[1, 2, 3, 4]]}')
    boxes = precomputed_boxes(path)
    assert boxes is not None
    assert boxes["000005"].tolist() == [[1, 2, 3, 4]]
    assert precomputed_boxes(None) is None
