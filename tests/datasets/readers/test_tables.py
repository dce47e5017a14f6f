"""Read CSV files of boxes, and Hugging Face's ImageFolder: columns, rows without objects, and broken ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detector.datasets.issues import IssueKind
from detector.datasets.loading import load_dataset
from tests.datasets.readers.reading import Objects, read

NUT: Objects = [("nut", [1, 2, 30, 20])]


@pytest.mark.parametrize(
    "text",
    [
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,60,40,nut,1,2,30,20\n",
        "ymax,xmax,ymin,xmin,Label,Image,score\n20,30,2,1,nut,a.jpg,1\n",
        "\ufefffilename;xmin;ymin;xmax;ymax;class\na.jpg;1;2;30;20;nut\n",
        "filename\txmin\tymin\txmax\tymax\tclass\na.jpg\t30\t20\t1\t2\tnut\n\n",
        "image_name,label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_width\na.jpg,nut,1,2,29,18,60\n",
        '"filename","xmin","ymin","xmax","ymax","class"\n"C:\\photos\\a.jpg","1","2","30","20"," nut "\n',
        "path,x1,y1,x2,y2,class\nimages/a.jpg,1,2,30,20,nut\n",
        "image_id,xmin,ymin,xmax,ymax,class\na,1,2,30,20,nut\n",
        "a.jpg,1,2,30,20,nut\n",
        "nut,1,2,29,18,a.jpg,60,40\n",
        "filename,class,xmin,ymin,xmax,ymax\na.jpg,nut,0.016666666667,0.05,0.5,0.5\n",
    ],
)
def test_columns_go_by_their_names_and_rows_without_a_header_by_their_form(text: str, tmp_path: Path) -> None:
    assert read(tmp_path, {"boxes.csv": text}).splits == {"": {"a": NUT}}


def test_rows_without_a_box_are_images_without_objects(tmp_path: Path) -> None:
    header = "filename,xmin,ymin,xmax,ymax,class\n"
    for number, text in enumerate((f"{header}a.jpg,1,2,30,20,nut\nb.jpg,,,,,\n", "a.jpg,1,2,30,20,nut\nb.jpg,,,,,\n")):
        assert read(tmp_path / str(number), {"x.csv": text}, ("a.jpg", "b.jpg")).splits == {"": {"a": NUT, "b": []}}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.jpg,1,2,x,20,nut", "x2: input should be a valid number"),
        ("a.jpg,1,2,inf,20,nut", "x2: input should be a finite number"),
        ("a.jpg,1,2,30,20,", "label: string should have at least 1 character"),
        ("a.jpg,1,2", "label: string should have at least 1 character"),
        ("a.jpg,,,,,nut", "x1: input should be a valid number"),
    ],
)
def test_an_unreadable_row_takes_its_image_out(row: str, reason: str, tmp_path: Path) -> None:
    text = f"filename,xmin,ymin,xmax,ymax,class\na.jpg,1,2,30,20,nut\n{row}\nb.jpg,1,2,30,20,nut\n"
    found = read(tmp_path, {"boxes.csv": text}, ("a.jpg", "b.jpg"))
    assert found.splits == {"": {"b": NUT}}
    assert [each.kind for each in found.issues] == [IssueKind.BAD_OBJECT]
    assert found.issues[0].line.startswith(f"boxes.csv: a.jpg: object 2: {reason}")


@pytest.mark.parametrize(
    "text",
    [
        "a.jpg,nut\n",
        "name,value\na.jpg,1\n",
        "a.jpg,1,2,30,20,nut\nb.jpg,1,2,thirty,20,nut\n",
        "",
        "\n\n",
        "1,2,3,4,5,6\n",
    ],
)
def test_other_tables_are_not_taken_for_boxes(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no annotations of a known format"):
        read(tmp_path, {"boxes.csv": text})


def test_a_list_of_classes_gives_their_order(tmp_path: Path) -> None:
    read(tmp_path, {"boxes.csv": "a.jpg,1,2,30,20,nut\n", "_classes.csv": "washer,2\nnut,0\nbolt,1\n"})
    assert load_dataset(tmp_path / "data").class_names == ("nut", "bolt", "washer")


def test_all_images_beside_a_part_of_them_stay(tmp_path: Path) -> None:
    header = "filename,xmin,ymin,xmax,ymax,class\n"
    row = ",1,2,30,20,nut\n"
    files = {"labels.csv": f"{header}a.jpg{row}b.jpg{row}c.jpg{row}", "test_labels.csv": f"{header}b.jpg{row}"}
    found = read(tmp_path, files, ("a.jpg", "b.jpg", "c.jpg"))
    assert sorted(name for images in found.splits.values() for name in images) == ["a", "b", "c"]
    assert list(found.splits["test"]) == ["b"]
    assert found.log[-1].endswith("labels.csv: 1 of its images are used in test")


@pytest.mark.parametrize(
    "objects",
    [
        {"bbox": [[1, 2, 29, 18]], "categories": ["nut"]},
        {"bbox": [[1, 2, 29, 18]], "category": ["nut"], "id": [3]},
        {"boxes": [["1", "2", "29", "18"]], "labels": ["nut"]},
        [{"bbox": [1, 2, 29, 18], "category": "nut"}],
        [{"box": [1, 2, 29, 18], "class": "nut"}],
    ],
)
def test_objects_are_lists_or_mappings(objects: object, tmp_path: Path) -> None:
    line = json.dumps({"file_name": "a.jpg", "objects": objects})
    assert read(tmp_path / "jsonl", {"metadata.jsonl": f"{line}\n\n"}).splits == {"": {"a": NUT}}
    cell = json.dumps(objects).replace('"', '""')
    assert read(tmp_path / "csv", {"metadata.csv": f'file_name,objects\na.jpg,"{cell}"\n'}).splits == {"": {"a": NUT}}
    cell = str(objects)
    assert read(tmp_path / "py", {"metadata.csv": f'file_name,objects\na.jpg,"{cell}"\n'}).splits == {"": {"a": NUT}}


def test_categories_without_names_keep_their_numbers(tmp_path: Path) -> None:
    line = json.dumps({"file_name": "a.jpg", "objects": {"bbox": [[1, 2, 29, 18]], "categories": [4]}})
    for number, card in enumerate(
        ("# no header", "---\nlicense: mit\n---\n", "---\n: [\n---", "---\nclass_label: 5\n---")
    ):
        files = {"metadata.jsonl": line, "README.md": card}
        found = read(tmp_path / str(number), files)
        assert found.splits == {"": {"a": [("4", [1, 2, 30, 20])]}}
        assert found.log[-1].endswith("classes are numbers; a README.md with class_label, as on the hub, names them")


@pytest.mark.parametrize(
    ("line", "kind", "reason"),
    [
        ('{"file_name": "b.jpg", "objects"', IssueKind.BAD_ANNOTATION, "metadata.jsonl: line 2 is not JSON"),
        ("[]", IssueKind.BAD_ANNOTATION, "metadata.jsonl: image 2: a line must be a mapping"),
        ('{"objects": {}}', IssueKind.BAD_ANNOTATION, "metadata.jsonl: image 2: file_name: field required"),
        ('{"file_name": "b.jpg", "objects": 5}', IssueKind.BAD_ANNOTATION, "metadata.jsonl: image 2: objects must be"),
        (
            '{"file_name": "b.jpg", "objects": {"bbox": [[1, 2, 3, 4]], "categories": []}}',
            IssueKind.BAD_ANNOTATION,
            "metadata.jsonl: image 2: has 1 boxes, but 0 categories",
        ),
        (
            '{"file_name": "b.jpg", "objects": [{"bbox": [1, 2, 3], "category": "nut"}]}',
            IssueKind.BAD_OBJECT,
            "metadata.jsonl: b.jpg: object 1: box.3: field required",
        ),
        (
            '{"file_name": "b.jpg", "objects": [{"bbox": [1, 2, 3, 4]}]}',
            IssueKind.BAD_OBJECT,
            "metadata.jsonl: b.jpg: object 1: label: input should be a valid string",
        ),
    ],
)
def test_an_unreadable_line_is_an_issue(line: str, kind: IssueKind, reason: str, tmp_path: Path) -> None:
    good = json.dumps({"file_name": "a.jpg", "objects": {"bbox": [[1, 2, 29, 18]], "categories": ["nut"]}})
    found = read(tmp_path, {"metadata.jsonl": f"{good}\n{line}\n"}, ("a.jpg", "b.jpg"))
    assert found.splits == {"": {"a": NUT}}
    assert [each.kind for each in found.issues] == [kind]
    assert found.issues[0].line.startswith(reason)
