"""What the scripts share: exit codes, one-line errors, whole JSON files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from detector.commands.console import Parser, output_file, precomputed_boxes, progress, run, write_json


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
    assert outcome(raising(KeyboardInterrupt())) == 130
    assert capfd.readouterr().err.splitlines() == [
        "error: boxes must fit",
        "error: a.jpg: no such file or directory",
        "interrupted",
    ]


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
