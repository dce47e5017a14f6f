"""Unpack archives of labeling tools safely: they are untrusted input."""

import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from functools import cache
from lzma import LZMAError
from multiprocessing.util import Finalize
from pathlib import Path, PurePath, PurePosixPath
from typing import IO

from detector.images.files import SUFFIXES
from detector.runtime.files import file_state

_MAX_MEMBERS = 500_000
_MAX_BYTES = 200_000_000_000
_MAX_RATIO = 200  # of text; images are already compressed
_SMALL = 20_000_000  # bytes below which any ratio is allowed
_MAX_NAME = 240
_BLOCK = 1 << 20
_TEXTS = {".xml", ".json", ".jsonl", ".ndjson", ".yaml", ".yml", ".txt", ".csv", ".md"}
_ANNOTATIONS = _TEXTS | {".names", ".data", ".labels", ".pbtxt"}
_ZIP, _TAR = (".zip",), (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_UNREAD = {".7z": "7-Zip", ".rar": "RAR", ".tar.zst": "Zstandard"}


def is_archive(path: PurePath) -> bool:
    """Return whether a file is named as an archive is, of a kind that `unpacked` reads or refuses by name."""
    return path.name.lower().endswith((*_ZIP, *_TAR, *_UNREAD))


def member_names(path: Path) -> list[str]:
    """Return the names of all files of an archive that `unpacked` reads, also of those that it skips."""
    if path.name.lower().endswith(_ZIP):
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    with tarfile.open(path) as archive:
        return archive.getnames()


def unpacked(path: Path) -> Path:
    """Return a temporary folder with the images and annotations of a zip or tar file; it is deleted at exit.

    Archives in the archive are unpacked, too, each to a folder of its name; those in these are not. Raises OSError
    where the file cannot be read and ValueError, with one line that starts with ``path``, where it is of another kind,
    damaged, encrypted, leads out of its folder, holds links, or is larger than datasets are.
    """
    return _unpacked(path, file_state(path))


@cache
def _unpacked(path: Path, state: tuple[str, int, int]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="spp-detector-"))
    # at the end of this process, not of those that it forks
    Finalize(None, shutil.rmtree, (folder, True), exitpriority=0)
    target = folder / (_stem(path) or "data")
    target.mkdir()
    try:
        limit = min(_MAX_BYTES, max(_SMALL, _MAX_RATIO * path.stat().st_size))
        used = _unpack(path, target, limit, nested=True)
        for inner in sorted(each for each in target.rglob("*") if is_archive(each) and each.is_file()):
            own = inner.with_name(_stem(inner))
            try:
                # of all inner archives together, not more than a single one may hold
                used += _unpack(inner, own if not own.exists() else inner.with_name(f"{inner.name} "), limit - used)
            except ValueError as error:
                raise ValueError(f"{inner.relative_to(target)} in it: {error}") from error
            inner.unlink()
    except ValueError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise ValueError(f"{path}: {error}") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return target


def _unpack(path: Path, target: Path, limit: int, nested: bool = False) -> int:
    """Unpack images and annotations, with ``nested`` also archives, and return their bytes, not more than ``limit``."""
    unread = next((kind for ending, kind in _UNREAD.items() if path.name.lower().endswith(ending)), None)
    if unread:
        raise ValueError(f"{unread} archives are not read: unpack it and give the folder, or pack it as zip")
    free = shutil.disk_usage(target.parent).free
    unpack = _unpack_zip if path.name.lower().endswith(_ZIP) else _unpack_tar
    try:
        return unpack(path, target, limit, free, nested)
    # NotImplementedError: an unknown compression; RuntimeError: a password
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0].rstrip(":") or type(error).__name__
        raise ValueError(f"is damaged or incomplete ({reason}): download it again") from error
    except RuntimeError as error:
        raise ValueError(f"cannot be unpacked: {error}") from error
    except OSError as error:
        # a false offset or checksum, or a full disk; errors of the archive's own file name it
        if error.filename is not None:
            raise
        raise ValueError(f"cannot be unpacked: {error}") from error


