"""Models, recipes and caches that are damaged, have false headers, or hold values that no program writes."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from detector.runtime.array_files import Arrays, read_arrays, write_arrays
from dev.hostile.annotations import sound_voc
from dev.hostile.case import Case, Rng, choices, damaged, put
from dev.hostile.images import encoded

WIDTH = "zf5/0.05"
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    10**15,
    10**40,
    1e308,
    float("nan"),
    "x",
    "",
    [],
    {},
    [[]],
    ["dog", "dog"],
    ["a\tb"],
    "\n",
]
LINES = [
    "svm: {C: .inf}", "svm: {mean_norm: .inf}", "svm: {C: .nan}", "svm: {max_samples: 1000000000000000}",
    "features: {short_sides: [20000]}", "features: {short_sides: []}", "features: {levels: [1000000000]}",
    "features: {backbone: zf5/1e30}", "features: {backbone: zf5/nan}", "features: {backbone: timm/../x, stage: a}",
    "features: {weights: /dev/zero}", "features: {weights: .}", "features: {weights: nowhere.safetensors}",
    "features: {margin: .nan}", "features: {stage: __class__}", "proposals: {max_boxes: 0}",
    "detection: {box_refinements: 1000000000}", "detection: {max_detections: -1}",
    "fine_tuning: {enabled: !!bool maybe}",
    "fine_tuning: {enabled: true, width: 1000000000000}", "svm: !!python/object/apply:os.system [ls]",
    "svm: !!timestamp x", "svm: !!int x", "svm: !!binary x", "a: &a [*a]", "svm: {<<: 1}", "? [1]\n: 2",
    "svm: \u0000", "%YAML 9.9\n---\n", "svm:\n  C: 1\n  C: 2", "- svm", "svm", "1", "~", "", "svm: {seed: -1}",
    "svm: {seed: 123456789012345678901234567890}",
]  # fmt: skip
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
)


def model_cases(rng: Rng, times: int) -> Iterator[Case]:
    for _ in range(60 * times):
        data, named = _odd_model(rng)
        files = {"m.safetensors": data, "a.png": encoded("PNG")}
        words = ("a.png", "--model", "m.safetensors", "--json", "out.json", "--no-drawing")
        yield Case("model", "detect", words, put(files), named)
    for line in [*choices(rng, LINES, 44 * times), *[BOMB] * times, *["[" * 50_000, "a: " + "{b: " * 50_000] * times]:
        text = (
            line.encode() if rng.integers(5) or len(line) > 1000 else damaged(b"svm: {C: 0.5}\n" + line.encode(), rng)
        )
        yield _recipe(text)
    for _ in range(24 * times):
        yield _cache(rng)


def _recipe(text: bytes) -> Case:
    files = {**sound_voc(), "r.yaml": text}
    words = ("r.yaml", "--voc", "voc", "--split", "train", "--dry-run")
    return Case("recipe", "train", words, put(files))


@cache
def sound_model() -> bytes:
    """Return a model file of a tiny network, which finds nothing."""
    from detector.build import build_encoder, build_proposer
    from detector.config.detector import parse_config
    from detector.heads.heads import Heads
    from detector.heads.linear import LinearSVMs
    from detector.pipeline import Detector

    content: Any = {
        "features": {"backbone": WIDTH, "weights": "random", "short_sides": [64]},
        "proposals": {"max_boxes": 20},
    }
    config = parse_config(content, "hostile")
    encoder = build_encoder(config.features)
    heads = Heads(LinearSVMs(np.zeros((encoder.n_features, 2), np.float32), np.full(2, -9, np.float32)))
    detector = Detector(build_proposer(config.proposals), encoder, heads, ("dog", "cat"), config)
    with tempfile.TemporaryDirectory() as folder:
        detector.save(Path(folder) / "m.safetensors")
        return (Path(folder) / "m.safetensors").read_bytes()


def _odd_model(rng: Rng) -> tuple[bytes, str]:
    """Return a model file, and the name that its error must contain, if any: it may name other files itself."""
    data = sound_model()
    what = int(rng.integers(6))
    if what == 0:
        return damaged(data, rng), "m.safetensors"
    if what == 1:
        return _lying(data, rng), "m.safetensors"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.safetensors"
        path.write_bytes(data)
        arrays, metadata = read_arrays(path)
        if what == 2:
            arrays = _odd_arrays(arrays, rng)
        elif what == 3:
            metadata = _odd_values(metadata, rng)
        elif what == 4:
            metadata["config"] = _odd_values(metadata["config"], rng)
        else:
            section = str(rng.choice(list(metadata["config"])))
            metadata["config"][section] = _odd_values(metadata["config"][section], rng)
        write_arrays(path, arrays, metadata)
        return path.read_bytes(), "m.safetensors" if what < 4 else ""


def _lying(data: bytes, rng: Rng) -> bytes:
    """Return a file whose header does not fit what follows."""
    (length,) = struct.unpack_from("<Q", data)
    header, rest = data[8 : 8 + length], data[8 + length :]
    if rng.integers(4) == 0:
        return struct.pack("<Q", int(rng.choice([0, 2**20, 2**40, 2**63]))) + header + rest
    content = json.loads(header)
    name = str(rng.choice([name for name in content if name != "__metadata__"]))
    key = str(rng.choice(["dtype", "shape", "data_offsets"]))
    values: dict[str, list[Any]] = {
        "dtype": ["F8_E4M3", "F8_E5M2", "BF16", "F64", "I64", "BOOL", "X", 1, None],
        "shape": [[], [1], [10**12, 10**12], [-1], "x", [0, 5]],
        "data_offsets": [[0, 0], [0, 10**15], [10, 5], [-1, 4], []],
    }
    content[name][key] = values[key][int(rng.integers(len(values[key])))]
    if rng.integers(6) == 0:
        content = {"__metadata__": {"spp-detector": "[" * 50_000}}
    header = json.dumps(content).encode()
    return struct.pack("<Q", len(header)) + header + rest


def _odd_arrays(arrays: Arrays, rng: Rng) -> Arrays:
    name = str(rng.choice(list(arrays)))
    array = arrays[name]
    if rng.integers(2):
        array = array.copy()
        array.reshape(-1)[int(rng.integers(array.size))] = [np.nan, np.inf, -np.inf][int(rng.integers(3))]
        return {**arrays, name: array}
    others: list[Any] = [
        array[:0],
        array.reshape(-1),
        array[None],
        array.astype(np.int64),
        array.astype(np.float64),
        np.float32(0),
    ]
    changed = {**arrays, name: np.asarray(others[int(rng.integers(len(others)))])}
    if rng.integers(4) == 0:
        del changed[name]
    return changed


def _odd_values(content: Any, rng: Rng) -> Any:
    changed = dict(content)
    key = str(rng.choice([*changed, "more"]))
    changed[key] = VALUES[int(rng.integers(len(VALUES)))]
    if rng.integers(5) == 0:
        del changed[key]
    return changed


def _cache(rng: Rng) -> Case:
    """Return a case of a cache with a file that is damaged, of another kind, or missing: the run goes on."""
    seed = int(rng.integers(2**31))
    recipe = f"features: {{backbone: {WIDTH}, weights: random, short_sides: [64]}}\nproposals: {{max_boxes: 20}}\n"
    files = {**sound_voc(), "r.yaml": recipe.encode()}

    def write(folder: Path) -> None:
        put(files)(folder)
        _fill(folder)
        spoil(folder / "cache", np.random.default_rng(seed))

    words: tuple[str, ...] = ("r.yaml", "--voc", "voc", "--split", "train", "--cache", "cache")
    if rng.integers(3) == 0:
        words = ("--cache", "cache", "--cache-info")
    return Case("cache", "cache", words, write, changes=("cache/",), writers=int(rng.integers(1, 3)))


@cache
def _filled() -> dict[str, bytes]:
    from detector.build import build_cache
    from detector.config.detector import load_config
    from detector.datasets.loading import load_voc
    from detector.features.cache import fill_cache

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = f"features: {{backbone: {WIDTH}, weights: random, short_sides: [64]}}\nproposals: {{max_boxes: 20}}\n"
        put({**sound_voc(), "r.yaml": recipe.encode()})(folder)
        cache = build_cache(load_config(folder / "r.yaml"), folder / "cache")
        fill_cache(cache, load_voc(folder / "voc", "train", ["dog"]))
        paths = (path for path in (folder / "cache").rglob("*") if path.is_file())
        return {str(path.relative_to(folder / "cache")): path.read_bytes() for path in paths}


def _names() -> list[str]:
    return list(_filled())


def _fill(folder: Path) -> None:
    put({f"cache/{name}": data for name, data in _filled().items()})(folder)


def spoil(cache: Path, rng: Rng) -> None:
    path = cache / str(rng.choice(_names()))
    what = int(rng.integers(5))
    if what == 0:
        path.write_bytes(damaged(path.read_bytes(), rng))
    elif what == 1:
        path.write_bytes(b"[" * 50_000)
    elif what == 2:
        path.unlink()
    elif what == 3:
        other = [name for name in _names() if name.endswith(path.suffix)]
        path.write_bytes((cache / str(rng.choice(other))).read_bytes())
    else:
        path.write_bytes(b"")
