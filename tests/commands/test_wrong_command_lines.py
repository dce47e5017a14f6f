"""A hundred wrong command lines: exit code 2, one line that names what is wrong, and nothing written."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from detector.datasets.synthetic import write_synthetic_voc
from detector.images.files import write_image
from detector.model_file import CLASSIFIER, ModelContents, write_model
from tests.scripts import script

DATA = "--voc voc --split train"

# of each script: its arguments, and what the line says
WRONG: dict[str, list[tuple[str, str]]] = {
    "detect.py": [
        ("", "give IMAGEs, or --list FILE"),
        ("a.png --nonsense", "unrecognized arguments: --nonsense"),
        ("nowhere.jpg", "nowhere.jpg: No such file"),
        ("'*.gif'", "*.gif: no image found"),
        ("empty", "empty: no image found"),
        ("text", "text: not a JPEG"),
        ("a.png --max-detections 0", "--max-detections must be at least 1, but is 0"),
        ("a.png --max-detections many", "invalid int value: 'many'"),
        ("a.png --min-score high", "invalid float value: 'high'"),
        ("a.png --min-score nan", "must be a number, but is nan"),
        ("a.png --min-probability 1.5", "must be in 0..1, but is 1.5"),
        ("a.png --min-probability half", "invalid fraction value: 'half'"),
        ("a.png --precision 0", "--precision must be in 0.01..0.99, but is 0"),
        ("a.png --precision 0.9 --min-score 1", "not allowed with argument --precision"),
        ("a.png --format jpeg", "there is no format 'jpeg'; there are json"),
        ("a.png --json full", "full is a folder, but must be a file"),
        ("a.png --json text/found.json", "text/found.json cannot be written"),
        ("a.png --json a.png", "--json a.png would replace what is read"),
        ("a.png --output text", "text cannot be written"),
        ("a.png --output full --format csv", "full/detections.csv is there, and not written by this program"),
        ("a.png --model nowhere.safetensors", "nowhere.safetensors"),
        ("a.png --model text", "text: is damaged or no safetensors file"),
        ("a.png --model classifier.safetensors", "classifier.safetensors: is no model of this program"),
        ("a.png --weights text --weights text", "--weights must be given once for every --model"),
        ("a.png --device tpu9", "tpu9"),
    ],
    "explain.py": [
        ("", "the following arguments are required: IMAGE"),
        ("nowhere.jpg", "nowhere.jpg: No such file"),
        ("a.png --box 1,2,3 --class dog", "must be four numbers x1,y1,x2,y2, but is '1,2,3'"),
        ("a.png --box 1,2,3,inf --class dog", "must be four numbers"),
        ("a.png --box 1,2,3,4", "--box and --class go together"),
        ("a.png --class dog", "--box and --class go together"),
        ("a.png --min-score nan", "must be a number, but is nan"),
        ("a.png --max-detections -1", "--max-detections must be at least 1, but is -1"),
        ("a.png --json full", "full is a folder, but must be a file"),
        ("a.png --output text", "text cannot be written"),
        ("a.png --model text", "text: is damaged or no safetensors file"),
    ],
    "serve.py": [
        ("--port 70000", "must be 0 to 65535, but is 70000"),
        ("--port http", "must be 0 to 65535, but is http"),
        ("--host 1.2.3.4.5 --port 0", "cannot listen on 1.2.3.4.5, port 0"),
        ("--port 0 --model nowhere.safetensors", "nowhere.safetensors"),
        ("--port 0 --model text", "text: is damaged or no safetensors file"),
        ("full", "unrecognized arguments: full"),
    ],
    "train_svm.py": [
        ("", "give a CONFIG to train by, or data"),
        ("default", "a data set is needed: --data PATH"),
        (f"nowhere.yaml {DATA}", "nowhere.yaml"),
        (f"wrong.yaml {DATA}", "wrong.yaml: unknown key 'svn'"),
        (f"text {DATA}", "text: "),
        ("--data nowhere.zip", "nowhere.zip: no such file or folder"),
        ("--data text", "text: holds no annotations of a known layout"),
        ("--data empty", "empty: holds no annotations of a known layout"),
        ("--data voc --format pascal", "invalid choice: 'pascal'"),
        ("--data voc --split night", "there is no split 'night'"),
        ("--data voc --hold-out 1", "--hold-out must be between 0 and 1, but is 1"),
        ("--data voc --voc voc", "not allowed with argument --data"),
        ("--data voc --coco boxes.json", "not allowed with argument --data"),
        ("--voc voc", "--voc needs --split"),
        ("--voc voc --split night", "night"),
        ("--voc empty --split train", "empty"),
        ("--coco text", "text: not a readable JSON file"),
        ("--coco nowhere.json", "nowhere.json"),
        (f"{DATA} --pictures full", "--pictures goes with --coco"),
        (f"{DATA} --classes circle circle", "class_names must differ"),
        (f"{DATA} --classes hexagon", "no object is left"),
        (f"{DATA} --proposals nowhere.npz", "nowhere.npz"),
        (f"{DATA} --proposals text", "text"),
        (f"{DATA} --weights nowhere.safetensors", "nowhere.safetensors"),
        (f"{DATA} --weights text", "text: is damaged or no safetensors file"),
        (f"{DATA} --tuned text", "text: is damaged or no safetensors file"),
        (f"{DATA} --device tpu9", "tpu9"),
        (f"{DATA} --output full", "full: holds files, but no training"),
        (f"{DATA} --output text", "--output text is there, and not written by this program"),
        (f"{DATA} --output text/m.safetensors", "text/m.safetensors cannot be written"),
        (f"{DATA} --output m.safetensors --learning-curve", "goes with a training into a folder"),
        (f"{DATA} --output text.safetensors", "is there, and not written by this program; say --overwrite"),
        (f"{DATA} --cache text", "text cannot be a folder"),
        ("--data voc --learning-curve", "--learning-curve needs held-out images"),
        (f"{DATA} --model text", "--model goes with --add-class and --remove-class"),
        (f"--add-class circle {DATA}", "--output is needed: the model file to write"),
        (f"--add-class circle {DATA} --dry-run --output m.safetensors", "--dry-run goes with a CONFIG"),
        (f"--add-class circle {DATA} --model text --output m.safetensors", "text: is damaged"),
        ("--add-class circle --output m.safetensors", "a data set is needed"),
        ("--add-class circle --remove-class dog --output m.safetensors", "not allowed with argument --add-class"),
        ("--remove-class circle --output m.safetensors", "circle"),
    ],
    "cache_features.py": [
        ("", "--cache is needed: the folder of the cached files"),
        (f"{DATA} --cache cache", "a CONFIG is needed, such as default"),
        ("default --cache cache", "a data set is needed"),
        (f"default {DATA} --cache text", "text cannot be a folder"),
        ("--cache nowhere --cache-info", "nowhere: no such file or directory"),
        ("--cache text --cache-info", "text cannot be a folder"),
        ("--cache nowhere --clean", "nowhere"),
        ("--cache cache --older-than 3", "--older-than goes with --clean"),
        ("--cache cache --clean --older-than -3", "--older-than goes with --clean, and takes a number of days"),
        ("--cache cache --clean --older-than nan", "--older-than goes with --clean, and takes a number of days"),
        ("--cache cache --clean --cache-info", "not allowed with argument --clean"),
    ],
    "compare_settings.py": [
        (f"default {DATA}", "the following arguments are required: --cache"),
        (f"default {DATA} --cache cache --hold-out 1", "--hold-out must be at least 2, but is 1"),
        (f"default {DATA} --cache cache --images 3", "there are 3 images: none is left to score"),
        (f"default {DATA} --cache cache --images -3", "--images must be at least 1, but is -3"),
        (f"default {DATA} --cache cache --try svm.D=3", "there is no key 'svm.D' in a recipe"),
        (f"default {DATA} --cache cache --try svm.C=[", "must be KEY=VALUE"),
        (f"default {DATA} --cache cache --try svm.C=much", "--try svm.C=much: svm.C"),
        (f"default {DATA} --cache cache --results text", "--results text is there, and not written by this program"),
        (f"default {DATA} --cache text", "text cannot be a folder"),
    ],
    "tune_network.py": [
        (f"joint {DATA} --cache cache --output l.safetensors", "arguments are required: --from"),
        (f"joint {DATA} --cache cache --output l.safetensors --from conv99", "conv99"),
        (f"default {DATA} --cache cache --output full --from blocks.6", "full is a folder, but must be a file"),
        (f"fine_tuned {DATA} --cache text --output l.safetensors --from blocks.6", "text cannot be a folder"),
    ],
    "evaluate_voc.py": [
        ("", "one of the arguments --data --voc --coco is required"),
        ("--voc voc", "--voc needs --split"),
        (f"{DATA} --metric map", "invalid choice: 'map'"),
        (f"{DATA} --model text", "text: is damaged or no safetensors file"),
        (f"{DATA} --model text --detections full", "--detections are scored without a --model"),
        (f"{DATA} --detections nowhere", "nowhere"),
        (f"{DATA} --detections empty", "empty"),
        (f"{DATA} --detections full --min-score 1", "thresholds go without --detections"),
        (f"{DATA} --precision 1", "--precision must be in 0.01..0.99, but is 1"),
        (f"{DATA} --record", "--record needs one --model"),
        (f"{DATA} --json full", "full is a folder, but must be a file"),
        (f"{DATA} --report text", "text cannot be written"),
        (f"{DATA} --baseline text", "--baseline goes with --report"),
        (f"{DATA} --detections full --report out --metric coco", "--report goes with --metric voc07 or area"),
        (f"{DATA} --save-detections text", "text cannot be written"),
        (f"{DATA} --cache text", "text cannot be a folder"),
    ],
    "report.py": [
        (f"{DATA}", "the following arguments are required: RUN"),
        (f"full full full {DATA}", "one run is reported on, or two are compared, but there are 3"),
        ("full", "one of the arguments --data --voc --coco is required"),
        (f"nowhere {DATA}", "nowhere"),
        (f"text {DATA}", "text"),
        (f"full {DATA} --output text", "text cannot be written"),
        (f"full {DATA} --baseline nowhere.json", "nowhere.json"),
        (f"full {DATA} --baseline text", "text"),
    ],
    "calibrate.py": [
        (f"{DATA} --output m.safetensors", "the following arguments are required: MODEL"),
        (f"text {DATA}", "the following arguments are required: --output"),
        (f"text {DATA} --output m.safetensors", "text: is damaged or no safetensors file"),
        (f"nowhere.safetensors {DATA} --output m.safetensors", "nowhere.safetensors"),
        ("text --voc voc --output m.safetensors", "--voc needs --split"),
        (f"text {DATA} --output full", "full is a folder, but must be a file"),
        (f"text {DATA} --output m.safetensors --cache text", "text cannot be a folder"),
    ],
    "data.py": [
        ("", "the following arguments are required: COMMAND"),
        ("look voc", "invalid choice: 'look'"),
        ("check nowhere.zip", "nowhere.zip: no such file or folder"),
        ("check empty", "empty: holds no annotations of a known layout"),
        ("check voc --format coco", "voc: holds no annotations of a coco layout"),
        ("check voc --config nowhere.yaml", "nowhere.yaml"),
        ("check voc --hold-out 0", "--hold-out must be between 0 and 1, but is 0"),
        ("convert voc new", "the following arguments are required: --format"),
        ("convert voc new --format tfrecord", "invalid choice: 'tfrecord'"),
        ("convert voc voc/new --format coco", "voc/new: must lie outside of voc"),
        ("convert voc full --format coco", "full: is there already and not empty"),
        ("convert voc text --format coco", "text: is there already"),
        ("convert voc text/new --format coco", "text/new cannot be written"),
        ("show voc --count 0", "--count must be at least 1, but is 0"),
        ("show voc --output full", "full is a folder, but must be a file"),
        ("show voc --output sheet.doc", "sheet.doc: must end in one of .bmp"),
        ("show text", "text: holds no annotations of a known layout"),
        ("next", "the following arguments are required: UNLABELLED"),
        ("next empty", "empty: no image found"),
        ("next a.png --count 0", "--count must be at least 1, but is 0"),
        ("next a.png --output full", "full: is there already and not empty"),
        ("next a.png --output text/drafts", "text/drafts cannot be written"),
        ("next a.png --output . --overwrite", ".: must not hold what is read, but holds a.png"),
        ("next a.png --format csv", "invalid choice: 'csv'"),
        ("next a.png --model text", "text: is damaged or no safetensors file"),
        ("next a.png --cache text", "text cannot be a folder"),
        ("next a.png --precision 2", "must be in 0..1, but is 2"),
    ],
    "classify.py": [
        ("a.png", "the following arguments are required: --model"),
        ("a.png --model text --top 0", "--top must be at least 1, but is 0"),
        ("a.png --model text", "text: is damaged or no safetensors file"),
        ("nowhere.jpg --model nowhere.safetensors", "nowhere.safetensors"),
        ("empty --model text", "empty: no image found"),
        ("a.png --model text --views three", "invalid choice: 'three'"),
        ("a.png --model text --json full", "full is a folder, but must be a file"),
    ],
    "train_classifier.py": [
        ("classifier --images full --output m.safetensors", "the following arguments are required: --cache"),
        ("classifier --cache cache --output m.safetensors", "one of the arguments --images --voc is required"),
        ("classifier --voc voc --cache cache --output m.safetensors", "--voc needs --split"),
        ("classifier --images full --objects --cache cache --output m.safetensors", "go with --voc"),
        ("classifier --images empty --cache cache --output m.safetensors", "empty"),
        (f"default {DATA} --cache cache --output m.safetensors", "unknown key"),
        (f"classifier {DATA} --cache text --output m.safetensors", "text cannot be a folder"),
        (f"classifier {DATA} --cache cache --output full", "full is a folder, but must be a file"),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data of four images, an image, a text, a classifier, a wrong recipe, and two folders."""
    folder = tmp_path_factory.mktemp("wrong")
    write_synthetic_voc(folder / "voc", 4, seed=1, split="train")
    write_image(folder / "a.png", np.zeros((40, 60, 3), np.uint8))
    (folder / "text").write_text("neither an image nor a model")
    (folder / "text.safetensors").write_text("nor this")
    (folder / "wrong.yaml").write_text("svn: {}")
    write_model(folder / "classifier.safetensors", CLASSIFIER, ModelContents({}, (), {}, "", {}))
    for name in ("empty", "full"):
        (folder / name).mkdir()
    (folder / "full" / "detections.csv").touch()
    return folder


def listing(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def test_there_are_a_hundred_of_them() -> None:
    assert sum(map(len, WRONG.values())) >= 100


@pytest.mark.parametrize(
    ("name", "arguments", "line"), [(name, *each) for name, lines in WRONG.items() for each in lines]
)
def test_a_wrong_command_line_costs_one_line(place: Path, name: str, arguments: str, line: str) -> None:
    before = listing(place)
    done = script(name, *shlex.split(arguments), cwd=place)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert line in done.stderr
    assert "Traceback" not in done.stderr
    assert listing(place) == before
