"""Outputs: over inputs, into missing or full places, under unusual names; standard streams, and signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from dev.hostile.annotations import sound_voc
from dev.hostile.case import Case, Rng, Stdout, choices, odd_name, put
from dev.hostile.images import encoded
from dev.hostile.models import sound_model

TARGETS = [
    "a.png",
    "other.json",
    "m.safetensors",
    "voc/Annotations/a.xml",
    "voc/JPEGImages/a.jpg",
    "r.yaml",
    "link",
    "found/x",
]
TARGETS += [
    "loop",
    "nowhere",
    "file/below",
    "x" * 300,
    "voc",
    "new/deep/out",
    "/dev/null",
    "/dev/full",
    "voc/ImageSets/Main/train.txt",
]
FILES = {
    "a.png": encoded("PNG"),
    "other.json": b"{}",
    "r.yaml": b"features: {backbone: zf5/0.05, weights: random, short_sides: [64]}\n",
    "file": b"somebody's",
    "found/comp4_det_train_dog.txt": b"a 0.5 5 6 40 50\n",
    "found/x": b"somebody's",
}
DATA = ("--voc", "voc", "--split", "train")
# a command with OUT for what it writes
COMMANDS: dict[str, tuple[str, ...]] = {
    "detect": ("a.png", "--model", "m.safetensors", "--json", "OUT", "--no-drawing"),
    "detect ": ("a.png", "--output", "OUT", "--format", "json,voc,yolo,crops"),
    "explain": ("a.png", "--output", "OUT"),
    "evaluate": (*DATA, "--detections", "found", "--json", "OUT"),
    "report": ("found", *DATA, "--output", "OUT"),
    "data": ("show", "voc", "--output", "OUT"),
    "data ": ("convert", "voc", "OUT", "--format", "coco"),
    "train": ("--remove-class", "dog", "--model", "m.safetensors", "--output", "OUT"),
}
# verbs that need no network for these commands
UNFAKED = ("evaluate", "report", "data", "train")


# inputs, except the model, which a change of classes may be written to
READ = {
    "detect": ("a.png", "m.safetensors"),
    "explain": ("a.png",),
    "evaluate": ("voc/", "found/"),
    "report": ("voc/", "found/"),
    "data": ("voc/",),
    "train": (),
}


def _replaceable(verb: str, words: tuple[str, ...]) -> tuple[str, ...]:
    if "--overwrite" not in words:
        return ("m.safetensors",) if verb == "train" else ()
    return tuple(name for name in (*FILES, *sound_voc(), "m.safetensors") if not name.startswith(READ[verb] or "\0"))


def write_files(folder: Path) -> None:
    put({**FILES, **sound_voc(), "m.safetensors": sound_model()})(folder)
    (folder / "link").symlink_to("other.json")
    (folder / "loop").symlink_to("loop")
    (folder / "nowhere").symlink_to("gone/file")


def output_cases(rng: Rng, times: int) -> Iterator[Case]:
    pairs = [f"{command}|{target}" for command in COMMANDS for target in TARGETS]
    for pair in choices(rng, pairs, 64 * times):
        command, _, target = pair.partition("|")
        words = tuple(target if word == "OUT" else word for word in COMMANDS[command])
        words += ("--overwrite",) if rng.integers(3) == 0 and "convert" not in words else ()
        verb = command.strip()
        yield Case("output", verb, words, write_files, fake=verb not in UNFAKED, changes=_replaceable(verb, words))
    for command in choices(rng, [*COMMANDS], 24 * times):
        words = tuple("out.png" if word == "OUT" else word for word in COMMANDS[command])
        verb, max_bytes = command.strip(), int(rng.integers(0, 3000))
        yield Case("disk full", verb, words, write_files, fake=verb not in UNFAKED, max_bytes=max_bytes)
    yield from _names(rng, times)
    yield from _streams(rng, times)
    yield from _signals(rng, times)


def _names(rng: Rng, times: int) -> Iterator[Case]:
    for number in range(40 * times):
        name = f"{odd_name(rng)}{number}.png"
        while len(os.fsencode(name)) > 255:
            name = name[10:]
        files = {"sound.png": encoded("PNG")} | ({name: encoded("PNG")} if rng.integers(4) else {})
        command = str(rng.choice(["detect", "explain"]))
        listed = f"./{name}" if rng.integers(4) else name
        words = ("--", listed, "sound.png") if rng.integers(2) else (listed, "sound.png")
        formats = ("--format", "csv,coco,voc,yolo,crops,jsonl") if command == "detect" and words[0] != "--" else ()
        # some names are globs or options
        yield Case("name", command, (*formats, *words), put(files), fake=True)


def _streams(rng: Rng, times: int) -> Iterator[Case]:
    kinds: list[Stdout] = ["closed", "broken", "full"]
    for number in range(18 * times):
        stdout = kinds[number % 3]
        unbuffered = {"PYTHONUNBUFFERED": "1"} if rng.integers(2) else {}
        files = {f"{each}.png": encoded("PNG") for each in range(int(rng.integers(1, 6)))}
        words = (*files, "--json", str(rng.choice(["-", "out.json"])), "--no-drawing")
        yield Case("stream", "detect", words, put(files), fake=True, stdout=stdout, environment=unbuffered)


def _signals(rng: Rng, times: int) -> Iterator[Case]:
    for number in range(30 * times):
        sent = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[number % 3]
        at = int(rng.integers(1, 400) if number % 2 else rng.integers(1, 40))
        files = {f"{each}.png": encoded("PNG") for each in range(5)}
        words = (*files, "--json", "out.json", "--format", "csv,voc,crops")
        codes = (0, 130, 128 + sent, -sent)
        yield Case("signal", "detect", words, put(files), fake=True, codes=codes, signal=(sent, at))
