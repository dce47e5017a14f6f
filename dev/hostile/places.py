"""Where commands write: over what they read, into what is gone or full, under odd names; streams, and signals."""

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
    "detect.py": ("a.png", "--model", "m.safetensors", "--json", "OUT", "--no-drawing"),
    "detect.py ": ("a.png", "--output", "OUT", "--format", "json,voc,yolo,crops"),
    "explain.py": ("a.png", "--output", "OUT"),
    "evaluate_voc.py": (*DATA, "--detections", "found", "--json", "OUT"),
    "report.py": ("found", *DATA, "--output", "OUT"),
    "data.py": ("show", "voc", "--output", "OUT"),
    "data.py ": ("convert", "voc", "OUT", "--format", "coco"),
    "train_svm.py": ("--remove-class", "dog", "--model", "m.safetensors", "--output", "OUT"),
}
# those that end, in these places, before a network is needed
UNFAKED = ("evaluate_voc.py", "report.py", "data.py", "train_svm.py")


# what they read, but for the model, which a change of classes may be written over
READ = {
    "detect.py": ("a.png", "m.safetensors"),
    "explain.py": ("a.png",),
    "evaluate_voc.py": ("voc/", "found/"),
    "report.py": ("voc/", "found/"),
    "data.py": ("voc/",),
    "train_svm.py": (),
}


def _replaceable(script: str, words: tuple[str, ...]) -> tuple[str, ...]:
    if "--overwrite" not in words:
        return ("m.safetensors",) if script == "train_svm.py" else ()
    return tuple(name for name in (*FILES, *sound_voc(), "m.safetensors") if not name.startswith(READ[script] or "\0"))


def write_files(folder: Path) -> None:
    put({**FILES, **sound_voc(), "m.safetensors": sound_model()})(folder)
    (folder / "link").symlink_to("other.json")
    (folder / "loop").symlink_to("loop")
    (folder / "nowhere").symlink_to("gone/file")


def place_cases(rng: Rng, times: int) -> Iterator[Case]:
    pairs = [f"{command}|{target}" for command in COMMANDS for target in TARGETS]
    for pair in choices(rng, pairs, 64 * times):
        command, _, target = pair.partition("|")
        words = tuple(target if word == "OUT" else word for word in COMMANDS[command])
        words += ("--overwrite",) if rng.integers(3) == 0 and "convert" not in words else ()
        script = command.strip()
        yield Case(
            "output", script, words, write_files, fake=script not in UNFAKED, changes=_replaceable(script, words)
        )
    for command in choices(rng, [*COMMANDS], 24 * times):
        words = tuple("out.png" if word == "OUT" else word for word in COMMANDS[command])
        script, most = command.strip(), int(rng.integers(0, 3000))
        yield Case("disk full", script, words, write_files, fake=script not in UNFAKED, most_bytes=most)
    yield from _names(rng, times)
    yield from _streams(rng, times)
    yield from _signals(rng, times)


def _names(rng: Rng, times: int) -> Iterator[Case]:
    for number in range(40 * times):
        name = f"{odd_name(rng)}{number}.png"
        while len(os.fsencode(name)) > 255:
            name = name[10:]
        files = {"sound.png": encoded("PNG")} | ({name: encoded("PNG")} if rng.integers(4) else {})
        command = str(rng.choice(["detect.py", "explain.py"]))
        listed = f"./{name}" if rng.integers(4) else name
        words = ("--", listed, "sound.png") if rng.integers(2) else (listed, "sound.png")
        formats = ("--format", "csv,coco,voc,yolo,crops,jsonl") if command == "detect.py" and words[0] != "--" else ()
        # a name is a glob, or an option, where it begins or reads so
        yield Case("name", command, (*formats, *words), put(files), fake=True)


def _streams(rng: Rng, times: int) -> Iterator[Case]:
    kinds: list[Stdout] = ["closed", "broken", "full"]
    for number in range(18 * times):
        stdout = kinds[number % 3]
        unbuffered = {"PYTHONUNBUFFERED": "1"} if rng.integers(2) else {}
        files = {f"{each}.png": encoded("PNG") for each in range(int(rng.integers(1, 6)))}
        words = (*files, "--json", str(rng.choice(["-", "out.json"])), "--no-drawing")
        yield Case("stream", "detect.py", words, put(files), fake=True, stdout=stdout, environment=unbuffered)


def _signals(rng: Rng, times: int) -> Iterator[Case]:
    for number in range(30 * times):
        sent = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[number % 3]
        at = int(rng.integers(1, 400) if number % 2 else rng.integers(1, 40))
        files = {f"{each}.png": encoded("PNG") for each in range(5)}
        words = (*files, "--json", "out.json", "--format", "csv,voc,crops")
        codes = (0, 130, 128 + sent, -sent)
        yield Case("signal", "detect.py", words, put(files), fake=True, codes=codes, signal=(sent, at))
