"""The folder of a project: resumed as it was, held by one process, and nothing outside of it is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from detector.datasets.loading import load_dataset
from detector.images.files import write_image
from detector.teaching.exporting import export_project, import_labels, project_dataset
from detector.teaching.labels import NOTHING, Box, ImageLabels
from detector.teaching.project import Project
from tests.fakes import colored

RED = Box("red", (0.0, 0.0, 64.0, 64.0))
GREEN = Box("green", (96.0, 0.0, 160.0, 64.0))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    for name in ("a.png", "b.png", "sub/a.png"):
        write_image(tmp_path / "photos" / name, colored())
    return tmp_path / "photos"


def test_labels_are_there_again(photos: Path, tmp_path: Path) -> None:
    project = Project(photos, tmp_path / "project")
    assert [each.name for each in project.images] == ["a.png", "b.png", "sub/a.png"]
    project.set_labels(0, ImageLabels((RED, GREEN), True))
    project.set_labels(2, ImageLabels((), True))
    project.close()
    again = Project(photos, tmp_path / "project")
    assert [again.labels(number) for number in range(3)] == [
        ImageLabels((RED, GREEN), True),
        NOTHING,
        ImageLabels((), True),
    ]
    assert again.class_names == ("red", "green")
    assert load_dataset(tmp_path / "project").class_names == ("red", "green")


def test_labels_of_an_image_that_is_gone_stay(photos: Path, tmp_path: Path) -> None:
    project = Project(photos, tmp_path / "project")
    project.set_labels(0, ImageLabels((RED,), True))
    project.close()
    (photos / "a.png").rename(photos / "later.txt")
    without = Project(photos, tmp_path / "project")
    without.set_labels(0, ImageLabels((GREEN,), True))
    without.close()
    (photos / "later.txt").rename(photos / "a.png")
    again = Project(photos, tmp_path / "project")
    assert again.labels(0) == ImageLabels((RED,), True)
    assert again.labels(1) == ImageLabels((GREEN,), True)


def test_one_process_at_a_time(photos: Path, tmp_path: Path) -> None:
    project = Project(photos, tmp_path / "project")
    with pytest.raises(ValueError, match="another spp teach has this project open"):
        Project(photos, tmp_path / "project")
    project.close()
    Project(photos, tmp_path / "project").close()


def test_images_of_the_same_names_do_not_get_the_labels(photos: Path, tmp_path: Path) -> None:
    Project(photos, tmp_path / "project").close()
    shutil.copytree(photos, tmp_path / "others")
    with pytest.raises(ValueError, match="is the project of other images"):
        Project(tmp_path / "others", tmp_path / "project")
    photos.rename(tmp_path / "moved")
    Project(tmp_path / "moved", tmp_path / "project").close()


def test_classes_are_renamed_and_joined(photos: Path, tmp_path: Path) -> None:
    project = Project(photos, tmp_path / "project")
    project.set_labels(0, ImageLabels((RED, GREEN), True))
    project.rename_class("red", "crimson")
    assert [*project.class_names] == ["crimson", "green"]
    project.rename_class("crimson", "green")
    assert [*project.class_names] == ["green"]
    assert project.labels(0).boxes == (Box("green", RED.corners), GREEN)
    with pytest.raises(ValueError, match="no class 'red'"):
        project.rename_class("red", "blue")


@pytest.mark.parametrize("name", ["labels.json", "images", ".lock", "exports", "features"])
def test_links_out_of_the_project_are_refused(photos: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "project" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="must not be a link"):
        Project(photos, tmp_path / "project")
    assert not any((tmp_path / "elsewhere").iterdir())


def test_a_full_disk_changes_nothing(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(photos, tmp_path / "project")
    project.set_labels(0, ImageLabels((RED,), True))
    before = (tmp_path / "project" / "labels.json").read_bytes()

    def full(*args: object, **settings: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        project.set_labels(1, ImageLabels((GREEN,), True))
    assert project.labels(1) == NOTHING
    assert (tmp_path / "project" / "labels.json").read_bytes() == before


@pytest.mark.parametrize("format_name", ["coco", "voc", "yolo"])
def test_exports_are_imported_by_another_project(photos: Path, tmp_path: Path, format_name: str) -> None:
    project = Project(photos, tmp_path / "project")
    project.set_labels(0, ImageLabels((RED,), True))
    project.set_labels(1, ImageLabels((GREEN, RED), True))
    folder = export_project(project, format_name, lambda what, path: None)
    assert folder == tmp_path / "project" / "exports" / format_name
    assert [each.boxes.tolist() for each in load_dataset(folder)] == [
        each.boxes.tolist() for each in project_dataset(project)
    ]
    # with what was exported inside, the project is one dataset still
    assert len(load_dataset(tmp_path / "project")) == 2
    archive = Path(shutil.make_archive(str(tmp_path / "export"), "zip", folder))
    other = Project(photos, tmp_path / "other")
    found = import_labels(other, "export.zip", archive.read_bytes())
    assert (found["images"], found["boxes"]) == (2, 3)
    assert set(other.labels(1).boxes) == {GREEN, RED}
    assert import_labels(other, "export.zip", archive.read_bytes())["images"] == 0
    assert not list((tmp_path / "other").glob(".import*"))


def test_an_import_keeps_boxes_that_are_there_and_fills_images_without(photos: Path, tmp_path: Path) -> None:
    source = Project(photos, tmp_path / "project")
    for number in (0, 1):
        source.set_labels(number, ImageLabels((RED,), True))
    folder = export_project(source, "coco", lambda what, path: None)
    archive = Path(shutil.make_archive(str(tmp_path / "export"), "zip", folder))
    other = Project(photos, tmp_path / "other")
    other.set_labels(0, ImageLabels((GREEN,), False))  # a draft
    other.set_labels(1, ImageLabels((), True))
    assert import_labels(other, "export.zip", archive.read_bytes())["images"] == 1
    assert other.labels(0) == ImageLabels((GREEN,), False)
    assert other.labels(1) == ImageLabels((RED,), True)


@pytest.mark.parametrize("format_name", ["coco", "voc", "yolo"])
@pytest.mark.parametrize("with_images", [True, False])
def test_images_of_one_name_in_several_folders_keep_their_labels(
    photos: Path, tmp_path: Path, format_name: str, with_images: bool
) -> None:
    labels = [ImageLabels((RED,), True), NOTHING, ImageLabels((GREEN,), True)]
    project = Project(photos, tmp_path / "project")
    for number in (0, 2):  # a.png, and sub/a.png
        project.set_labels(number, labels[number])
    folder = export_project(project, format_name, lambda what, path: None)
    for image in [] if with_images else folder.rglob("*.png"):
        image.unlink()
    archive = Path(shutil.make_archive(str(tmp_path / "export"), "zip", folder))
    other = Project(photos, tmp_path / "other")
    found = import_labels(other, "export.zip", archive.read_bytes())
    assert (found["images"], found["skipped"]) == (2, 0)
    assert [other.labels(number) for number in range(3)] == labels


def test_a_name_in_an_export_that_may_be_a_folder_and_a_name_is_left_out(photos: Path, tmp_path: Path) -> None:
    write_image(photos / "sub_a.png", colored())
    project = Project(photos, tmp_path / "project")
    labels = {"sub/a.png": ImageLabels((GREEN,), True), "b.png": ImageLabels((RED,), True)}
    for number, image in enumerate(project.images):
        project.set_labels(number, labels.get(image.name, NOTHING))
    folder = export_project(project, "coco", lambda what, path: None)
    archive = Path(shutil.make_archive(str(tmp_path / "export"), "zip", folder))
    other = Project(photos, tmp_path / "other")
    import_labels(other, "export.zip", archive.read_bytes())
    assert [other.labels(number).boxes for number in range(4)] == [(), (RED,), (), ()]


@pytest.mark.parametrize(
    ("own", "name"),
    [
        ("my cat.png", "images/my_cat.png"),
        ("my cat.png", "images/1a2b3c4d-my_cat.png"),
        ("CAT.png", "train/cat.png"),
        ("cat.png", "train/cat_png.rf.0123abcd.png"),
        ("sub/my cat.png", "images/sub_my_cat.png"),
        ("sub/cat.png", "images/1a2b3c4d-cat.png"),
    ],
)
def test_images_are_found_by_the_names_that_tools_give_them(tmp_path: Path, own: str, name: str) -> None:
    for folder, image in (("photos", own), ("photos", "other.png"), ("archive", name)):
        (tmp_path / folder / image).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / folder / image, colored())
    row = f"{name},160,160,red,{','.join(map(str, RED.corners))}"
    (tmp_path / "archive" / "boxes.csv").write_text(f"filename,width,height,class,xmin,ymin,xmax,ymax\n{row}\n")
    content = Path(shutil.make_archive(str(tmp_path / "export"), "zip", tmp_path / "archive")).read_bytes()
    project = Project(tmp_path / "photos", tmp_path / "project")
    assert import_labels(project, "export.zip", content)["line"] == "imported 1 boxes of 1 images"
    labels = {image.name: project.labels(number).boxes for number, image in enumerate(project.images)}
    assert labels == {own: (RED,), "other.png": ()}


def test_labels_of_a_name_that_means_several_images_are_left_out(photos: Path, tmp_path: Path) -> None:
    for name in ("x/0.png", "y/0.png", "y/z/1.png", "2.png"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(photos / name, colored())
    archive = tmp_path / "archive"
    rows = {"images/0.png": RED, "y/0.png": GREEN, "images/1.png": RED, "train/2.png": RED, "val/2.png": GREEN}
    for name in rows:
        (archive / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(archive / name, colored())
    lines = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
    lines += [f"{name},160,160,{box.class_name},{','.join(map(str, box.corners))}" for name, box in rows.items()]
    (archive / "boxes.csv").write_text("\n".join(lines) + "\n")
    content = Path(shutil.make_archive(str(tmp_path / "export"), "zip", archive)).read_bytes()
    project = Project(photos, tmp_path / "project")
    found = import_labels(project, "export.zip", content)
    labels = {image.name: project.labels(number).boxes for number, image in enumerate(project.images)}
    assert {name: boxes for name, boxes in labels.items() if boxes} == {"y/0.png": (GREEN,), "y/z/1.png": (RED,)}
    assert found == {"images": 2, "boxes": 2, "skipped": 3, "line": "imported 2 boxes of 2 images; 3 left out"}


def test_an_import_that_is_none_changes_nothing(photos: Path, tmp_path: Path) -> None:
    project = Project(photos, tmp_path / "project")
    for name, content in (("a.json", b"{}"), ("../../x.zip", b"PK\3\4"), ("", b"\0" * 99), ("labels.csv", b"a,b\n")):
        with pytest.raises(ValueError, match=r"."):
            import_labels(project, name, content)
    assert not (tmp_path / "x.zip").exists()
    assert sorted(path.name for path in (tmp_path / "project").iterdir()) == [".lock", "images"]
