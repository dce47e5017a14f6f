"""Films: every frame, their times, cameras that do not wait, and files that are none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from detector.images import film as module
from detector.images.film import WRITTEN_CODECS, Film, Sampling, film_writer, is_film, open_film
from tests.images.films import BLACK, FakeCapture, write_cut_film, write_film


@pytest.mark.parametrize("suffix", list(WRITTEN_CODECS))
def test_every_frame_of_a_film_is_read_in_order(suffix: str, tmp_path: Path) -> None:
    path = write_film(tmp_path / f"a{suffix}", 12, red_every=3)
    with open_film(str(path)) as film:
        found = list(film.frames(Sampling()))
        assert (film.size, film.fps, film.n_frames, film.is_live, film.problem) == ((160, 160), 10, 12, False, None)
    assert [each.number for each in found] == [*range(12)]
    assert [each.seconds for each in found] == pytest.approx([number / 10 for number in range(12)])
    reds = [float(each.image[8:56, 8:56, 0].mean()) for each in found]
    greens = [float(each.image[8:56, 8:56, 1].mean()) for each in found]
    assert [round(red, -2) for red in reds] == [200, 0, 0] * 4 and max(greens) < 20
    assert film.n_read == 12 and film.n_dropped == 0 and found[3].path == f"{path} frame 3"


@pytest.mark.parametrize(
    ("sampling", "numbers"),
    [
        (lambda: Sampling(every=5), [0, 5, 10]),
        (lambda: Sampling(fps=2), [0, 5, 10]),
        (lambda: Sampling(fps=3), [0, 4, 7, 10]),
        (lambda: Sampling(fps=100), [*range(12)]),
    ],
)
def test_frames_are_sampled_by_number_or_time(sampling: Any, numbers: list[int], tmp_path: Path) -> None:
    path = str(write_film(tmp_path / "a.avi", 12))
    with open_film(path) as film:
        assert [each.number for each in film.frames(sampling())] == numbers
        assert sampling().count(12, 10) == len(numbers)
    with open_film(path) as film:
        assert [each.number for each in film.frames(sampling(), skipped=2)] == numbers[2:]
    assert Sampling(every=5).rate(10) == 2 and Sampling(fps=3).rate(10) == 3 and Sampling(fps=30).rate(10) == 10


def test_a_damaged_film_gives_what_can_be_read(tmp_path: Path) -> None:
    path = write_cut_film(tmp_path / "cut.avi")
    with open_film(str(path)) as film:
        n_frames = len(list(film.frames(Sampling())))
    assert 30 <= n_frames <= 45
    assert film.problem == f"{path}: is damaged: {n_frames} of 60 frames could be read; results are of these"


def test_a_camera_does_not_wait_and_what_it_drops_is_counted() -> None:
    capture: Any = FakeCapture()
    film = Film("0", capture, is_live=True)
    assert film.n_frames is None
    taken = [each.number for each in film.frames(Sampling(every=2))]
    # the last one is never dropped, and all others are taken or counted
    assert taken == sorted(set(taken)) and taken[-1] == 48 and all(number % 2 == 0 for number in taken)
    assert len(taken) + film.n_dropped == 25 and film.n_read == 50 and film.problem is None
    frames = Film("0", FakeCapture(), is_live=True).frames(Sampling())  # type: ignore[arg-type]
    next(frames)
    frames.close()


def test_frames_that_cannot_be_decoded_are_counted() -> None:
    capture: Any = FakeCapture(broken=(3, 9))
    film = Film("a.mp4", capture, is_live=False)
    assert len(list(film.frames(Sampling()))) == 48
    assert film.problem == "a.mp4: is damaged: 48 of 50 frames could be read; results are of these"
    empty = Film("a.mp4", FakeCapture(0), is_live=False)  # type: ignore[arg-type]
    assert list(empty.frames(Sampling())) == [] and empty.problem == "a.mp4: has no frame that can be read"


def test_times_are_those_of_the_film_where_frames_do_not_come_evenly() -> None:
    class Uneven(FakeCapture):
        def get(self, name: int) -> float:
            return 1000 * self.at**2 if name == cv2.CAP_PROP_POS_MSEC else super().get(name)

    film = Film("a.mp4", Uneven(6), is_live=False)  # type: ignore[arg-type]
    assert [each.seconds for each in film.frames(Sampling())] == [0, 1, 4, 9, 16, 25]
    film = Film("a.mp4", Uneven(6), is_live=False)  # type: ignore[arg-type]
    assert [each.number for each in film.frames(Sampling(fps=0.25))] == [0, 2, 3, 4, 5]


def test_ffmpeg_options_of_the_user_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(write_film(tmp_path / "a.avi", 2))
    monkeypatch.setenv(module._OPTIONS, "threads;1")
    with open_film(path):
        assert os.environ[module._OPTIONS] == "threads;1"
    with pytest.raises(FileNotFoundError), open_film(str(tmp_path / "missing.mp4")):
        pass
    assert os.environ[module._OPTIONS] == "threads;1"


def test_names_of_films_cameras_and_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "A.MOV", "0", "12", "rtsp://host/x", "http://host/a.mp4?x=1", "http://host/live.mjpg"):
        assert is_film(name), name
    (tmp_path / "3").mkdir()
    (tmp_path / "folder.mp4").mkdir()
    for name in ("a.jpg", "3", "folder.mp4", "1234", "-1", "http://host/a.jpg", "s3://host/a", "mp4"):
        assert not is_film(name), name


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (PLAYLIST, "is no film of a known kind"),
        (b"ffconcat version 1.0\nfile a.mp4\n", "is no film of a known kind"),
        (b"\x00\x00\x00\x18ftypmp42" + bytes(1000), "is damaged, or a film of an unknown kind"),
        (b"RIFF\xff\xff\xff\xffAVI LIST" + bytes(1000), "is damaged, or a film of an unknown kind"),
    ],
)
def test_files_that_are_no_films_are_refused(
    content: bytes, reason: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{path}: {reason}$"), open_film(str(path)):
        pass
    assert capfd.readouterr() == ("", "")
    assert module._OPTIONS not in os.environ


def test_what_is_not_there_costs_a_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"), open_film(str(tmp_path / "missing.mp4")):
        pass
    with pytest.raises(ValueError, match=r"^camera 987: is not there"), open_film("987"):
        pass
    # a password is not repeated
    with (
        pytest.raises(ValueError, match=r"^rtsp://127\.0\.0\.1:9/x: cannot"),
        open_film("rtsp://me:word@127.0.0.1:9/x"),
    ):
        pass


def test_films_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"films are written as \.mp4"), film_writer(tmp_path / "a.gif", 10):
        pass
    with pytest.raises(RuntimeError), film_writer(tmp_path / "a.mp4", 10) as add:
        add(BLACK)
        raise RuntimeError
    assert [*tmp_path.iterdir()] == []
    with film_writer(tmp_path / "sizes.mp4", 10) as add:
        add(BLACK)
        add(np.zeros((80, 80, 3), np.uint8))  # a stream may change its size
    with open_film(str(tmp_path / "sizes.mp4")) as film:
        assert len(list(film.frames(Sampling()))) == 2
