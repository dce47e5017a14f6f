"""Open Images' CSV as its own tools, spreadsheets and other programs write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.datasets.issues import Issue
from detector.datasets.loading import load_splits
from tests.datasets.own_files import BOXES, draw, expected, read

COLUMNS = ("ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax", "IsGroupOf")


def rows(suffix: str = "", group: str = "-1") -> list[list[str]]:
    found = []
    for name, objects in BOXES.items():
        for label, x1, y1, x2, y2 in objects:
            code = {"nut": "/m/0nut", "bolt": "/m/0bolt"}[label]
            corners = (str(x1 / 60), str(x2 / 60), str(y1 / 40), str(y2 / 40))
            found.append([name + suffix, "xclick", code, "1", *corners, group])
    return found


@pytest.mark.parametrize("suffix", ["", ".jpg", ".JPG"])
@pytest.mark.parametrize(("delimiter", "quote"), [(",", ""), (",", '"'), (";", ""), ("\t", '"')])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_many_programs(suffix: str, delimiter: str, quote: str, encoding: str, tmp_path: Path) -> None:
    draw(tmp_path / "images")
    lines = [delimiter.join(f"{quote}{cell}{quote}" for cell in row) for row in [list(COLUMNS), *rows(suffix)]]
    (tmp_path / "train-annotations-bbox.csv").write_bytes("\r\n".join(lines).encode(encoding))
    (tmp_path / "class-descriptions.csv").write_text("LabelName,DisplayName\n/m/0nut,nut\n/m/0bolt,bolt\n")
    found = read(tmp_path)
    assert {name: sorted(each) for name, each in found["train"].items()} == {
        name: sorted(each) for name, each in expected(train="abcd")["train"].items()
    }


@pytest.mark.parametrize(("flag", "difficult"), [("1", True), ("0", False), ("-1", False), ("", False), ("true", True)])
def test_groups_count_as_difficult(flag: str, difficult: bool, tmp_path: Path) -> None:
    draw(tmp_path)
    lines = [",".join(row) for row in [list(COLUMNS), *rows(group=flag)]]
    (tmp_path / "boxes.csv").write_text("\n".join(lines))
    (dataset,) = load_splits(tmp_path).values()
    assert {bool(each) for image in dataset for each in image.difficult} == {difficult}


def test_an_image_with_an_unreadable_row_is_left_out(tmp_path: Path) -> None:
    draw(tmp_path)
    table = [list(COLUMNS), *rows()]
    table[2][4] = "left"
    table[4][4:6] = table[4][5], table[4][4]  # from right to left
    (tmp_path / "boxes.csv").write_text("\n".join(",".join(row) for row in table) + "\n\n")
    issues: list[Issue] = []
    (dataset,) = load_splits(tmp_path, report=issues.append).values()
    assert [each.path.stem for each in dataset] == ["a 1", "c", "d"]
    assert dataset[1].boxes.round(3).tolist() == [[6, 8, 48, 38]]
    assert [each.line for each in issues] == [
        f"{tmp_path}/boxes.csv: object 2: XMin, XMax, YMin and YMax must be numbers"
    ]
