"""Boxes on images of another size than annotated, masks, and annotations that name another image."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.datasets.issues import Issue, IssueKind
from detector.datasets.loading import load_splits
from tests.datasets.exports import draw_image
from tests.datasets.own_files import draw, expected, read, write_labels, write_xml


def load(
    root: Path, size: tuple[int, int], box: tuple[int, int, int, int]
) -> tuple[list[float] | None, list[IssueKind]]:
    """The box of an image of 60 x 40 pixels that is annotated as one of ``size``; None for none; and the issues."""
    draw_image(root / "a.jpg")
    x1, y1, x2, y2 = box
    corners = f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
    (root / "a.xml").write_text(
        f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>"
        f"<object><name>nut</name><bndbox>{corners}</bndbox></object></annotation>"
    )
    issues: list[Issue] = []
    (dataset,) = load_splits(root, report=issues.append).values()
    return (dataset[0].boxes[0].tolist() if len(dataset) else None), [each.kind for each in issues]


@pytest.mark.parametrize(
    ("size", "box", "wanted"),
    [
        ((60, 40), (10, 5, 30, 25), [10, 5, 30, 25]),
        ((61, 40), (10, 5, 30, 25), [10, 5, 30, 25]),  # a tool that counts otherwise
        ((120, 80), (20, 10, 60, 50), [10, 5, 30, 25]),  # resized after it was labeled
        ((30, 20), (5, 2, 15, 12), [10, 4, 30, 24]),
        ((40, 60), (10, 5, 30, 25), [10, 5, 30, 25]),  # sides swapped
        ((70, 70), (10, 5, 30, 25), [10, 5, 30, 25]),  # the size of another image
        ((1, 1), (10, 5, 30, 25), [10, 5, 30, 25]),  # not filled in
        ((30, 20), (10, 5, 50, 25), [10, 5, 50, 25]),  # boxes are not on an image of this size
    ],
)
def test_wrong_sizes_with_a_way_to_go_on(
    size: tuple[int, int], box: tuple[int, int, int, int], wanted: list[float], tmp_path: Path
) -> None:
    found, kinds = load(tmp_path, size, box)
    assert found == wanted
    assert kinds == ([] if size == (60, 40) else [IssueKind.OTHER_SIZE])


@pytest.mark.parametrize(
    ("size", "box"), [((100, 80), (10, 5, 90, 70)), ((600, 300), (10, 5, 30, 25)), ((80, 80), (10, 45, 30, 70))]
)
def test_other_images_are_left_out(size: tuple[int, int], box: tuple[int, int, int, int], tmp_path: Path) -> None:
    assert load(tmp_path, size, box) == (None, [IssueKind.WRONG_SIZE])


@pytest.mark.parametrize(
    "folder", ["masks", "annotations/trimaps", "SegmentationClass", "SegmentationClassVisualization"]
)
def test_masks_are_no_images(folder: str, tmp_path: Path) -> None:
    draw(tmp_path / "images")
    draw(tmp_path / folder, suffix=".png")
    write_xml(tmp_path / "annotations/xmls")
    log: list[str] = []
    assert read(tmp_path, log) == expected(all="abcd")
    assert len(log) == 1


def test_drawings_beside_images(tmp_path: Path) -> None:
    draw(tmp_path)
    draw(tmp_path, [f"{name}_mask" for name in ("a 1", "b", "c", "d")], ".png")
    write_labels(tmp_path)
    (tmp_path / "classes.txt").write_text("nut\nbolt\n")
    log: list[str] = []
    assert read(tmp_path, log) == expected(all="abcd")
    assert len(log) == 1


def test_masks_may_be_what_is_photographed(tmp_path: Path) -> None:
    draw(tmp_path / "masks")
    write_labels(tmp_path / "masks")
    (tmp_path / "classes.txt").write_text("nut\nbolt\n")
    assert read(tmp_path) == expected(all="abcd")


def test_annotations_that_name_another_image(tmp_path: Path) -> None:
    draw(tmp_path / "images")
    write_xml(tmp_path / "xml")
    path = tmp_path / "xml/c.xml"
    path.write_text(path.read_text().replace("c.jpg", "d.jpg"))
    issues: list[Issue] = []
    (dataset,) = load_splits(tmp_path, report=issues.append).values()
    assert [each.path.stem for each in dataset] == ["a 1", "b", "c", "d"]
    assert [each.kind for each in issues] == [IssueKind.OTHER_IMAGE]
    assert issues[0].line == f"{path}: names d.jpg, which is there, but goes by its own name with c.jpg"
    path.write_text(path.read_text().replace("d.jpg", "gone.jpg"))
    assert len(read(tmp_path)[""]) == 4
