"""Read VIA's JSON and CSV: the attribute that is the class, and shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detector.datasets.issues import IssueKind
from tests.datasets.readers.reading import Objects, read

RECT = {"name": "rect", "x": 1, "y": 2, "width": 29, "height": 18}


def via(*regions: Any, attributes: dict[str, Any] | None = None) -> dict[str, Any]:
    images = {"a.jpg1": {"filename": "a.jpg", "size": 1, "regions": [*regions], "file_attributes": {}}}
    return images if attributes is None else {"_via_img_metadata": images, "_via_attributes": {"region": attributes}}


def region(shape: Any = RECT, **attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": shape, "region_attributes": attributes}


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (via(region(label="nut", color="red")), ["nut"]),
        (via(region(color="red", Class="nut")), ["nut"]),
        (via(region(kind="nut")), ["nut"]),
        (via(region(kind={"nut": True, "bolt": False})), ["nut"]),  # check boxes
        (via(region(name="x", sort="nut"), attributes={"sort": {"type": "radio", "options": {"nut": ""}}}), ["nut"]),
        (via(region(type="nut", name="x"), region(type="bolt")), ["nut", "bolt"]),
        (via(region(type="nut", label=""), region(type="bolt")), ["nut", "bolt"]),
        (via(region(type="nut"), region(type="bolt"), region(type="bolt", label="x")), ["nut", "bolt", "bolt"]),
        (via(region(number=7)), ["7"]),
        (via(region(), region()), ["object", "object"]),
    ],
)
def test_one_attribute_is_the_class(content: dict[str, Any], names: list[str], tmp_path: Path) -> None:
    objects: Objects = read(tmp_path, {"via.json": content}).splits[""]["a"]
    assert objects == [(name, [1, 2, 30, 20]) for name in names]


def test_the_attribute_is_logged_unless_it_is_named_class(tmp_path: Path) -> None:
    found = read(tmp_path / "1", {"via.json": via(region(sort="nut"))})
    assert found.log[-1].endswith("via.json: the class of a region is its attribute 'sort'")
    found = read(tmp_path / "2", {"via.json": via(region(label="nut"))})
    assert len(found.log) == 1


def test_a_polyline_and_negative_sides_have_boxes(tmp_path: Path) -> None:
    line = {"name": "polyline", "all_points_x": [30, 1], "all_points_y": [2, 20]}
    back = {"name": "rect", "x": 30, "y": 20, "width": -29, "height": -18}
    found = read(tmp_path, {"via.json": via(region(line, label="nut"), region(back, label="nut"))})
    assert found.splits[""]["a"] == [("nut", [1, 2, 30, 20])] * 2


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (region(color="red"), "has no label"),
        (region(label={"nut": True, "bolt": True}), "has no label"),
        (region({"name": "point", "cx": 1, "cy": 2}, label="nut"), "a point has no box"),
        (region({"name": "blob"}, label="nut"), "is of the unknown shape 'blob'"),
        (region({"name": "rect", "x": 1}, label="nut"), "y: field required"),
        (region({"name": "circle", "cx": 1, "cy": 2, "r": "NaN"}, label="nut"), "r: input should be a finite number"),
        (
            region({"name": "polygon", "all_points_x": [1], "all_points_y": []}, label="nut"),
            "all_points_x and all_points",
        ),
        (region(None, label="nut"), "shape_attributes must be a mapping"),
        ("nut", "a region must be a mapping"),
    ],
)
def test_an_unreadable_region_takes_its_image_out(entry: Any, reason: str, tmp_path: Path) -> None:
    content = via(region(label="nut"), region(label="nut"), entry)
    content["b.jpg1"] = {"filename": "b.jpg", "size": 1, "regions": [region(label="nut")], "file_attributes": {}}
    found = read(tmp_path, {"via.json": content}, ("a.jpg", "b.jpg"))
    assert found.splits == {"": {"b": [("nut", [1, 2, 30, 20])]}}
    assert [each.kind for each in found.issues] == [IssueKind.BAD_OBJECT]
    assert found.issues[0].line.startswith(f"via.json: a.jpg: object 3: {reason}")


def test_the_csv_of_version_1_and_broken_cells_are_read(tmp_path: Path) -> None:
    header = "#filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    cell = '"{""name"":""rect"",""x"":1,""y"":2,""width"":29,""height"":18}"'
    rows = [
        f'a.jpg,1,"{{}}",1,0,{cell},"{{""label"":""nut""}}"',
        'b.jpg,1,"{}",1,0,"{""name"":","{""label"":""nut""}"',
        'c.jpg,1,"{}",0,0,"{}","{}"',
        "",
        "d.jpg,1",
    ]
    found = read(tmp_path, {"via.csv": "\n".join([header, *rows])}, ("a.jpg", "b.jpg", "c.jpg", "d.jpg"))
    assert found.splits == {"": {"a": [("nut", [1, 2, 30, 20])], "c": []}}
    assert [each.line for each in found.issues] == [
        "via.csv: b.jpg: object 1: shape_attributes must be a mapping, but got '{\"name\":'",
        "via.csv: d.jpg: object 1: region_attributes must be a mapping, but got None",
    ]


@pytest.mark.parametrize("content", [{"_via_img_metadata": 5, "regions": 0}, {"_via_img_metadata": {}}])
def test_a_project_without_images_is_an_error(content: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"via\.json: (_via_img_metadata must be a mapping|lists no images)"):
        read(tmp_path, {"via.json": content})
