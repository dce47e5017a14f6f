"""Unpack zip files of labeling tools safely: they are untrusted input."""

import shutil
import stat
import tempfile
import zipfile
import zlib
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path, PurePosixPath

from detector.images.files import SUFFIXES
from detector.runtime.files import file_state

_MAX_MEMBERS = 500_000
_MAX_BYTES = 200_000_000_000
_MAX_RATIO = 200  # of text; images are already compressed
_SMALL = 20_000_000  # bytes below which any ratio is allowed
_MAX_NAME = 240
_BLOCK = 1 << 20
_READ = SUFFIXES | {".xml", ".json", ".yaml", ".yml", ".txt", ".csv", ".names", ".data"}


def unpacked(path: Path) -> Path:
    """Return a temporary folder with the images and annotations of a zip file; it is deleted at exit.

    Raises OSError where the file cannot be read and ValueError, with one line that starts with ``path``, where it is
    damaged, encrypted, leads out of its folder, holds links, or is larger than datasets are.
    """
    return _unpacked(path, file_state(path))


@cache
def _unpacked(path: Path, state: tuple[str, int, int]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="spp-detector-"))
    # at the end of this process, not of those that it forks
    Finalize(None, shutil.rmtree, (folder, True), exitpriority=0)
    target = folder / (path.stem or "data")
    target.mkdir()
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, shutil.disk_usage(folder).free)
            for name, member in members.items():
                _extract(archive, member, target / name)
    # NotImplementedError: an unknown compression; RuntimeError: a password
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        reason = str(error) if isinstance(error, ValueError) else f"cannot be unpacked: {error}"
        raise ValueError(f"{path}: {reason}") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return target


def _members(archive: zipfile.ZipFile, free: int) -> dict[str, zipfile.ZipInfo]:
    """Return the files to unpack by name. Raises ValueError for an archive that cannot be a dataset."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > _MAX_MEMBERS:
        raise ValueError(f"holds {len(infos)} files, more than the {_MAX_MEMBERS} allowed")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = _safe_name(info)
        if PurePosixPath(name).suffix.lower() not in _READ:
            continue
        if info.flag_bits & 1:
            raise ValueError(f"{name!r} is encrypted")
        if name in members:
            raise ValueError(f"holds {name!r} twice")
        members[name] = info
    _check_sizes(members, free)
    return members


def _check_sizes(members: dict[str, zipfile.ZipInfo], free: int) -> None:
    total = 0
    for name, info in members.items():
        total += info.file_size
        if info.file_size > max(_SMALL, _MAX_RATIO * info.compress_size):
            raise ValueError(f"{name!r} would grow from {info.compress_size} to {info.file_size} bytes")
    packed = sum(info.compress_size for info in members.values())
    if total > min(_MAX_BYTES, max(_SMALL, _MAX_RATIO * packed)):
        raise ValueError(f"would grow from {packed} to {total} bytes")
    if total > free:
        raise ValueError(f"needs {total} bytes where {free} are free")


def _safe_name(info: zipfile.ZipInfo) -> str:
    """Return the path of a member below the folder. Raises ValueError for one outside of it or a special file."""
    name = info.filename.replace("\\", "/")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise ValueError(f"{name!r} is a link or another special file")
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or ":" in parts[0] or "\0" in name:
        raise ValueError(f"{name!r} leads out of the folder")
    if any(len(part.encode("utf-8", "surrogateescape")) > _MAX_NAME for part in parts):
        raise ValueError(f"{name[:60]!r}... is too long a name")
    return str(PurePosixPath(name))


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # if a header lies, zipfile reads no more than it says, and the checksum differs
    with archive.open(member) as source, path.open("xb") as target:
        shutil.copyfileobj(source, target, _BLOCK)