def _unpack_zip(path: Path, target: Path, limit: int, free: int, nested: bool) -> int:
    with zipfile.ZipFile(path) as archive:
        # not is_dir, which fails for an empty name
        infos = [info for info in archive.infolist() if not info.filename.endswith("/")]
        if len(infos) > _MAX_MEMBERS:
            raise ValueError(f"holds {len(infos)} files, more than the {_MAX_MEMBERS} allowed")
        members: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            kind = stat.S_IFMT(info.external_attr >> 16)
            name = _safe_name(info.filename, kind in (0, stat.S_IFREG))
            if not _is_read(name, nested):
                continue
            if info.flag_bits & 1:
                raise ValueError(f"{name!r} is encrypted: unpack it with its password and give the folder")
            if name in members:
                raise ValueError(f"holds {name!r} twice")
            members[name] = info
        total = _check_sizes(members, limit, free)
        for name, info in members.items():
            # if a header lies, zipfile reads no more than it says, and the checksum differs
            with archive.open(info) as source:
                _write(source, target / name)
    return total


def _check_sizes(members: dict[str, zipfile.ZipInfo], limit: int, free: int) -> int:
    """Return the bytes of the unpacked members. Raises ValueError for more than a dataset may have."""
    total = 0
    for name, info in members.items():
        total += info.file_size
        if info.file_size > max(_SMALL, _MAX_RATIO * info.compress_size):
            raise ValueError(f"{name!r} would grow from {info.compress_size} to {info.file_size} bytes")
    packed = sum(info.compress_size for info in members.values())
    if total > min(limit, max(_SMALL, _MAX_RATIO * packed)):
        raise ValueError(f"would grow from {packed} to {total} bytes")
    if total > free:
        raise ValueError(f"needs {total} bytes where {free} are free")
    return total


def _unpack_tar(path: Path, target: Path, limit: int, free: int, nested: bool) -> int:
    total = 0
    names = set()
    with tarfile.open(path) as archive:
        for number, member in enumerate(archive):  # in their order, since a compressed file cannot be searched
            if number >= _MAX_MEMBERS:
                raise ValueError(f"holds more than the {_MAX_MEMBERS} files allowed")
            if member.isdir():
                continue
            total += member.size  # of all, since those that are skipped are unpacked, too
            if total > min(limit, free):
                raise ValueError(f"would grow from {path.stat().st_size} to more than {min(limit, free)} bytes")
            name = _safe_name(member.name, member.isreg() and not member.issparse())
            source = archive.extractfile(member) if _is_read(name, nested) else None
            if source is not None and name in names:
                raise ValueError(f"holds {name!r} twice")
            if source is not None:
                names.add(name)
                _write(source, target / name)
    return total


def _is_read(name: str, nested: bool) -> bool:
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    return suffix in SUFFIXES or suffix in _ANNOTATIONS or (nested and is_archive(path))


def _safe_name(name: str, is_file: bool) -> str:
    """Return the path of a member below the folder. Raises ValueError for one outside of it or a special file."""
    name = name.replace("\\", "/")
    if not is_file:
        raise ValueError(f"{name!r} is a link or another special file")
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or ":" in parts[0] or "\0" in name:
        raise ValueError(f"{name!r} leads out of the folder")
    if any(len(part.encode("utf-8", "surrogateescape")) > _MAX_NAME for part in parts):
        raise ValueError(f"{name[:60]!r}... is too long a name")
    return str(PurePosixPath(name))


def _write(source: IO[bytes], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as target:
        shutil.copyfileobj(source, target, _BLOCK)


def _stem(path: Path) -> str:
    """Return the name of an archive without its ending."""
    name = path.name.lower()
    ending = max((each for each in (*_ZIP, *_TAR, *_UNREAD) if name.endswith(each)), key=len, default="")
    return path.name[: len(path.name) - len(ending)]
