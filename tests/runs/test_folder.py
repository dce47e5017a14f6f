"""Folders of trainings: their names, what is never overwritten, and what goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from detector.runs.folder import MARKER, RunFolder, buffered_log, choose_folder, is_model_file

SETTINGS = {"recipe": "1", "data": "2"}
TODAY = date.today().isoformat()


class Model:
    """Stands in for a detector."""

    def __init__(self, text: str) -> None:
        self.text = text

    def save(self, path: Path) -> None:
        path.write_text(self.text)


def model(text: str) -> Any:
    return Model(text)


def load(path: Path) -> Any:
    return Model(path.read_text())


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def choose(output: str | None = None, overwrite: bool = False, data: str = "my data.zip", **settings: str) -> Any:
    return choose_folder(output and Path(output), Path(data), SETTINGS | settings, overwrite)  # type: ignore[arg-type]


@contextmanager
def begun(run: RunFolder) -> Iterator[Callable[[str], None]]:
    with buffered_log() as log, run.opened(log) as note:
        yield note


def finish(run: RunFolder, text: str = "model") -> RunFolder:
    with begun(run):
        for name in ("config.yaml", "environment.json"):
            (run.path / name).write_text(text)
        run.model("model.safetensors", lambda: model(text), load)
        run.finish()
    return run


def test_what_names_a_file_and_what_a_folder(folder: Path) -> None:
    (folder / "old.safetensors").mkdir()
    names = ("m.safetensors", "a/m.safetensors", "m", "runs/mine", "old.safetensors", "m.pt")
    assert [is_model_file(Path(name)) for name in names] == [True, True, False, False, False, False]
    assert not is_model_file(None)


def test_runs_are_named_by_data_and_date_and_never_overwritten() -> None:
    names = [str(finish(choose()).path) for _ in range(3)]
    assert names == [f"runs/my-data-{TODAY}", f"runs/my-data-{TODAY}-2", f"runs/my-data-{TODAY}-3"]
    assert finish(choose(overwrite=True), "new").path == Path(names[0])
    assert [(Path(name) / "model.safetensors").read_text() for name in names] == ["new", "model", "model"]


def test_what_was_interrupted_goes_on_whatever_the_day(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt), begun(choose()) as _:
        raise KeyboardInterrupt
    (folder / "runs" / f"my-data-{TODAY}").rename(folder / "runs" / "my-data-2001-02-03")
    run = choose()
    assert (run.path, run.fresh) == (Path("runs/my-data-2001-02-03"), False)
    # other settings get a folder of their own
    assert choose(recipe="3").path == Path(f"runs/my-data-{TODAY}")
    assert choose(data="other.zip").path == Path(f"runs/other-{TODAY}")


def test_a_model_that_was_trained_is_not_trained_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "detector")
    finish(choose("out"), "old")
    run = choose("out", overwrite=True, recipe="3")
    assert run.fresh
    with pytest.raises(KeyboardInterrupt), begun(run):
        run.model("model.safetensors", lambda: model("new"), load)
        run.model("part.safetensors", lambda: model("part"), load)
        raise KeyboardInterrupt
    again = choose("out", recipe="3")
    assert again.trained == ["model.safetensors", "part.safetensors"]
    assert again.model("model.safetensors", lambda: model("newer"), load).text == "new"
    with begun(again):
        again.finish()
    assert {path.name for path in Path("out").iterdir()} == {
        *("model.safetensors", "config.yaml", "environment.json", "log.txt")
    }
    assert "interrupted; the same command goes on in out" in Path("out/log.txt").read_text()


def test_an_old_model_is_not_taken_for_the_new_one() -> None:
    finish(choose("out"), "old")
    run = choose("out", overwrite=True)
    with pytest.raises(KeyboardInterrupt), begun(run):
        raise KeyboardInterrupt
    assert Path("out/model.safetensors").read_text() == "old"  # until there is another
    assert choose("out").model("model.safetensors", lambda: model("new"), load).text == "new"


def test_a_model_that_cannot_be_read_is_trained_again(caplog: pytest.LogCaptureFixture) -> None:
    def damaged(path: Path) -> Any:
        raise ValueError(f"{path}: is damaged")

    run = choose("out")
    with begun(run):
        run.model("model.safetensors", lambda: model("one"), damaged)
        assert run.model("model.safetensors", lambda: model("two"), damaged).text == "two"
    assert "is damaged; training it again" in caplog.text


@pytest.mark.parametrize("content", ["{", "[]", '{"settings": 3, "trained": []}', '{"settings": {}}'])
def test_a_damaged_marker_belongs_to_no_training(content: str) -> None:
    with pytest.raises(KeyboardInterrupt), begun(choose("out")):
        raise KeyboardInterrupt
    (Path("out") / MARKER).write_text(content)
    with pytest.raises(ValueError, match="holds an unfinished training"):
        choose("out")
    assert choose("out", overwrite=True).fresh


def test_folders_that_are_not_to_be_written_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(choose("done"))
    with pytest.raises(KeyboardInterrupt), begun(choose("begun")):
        raise KeyboardInterrupt
    (folder / "mine").mkdir()
    (folder / "mine" / "README.md").write_text("mine")
    (folder / "file").touch()
    for output, overwrite, message in [
        ("done", False, "holds a training already: say --overwrite"),
        ("begun", False, "holds an unfinished training with other data and boxes: repeat its command"),
        ("mine", False, "holds files, but no training"),
        ("mine", True, "holds files, but no training"),
        ("file", True, "file is not a folder that may be written to"),
        ("file/below", True, "file is not a folder that may be written to"),
    ]:
        with pytest.raises(ValueError, match=message):
            choose(output, overwrite, data="my data.zip", boxes="4") if output != "begun" else choose_folder(
                Path(output), Path("x"), {"recipe": "1", "data": "5", "boxes": "4"}, overwrite
            )
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(ValueError, match=r"new/run cannot be written: .* is not a folder that may be written to"):
        choose("new/run")
    assert not (folder / "new").exists()


def test_a_training_that_cannot_be_leaves_no_trace(folder: Path) -> None:
    (folder / "there").mkdir()
    for output in (None, "new/run", "there"):
        with pytest.raises(ValueError, match="no object"), begun(choose(output)):
            raise ValueError("no object to learn from")
    assert [path.name for path in folder.rglob("*")] == ["there"]


def test_the_log_holds_what_is_logged_with_its_time() -> None:
    log = logging.getLogger("detector.test")
    log.setLevel(logging.DEBUG)
    with buffered_log() as buffer:
        log.info("before")
        with choose("out").opened(buffer) as note:
            log.warning("an image is missing")
            note("two\nlines")
        log.warning("after")
    lines = Path("out/log.txt").read_text().splitlines()
    assert [line[21:] for line in lines] == ["INFO: before", "WARNING: an image is missing", "INFO: two", ""]
