"""Broken datasets end in exit code 2 and one line that names file and issue; nothing is written."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detector.cli import train
from detector.cli.console import run
from tests.datasets.exports import draw_image, write_export
from tests.scripts import ROOT

Break = Callable[[Path], object]


def rewrite(name: str, *pairs: tuple[str, str]) -> Break:
    """Replace texts, each of which must be there, in a file of the export."""

    def change(root: Path) -> None:
        path = root / name
        text = path.read_text()
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new, 1)
        path.write_text(text)

    return change


def put(name: str, content: str | bytes) -> Break:
    def change(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def coco(change: Callable[[Any], object]) -> Break:
    def apply(root: Path) -> None:
        path = root / "annotations/instances_default.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return apply


def remove(*names: str) -> Break:
    def change(root: Path) -> None:
        for name in names:
            (root / name).unlink()

    return change


def both(*changes: Break) -> Break:
    return lambda root: [change(root) for change in changes]


XML, BOMB = "IMG 1.xml", '<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]><annotation>&d;</annotation>'
INSTANCES = "annotations/instances_default.json"
YAML = "data.yaml"
LABELS = "labels/train/a.txt"
CSV = "train-annotations-bbox.csv"
HEADER = "ImageID,LabelName,XMin,XMax,YMin,YMax\n"

# what is broken, how, and what the line says
BROKEN: list[tuple[str, Break, str]] = [
    # issues of a single image or object, which cost only themselves without --strict
    ("labelimg", rewrite(XML, ("<xmin>1<", "<xmin>one<")), "{root}/IMG 1.xml: object 1: xmin must be a number"),
    ("labelimg", rewrite(XML, ("<xmax>60<", "<xmax>nan<")), "object 2: xmax must be a number, but got 'nan'"),
    ("labelimg", rewrite(XML, ("<name>nut</name>", "")), "object 1: object without a name"),
    ("labelimg", rewrite(XML, ("<xmax>20<", "<xmax>1<")), "object 1: bndbox is empty: 1, 5, 1, 25"),
    ("labelimg", rewrite(XML, ("<ymax>40<", "<ymax>400<")), "object 2: bolt at 30 10 60 400 reaches out of the image"),
    ("labelimg", rewrite(XML, ("<width>60<", "<width>600<")), "annotated as 600 x 40 pixels, but"),
    ("labelimg", rewrite(XML, ("</annotation>", "")), "{root}/IMG 1.xml: not a readable XML file"),
    ("labelimg", put(XML, BOMB), "{root}/IMG 1.xml: not a readable XML file"),
    ("labelimg", put(XML, b"\xff\xfe<\x00"), "{root}/IMG 1.xml: not a readable XML file"),
    ("labelimg", remove("IMG 1.jpg"), "{root}/IMG 1.xml: there is no image 'IMG 1' or 'IMG 1.JPG' below"),
    ("labelimg", put("IMG 1.jpg", "<html>404</html>"), "{root}/IMG 1.jpg: not a JPEG"),
    ("labelimg", put("IMG 1.jpg", b""), "{root}/IMG 1.jpg: the file is empty"),
    ("labelimg", both(remove("phone.jpg"), put("x/phone.jpg", b"1"), put("y/phone.jpg", b"2")), "2 images go by"),
    ("labelimg", put("copy/IMG 1.xml", "<annotation><filename>IMG 1.jpg</filename></annotation>"), "is annotated by"),
    ("cvat-voc", put("ImageSets/Main/default.txt", "frame_000000\n../../x\n"), "there is no image '../../x' below"),
    ("cvat-coco", coco(lambda c: c["annotations"][0].update(bbox=[1, 2, 3])), "annotation 1: bbox must be the numbers"),
    ("cvat-coco", coco(lambda c: c["annotations"][0].update(bbox=[1, 2, 0, 4])), "annotation 1: bbox is empty"),
    ("cvat-coco", coco(lambda c: c["annotations"][0].update(image_id=9)), "annotation 1: there is no image 9"),
    ("cvat-coco", coco(lambda c: c["annotations"][0].update(category_id=9)), "annotation 1: there is no category 9"),
    ("cvat-coco", coco(lambda c: c["images"][0].update(width=61)), "annotated as 61 x 40 pixels"),
    ("ultralytics", put(LABELS, "1 0.5 0.5 0.5\n"), "a.txt: object 1: must be a class and 4 numbers"),
    ("ultralytics", put(LABELS, "1 0.5 0.5 0.5 0.5\n2 0.5 0.5 0.1 0.1\n"), "object 2: there is no class 2, only 0 to"),
    ("ultralytics", put(LABELS, "-1 0.5 0.5 0.1 0.1\n"), "object 1: there is no class -1"),
    ("ultralytics", put(LABELS, "1 30 20 30 20\n"), "object 1: must be fractions of the image from 0 to 1"),
    ("ultralytics", put(LABELS, "nut 0.5 0.5 0.1 0.1\n"), "object 1: must be numbers, but is 'nut 0.5"),
    ("ultralytics", put(LABELS, "1 0.5 0.5 0.1 inf\n"), "object 1: must be a class and finite numbers"),
    ("ultralytics", put(LABELS, "0.5 0.5 0.5 0.1 0.1\n"), "object 1: must be a class and finite numbers"),
    ("ultralytics", put(LABELS, "1 0.5 0.5 0 0.1\n"), "object 1: the box is empty"),
    ("ultralytics", put(LABELS, b"\xff\xfe1\x000"), "a.txt: is not text in UTF-8 or UTF-16; save it as UTF-8"),
    ("ultralytics", put("labels/train/z.txt", "1 0.5 0.5 0.1 0.1\n"), "z.txt: there is no image 'z'"),
    ("open-images", put(CSV, HEADER + "000026e7ee790996,/m/0k4j,a,b,c,d\n"), "object 1: XMin, XMax, YMin and YMax"),
    ("open-images", put(CSV, HEADER + "000026e7ee790996,/m/0k4j,0.5,0.5,0,1\n"), "object 1: the box is empty"),
    ("open-images", put(CSV, HEADER + "000026e7ee790996,/m/0k4j,5,50,1,9\n"), "must be fractions of the image"),
    ("open-images", put(CSV, HEADER + "000026e7ee790996,/m/0k4j,0,2.01,0,1\n"), "must be fractions of the image"),
    ("open-images", put(CSV, HEADER + "000026e7ee790996,/m/0k4j,0,1,-1.01,1\n"), "must be fractions of the image"),
    ("open-images", put(CSV, HEADER + "000026e7ee790996,,0,0.5,0,1\n"), "object 1: LabelName is empty"),
    # issues of the whole
    ("cvat-coco", put(INSTANCES, '{"images": [], "annotations": [], "categories": ['), "not a readable JSON file"),
    ("cvat-coco", put(INSTANCES, '{"images": [], "annotations": [], "categories": []}'), "lists no images"),
    ("cvat-coco", put(INSTANCES, '["images" , "annotations", "categories"]'), "not a COCO file"),
    ("cvat-coco", coco(lambda c: c["images"].append(c["images"][0])), "two of the images have the same id"),
    ("cvat-coco", coco(lambda c: c["images"][1].update(file_name="frame_000000.PNG")), "lists image 'frame_000000"),
    ("cvat-coco", coco(lambda c: c["categories"][0].update(name="bolt")), "names of categories must differ"),
    ("cvat-coco", coco(lambda c: c["images"][0].pop("file_name")), "image 1 must have a file_name"),
    ("cvat-coco", put("again/instances_default.json", '{"images":1,"annotations":1,"categories":1}'), "are both anno"),
    ("cvat-voc", put("ImageSets/Main/default.txt", ""), "the lists in ImageSets name no images"),
    ("cvat-voc", put("data.yaml", "names: [a]\ntrain: JPEGImages\n"), "may be read as voc (ImageSets/Main), yolo ("),
    ("ultralytics", put(YAML, "names: [a, b\ntrain: images/train\n"), "data.yaml: is not YAML"),
    ("ultralytics", put(YAML, "names: &a [x, y]\nother: *a\ntrain: images/train\n"), "holds an alias (*)"),
    ("ultralytics", put(YAML, f"names: {'[' * 51}{']' * 51}\ntrain: images/train\n"), "nested more than 50 levels"),
    ("ultralytics", put(YAML, "names: {0: a, 2: b}\ntrain: images/train\n"), "names must be numbered 0 to 1"),
    ("ultralytics", put(YAML, "names: [a, a]\ntrain: images/train\n"), "names of classes must differ"),
    ("ultralytics", put(YAML, "names: a\ntrain: images/train\n"), "names must be a list of the classes"),
    ("ultralytics", put(YAML, "nc: 3\nnames: [a, b]\ntrain: images/train\n"), "nc is 3, but there are 2 names"),
    ("ultralytics", put(YAML, "names: [a, b]\ntrain: images/nowhere\n"), "train: there is no 'images/nowhere' below"),
    ("ultralytics", put(YAML, "names: [a, b]\ntrain: {a: b}\n"), "train must be a folder"),
    ("ultralytics", put(YAML, "names: [a, b]\nval: images/val\n"), "there is no split 'train', there are: val"),
    ("ultralytics", remove(YAML), "holds no annotations of a known format"),
    ("label-studio-yolo", put("classes.txt", ""), "classes.txt: names no classes"),
    ("label-studio-yolo", put("labels/classes.txt", "other\n"), "name different classes"),
    ("open-images", remove("train/000026e7ee790996.jpg", "validation/0001eeaf4aed83f9.jpg"), "none of its images is"),
    ("open-images", put(CSV, HEADER + "0" * 200_000), "not a readable CSV file"),
    ("labelimg", remove("IMG 1.xml", "empty.xml", "phone.xml"), "holds no annotations of a known format"),
    ("labelimg", remove("IMG 1.xml", "phone.xml"), "no object is left in 1 images"),
]  # fmt: skip


def outcome(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    monkeypatch.setattr("sys.argv", ["train_svm.py", str(ROOT / "configs/default.yaml"), *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        run(train.main)
    return exit_.value.code


def listing(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_broken_data_are_one_line_errors(
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    name, change, line = BROKEN[number]
    root = data = write_export(name, tmp_path)
    change(root)
    if zipped := number % 2:
        data = tmp_path / "data.zip"
        with zipfile.ZipFile(data, "w") as archive:
            for path in listing(root):
                archive.write(path, path.relative_to(tmp_path))
    before = listing(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert outcome(monkeypatch, "--data", data, "--dry-run", "--strict") == 2
    output, errors = capfd.readouterr()
    assert (output, errors.count("\n")) == ("", 1)
    assert errors.startswith("error: ")
    assert line.replace("{root}", name if zipped else str(root)) in errors
    assert listing(tmp_path) == before


def test_issues_leave_the_rest_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = write_export("labelimg", tmp_path)
    rewrite(XML, ("<xmin>1<", "<xmin>20<"), ("<ymax>40<", "<ymax>400<"))(root)
    draw_image(root / "phone.jpg", width=30, height=30)
    assert outcome(monkeypatch, "--data", root, "--dry-run") == 0
    output, errors = capfd.readouterr()
    assert output.splitlines()[-1] == "2 images, 1 objects, 1 classes"
    assert errors.count("\n") == 6
    assert f"{root}: LabelImg XML; images: all 3\n" in errors
    assert "labelimg: 1 images without annotation are left out; see --unlabeled background\n" in errors
    assert "1 x box without area, 1 x box outside of the image, 1 x image of another size than annotated" in errors


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--data", "nowhere"), "nowhere: no such file or folder"),
        (("--data", "nowhere.zip"), "nowhere.zip: no such file or folder"),
        (("--data", "labelimg/IMG 1.jpg"), "labelimg/IMG 1.jpg: holds no annotations of a known format"),
        (("--data", "labelimg", "--format", "coco"), "labelimg: holds no annotations of the coco format"),
        (("--data", "labelimg", "--split", "val"), "there is no split 'val', there are: none; --hold-out 0.2 makes"),
        (("--data", "labelimg", "--split", "no.txt"), "no.txt: no such list of images"),
        (("--data", "labelimg", "--hold-out", "1.5"), "--hold-out must be between 0 and 1, but is 1.5"),
        (("--data", "labelimg", "--images", "x"), "--images goes with --coco"),
        (("--voc", "x", "--split", "y", "--hold-out", "0.2"), "--format, --hold-out and --unlabeled go with --data"),
        (("--data", "labelimg", "--classes", "screw"), "no object is left in"),
        (("--data", "labelimg", "--classes", "nut", "nut"), "class_names must differ"),
        ((), "a dataset is needed: --data PATH"),
    ],
)
def test_wrong_data_options_are_one_line_errors(
    arguments: tuple[str, ...],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    write_export("labelimg", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert outcome(monkeypatch, *arguments, "--dry-run") == 2
    output, errors = capfd.readouterr()
    assert (output, errors.count("\n")) == ("", 1)
    assert line in errors
