"""Unpack zip files as untrusted input."""

from __future__ import annotations

import io
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from detector.datasets import archive
from detector.datasets.archive import unpacked
from tests.datasets.own_files import draw, expected, read, write_xml
from tests.scripts import ROOT


def zipped(folder: Path, *members: tuple[str | zipfile.ZipInfo, bytes], name: str = "export.zip") -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for member, data in members:
            file.writestr(member, data)
    return path


def special(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def test_only_images_and_annotations_are_unpacked(tmp_path: Path) -> None:
    path = zipped(tmp_path, ("a/b.JPG", b"image"), ("a\\c.xml", b"<a/>"), ("a/run.sh", b"rm"), ("a/", b""))
    root = unpacked(path)
    assert root.name == "export"
    assert sorted(each.relative_to(root).as_posix() for each in root.rglob("*")) == ["a", "a/b.JPG", "a/c.xml"]
    assert (root / "a/b.JPG").read_bytes() == b"image"
    assert unpacked(path) == root
    path.unlink()
    zipped(tmp_path, ("d.txt", b"other"))
    assert [each.name for each in unpacked(path).iterdir()] == ["d.txt"]


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        ("../a.jpg", "leads out of the folder"),
        ("a/../../b.jpg", "leads out of the folder"),
        ("..\\a.jpg", "leads out of the folder"),
        ("/etc/a.txt", "leads out of the folder"),
        ("C:/a.txt", "leads out of the folder"),
        (special("a.txt", stat.S_IFLNK | 0o777), "is a link or another special file"),
        (special("a.jpg", stat.S_IFIFO | 0o644), "is a link or another special file"),
        ("a" * 300 + ".jpg", "is too long a name"),
    ],
)
def test_members_outside_the_folder_are_refused(
    tmp_path: Path, member: str | zipfile.ZipInfo, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    path = zipped(tmp_path, ("good.jpg", b"1"), (member, b"target"))
    with pytest.raises(ValueError, match=r"export\.zip: ") as error:
        unpacked(path)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "temporary").iterdir())


def test_zip_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_SMALL", 100_000)
    with pytest.raises(ValueError, match=r"'a.json' would grow from \d+ to 1000000 bytes"):
        unpacked(zipped(tmp_path, ("a.json", bytes(1_000_000))))
    many = [(f"{number}.txt", bytes(90_000)) for number in range(20)]
    with pytest.raises(ValueError, match=r"would grow from \d+ to 1800000 bytes"):
        unpacked(zipped(tmp_path, *many, name="many.zip"))
    monkeypatch.setattr(archive, "_MAX_MEMBERS", 10)
    with pytest.raises(ValueError, match="holds 20 files, more than the 10 allowed"):
        unpacked(zipped(tmp_path, *many, name="members.zip"))


def test_archives_larger_than_the_disk_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path, ("a.txt", bytes(100)), ("b.txt", bytes(50)))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 851, 149))
    with pytest.raises(ValueError, match=r"export\.zip: needs 150 bytes where 149 are free"):
        unpacked(path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 850, 150))
    assert len([*unpacked(path).iterdir()]) == 2


def test_the_folder_is_deleted_at_exit(tmp_path: Path) -> None:
    path = zipped(tmp_path, ("a.txt", b"1"))
    program = (
        "import pathlib, sys; from detector.datasets import archive; print(archive.unpacked(pathlib.Path(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", program, path], cwd=ROOT, capture_output=True, text=True, check=True)
    folder = Path(done.stdout.strip())
    assert folder.name == "export"
    assert not folder.parent.exists()


def test_headers_are_not_trusted(tmp_path: Path) -> None:
    path = zipped(tmp_path, ("a.txt", b"x" * 5000))
    data = path.read_bytes()
    # the sizes in the header and in the directory say 10
    path.write_bytes(data.replace(struct.pack("<I", 5000), struct.pack("<I", 10)))
    with pytest.raises(ValueError, match=r"export\.zip: "):
        unpacked(path)


@pytest.mark.parametrize("damage", ["no zip file", "cut off", "encrypted", "twice", "changed"])
def test_damaged_archives_are_one_line_errors(tmp_path: Path, damage: str) -> None:
    path = zipped(tmp_path, ("a.txt", bytes(range(256)) * 4), ("b.txt", b"2"))
    data = bytearray(path.read_bytes())
    if damage == "no zip file":
        data = bytearray(b"<html>404</html>")
    elif damage == "cut off":
        data = data[:-30]
    elif damage == "encrypted":
        for position in (6, data.index(b"PK\1\2") + 8):
            data[position] |= 1
    elif damage == "changed":
        data[60] ^= 0xFF
    path.write_bytes(data)
    if damage == "twice":
        with pytest.warns(UserWarning, match="Duplicate name"):
            zipped(tmp_path, ("a.txt", b"1"), ("a.txt", b"2"))
    with pytest.raises(ValueError, match=r"export\.zip: ") as error:
        unpacked(path)
    assert "\n" not in str(error.value)


