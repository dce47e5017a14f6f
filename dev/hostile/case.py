"""A case: files in a folder, a command on them, and how it may end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

Rng = np.random.Generator
Write = Callable[[Path], None]
Stdout = Literal["file", "closed", "broken", "full"]


@dataclass(frozen=True)
class Case:
    """A command on hostile files.

    kind: its row in the table. verb, words: of `spp` and its arguments, run in the folder of the case.
    write: makes the files. named: a name that the error line must contain. fake: use a detector that takes no time.
    codes: allowed exit codes. changes: prefixes of the names of files that may be replaced.
    max_bytes: of a written file, as on a full disk. signal: its number, and the opening of a file at which it comes.
    writers: number of processes that run the command at once.
    """

    kind: str
    verb: str
    words: tuple[str, ...]
    write: Write = lambda folder: None
    named: str = ""
    fake: bool = False
    codes: tuple[int, ...] = (0, 2)
    changes: tuple[str, ...] = ()
    max_bytes: int | None = None
    signal: tuple[int, int] | None = None
    stdout: Stdout = "file"
    writers: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)


def put(files: Mapping[str, bytes]) -> Write:
    """Return a function that writes these files into a folder."""

    def write(folder: Path) -> None:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    return write


def damaged(data: bytes, rng: Rng) -> bytes:
    """Cut off, change, remove, repeat or insert bytes."""
    how, place = rng.integers(5), int(rng.integers(max(1, len(data))))
    length = int(rng.integers(1, 64))
    if how == 0:
        return data[:place]
    if how == 1:
        changed = bytearray(data)
        for _ in range(int(rng.integers(1, 20))):
            changed[int(rng.integers(len(data)))] = int(rng.integers(256))
        return bytes(changed)
    if how == 2:
        return data[:place] + data[place + length :]
    if how == 3:
        return data[:place] + data[max(0, place - length) :]
    return data[:place] + rng.bytes(length) + data[place:]


def choices(rng: Rng, items: list[str], count: int) -> Iterator[str]:
    """Yield ``count`` of the items in random order; all come once before any comes again."""
    done = 0
    while done < count:
        for row in rng.permutation(len(items))[: count - done]:
            yield items[int(row)]
            done += 1


def odd_name(rng: Rng) -> str:
    """Return an unusual file name: blanks, control characters, dashes, dots, bytes that are not UTF-8, great length."""
    pieces = [
        "\n",
        "\t",
        " ",
        "-",
        "--json",
        "'",
        '"',
        "\\",
        "*",
        "[a]",
        "%s",
        "\x1b[31m",
        "ü",
        "日本",
        "\udcff",
        "\udc80\udcfe",
    ]
    pieces += [".", "..", ";", "$(x)", "`x`", "|", "&", "<b>", "\u202e", "\r", "#", "?"]
    name = "".join(pieces[int(row)] for row in rng.integers(len(pieces), size=int(rng.integers(1, 6))))
    if rng.integers(6) == 0:
        name += "a" * (250 - len(os.fsencode(name)))
    return name.replace("/", "_")
