"""One case: files in a folder, a command on them, and how it may end."""

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

    kind: what the table counts it as. script: of `tools/`. words: its arguments, in the folder of the case.
    write: makes the files. named: what the line says when the command ends with code 2. fake: detect with a detector
    that takes no time. codes: exit codes that are allowed. changes: how names of files begin that may be
    replaced. most_bytes: of a file that is written, as on a full disk. signal: which, and at which opening of a file it
    comes. writers: how many run the command at a time.
    """

    kind: str
    script: str
    words: tuple[str, ...]
    write: Write = lambda folder: None
    named: str = ""
    fake: bool = False
    codes: tuple[int, ...] = (0, 2)
    changes: tuple[str, ...] = ()
    most_bytes: int | None = None
    signal: tuple[int, int] | None = None
    stdout: Stdout = "file"
    writers: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)


def put(files: Mapping[str, bytes]) -> Write:
    """What writes these files, and the folders that they lie in."""

    def write(folder: Path) -> None:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    return write


def damaged(data: bytes, rng: Rng) -> bytes:
    """Bytes cut off, changed, taken out, doubled or put in."""
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
    """So many of the items: all of them before any comes again."""
    done = 0
    while done < count:
        for row in rng.permutation(len(items))[: count - done]:
            yield items[int(row)]
            done += 1


def odd_name(rng: Rng) -> str:
    """A name of a file that is no fun: blanks, control characters, dashes, dots, bytes that are no UTF-8, length."""
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