def packed(path: Path, *members: tuple[str | tarfile.TarInfo, bytes]) -> Path:
    mode: Any = {"tar": "w", "bz2": "w:bz2", "xz": "w:xz"}.get(path.name.rpartition(".")[2], "w:gz")
    with tarfile.open(path, mode) as file:
        for member, data in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(data) if info.isreg() else 0
            file.addfile(info, io.BytesIO(data))
    return path


def linked(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize("name", ["set.tar", "set.tar.gz", "SET.TGZ", "set.tar.bz2", "set.tar.xz"])
def test_tar_files_are_read(name: str, tmp_path: Path) -> None:
    root = unpacked(packed(tmp_path / name, ("./a/b.jpg", b"image"), ("a/run.sh", b"rm"), ("a/c.txt", b"0")))
    assert root.name.lower() == "set"
    assert sorted(each.relative_to(root).as_posix() for each in root.rglob("*")) == ["a", "a/b.jpg", "a/c.txt"]
    assert (root / "a/b.jpg").read_bytes() == b"image"


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        ("../a.jpg", "leads out of the folder"),
        ("/etc/a.txt", "leads out of the folder"),
        (linked("a.txt", tarfile.SYMTYPE), "is a link or another special file"),
        (linked("a.txt", tarfile.LNKTYPE), "is a link or another special file"),
        (linked("a.txt", tarfile.FIFOTYPE), "is a link or another special file"),
        ("good.jpg", "holds 'good.jpg' twice"),
    ],
)
def test_members_of_tar_files_are_refused(
    member: str | tarfile.TarInfo, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    with pytest.raises(ValueError, match=r"set\.tgz: ") as error:
        unpacked(packed(tmp_path / "set.tgz", ("good.jpg", b"1"), (member, b"2")))
    assert reason in str(error.value)
    assert not list((tmp_path / "temporary").iterdir())


def test_tar_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_SMALL", 100_000)
    with pytest.raises(ValueError, match=r"would grow from \d+ to more than \d+ bytes"):
        unpacked(packed(tmp_path / "a.tgz", ("skipped.bin", bytes(1_000_000)), ("a.txt", b"1")))
    monkeypatch.setattr(archive, "_MAX_MEMBERS", 2)
    with pytest.raises(ValueError, match="holds more than the 2 files allowed"):
        unpacked(packed(tmp_path / "b.tar", *((f"{number}.txt", b"1") for number in range(3))))


@pytest.mark.parametrize("size", [0, 10, 60, 200])
def test_truncated_tar_files_are_one_line_errors(size: int, tmp_path: Path) -> None:
    path = packed(tmp_path / "set.tgz", ("a.txt", bytes(range(256)) * 40))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"set\.tgz: is damaged or incomplete \(.*\): download it again") as error:
        unpacked(path)
    assert "\n" not in str(error.value)


def test_archives_in_archives_are_unpacked_once(tmp_path: Path) -> None:
    deepest = zipped(tmp_path, ("deep.txt", b"1"), name="deep.zip").read_bytes()
    train = zipped(tmp_path, ("a.jpg", b"image"), ("deep.zip", deepest), name="train.zip").read_bytes()
    val = packed(tmp_path / "val.tgz", ("b.jpg", b"image")).read_bytes()
    root = unpacked(zipped(tmp_path, ("train.zip", train), ("val.tgz", val), ("train/c.jpg", b"image"), name="all.zip"))
    found = sorted(each.relative_to(root).as_posix() for each in root.rglob("*") if each.is_file())
    assert found == ["train.zip /a.jpg", "train/c.jpg", "val/b.jpg"]


def test_archives_in_archives_are_limited_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_SMALL", 100_000)
    inner = zipped(tmp_path, ("a.txt", bytes(90_000)), name="a.zip").read_bytes()
    outer = zipped(tmp_path, *((f"{number}.zip", inner) for number in range(3)), name="bomb.zip")
    with pytest.raises(ValueError, match=r"bomb\.zip: 1\.zip in it: would grow from \d+ to 90000 bytes"):
        unpacked(outer)


@pytest.mark.parametrize(("name", "kind"), [("a.7z", "7-Zip"), ("a.RAR", "RAR"), ("a.tar.zst", "Zstandard")])
def test_other_archives_are_named(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"7z\xbc\xaf\x27\x1c")
    with pytest.raises(ValueError, match=f"{kind} archives are not read: unpack it and give the folder") as error:
        unpacked(path)
    assert str(error.value).startswith(f"{path}: ")


def test_data_in_an_archive_in_a_folder(tmp_path: Path) -> None:
    draw(tmp_path / "set")
    write_xml(tmp_path / "set")
    folder = tmp_path / "downloads"
    folder.mkdir()
    shutil.make_archive(str(folder / "inner"), "gztar", tmp_path, "set")
    assert read(folder) == expected(all="abcd")
    with zipfile.ZipFile(folder / "outer.zip", "w") as file:
        file.write(folder / "inner.tar.gz", "inner.tar.gz")
    assert read(folder / "outer.zip") == expected(all="abcd")
    with pytest.raises(ValueError, match=r"it holds inner\.tar\.gz, outer\.zip: give one of them as the data"):
        read(folder)
