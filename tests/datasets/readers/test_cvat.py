"""Read CVAT's XML: shapes, tracks between key frames, and frames without names."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.datasets.issues import IssueKind
from tests.datasets.readers.reading import read

BOX = '<box label="nut" xtl="1" ytl="2" xbr="30" ybr="20"/>'


def images(*shapes: str) -> str:
    """An XML file of a.jpg with the shapes, and b.jpg with one box."""
    return (
        "<annotations><version>1.1</version>"
        f'<image id="0" name="a.jpg" width="60" height="40">{"".join(shapes)}</image>'
        f'<image id="1" name="b.jpg" width="60" height="40">{BOX}</image></annotations>'
    )


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ('<box label="nut" xtl="30" ytl="20" xbr="1" ybr="2"/>', [1, 2, 30, 20]),
        ('<box label="nut" xtl="20" ytl="15" xbr="40" ybr="25" rotation="180"/>', [20, 15, 40, 25]),
        ('<polyline label="nut" points="3,4;5,1"/>', [3, 1, 5, 4]),
        ('<points label="nut" points="3,4;5,1;4,9"/>', [3, 1, 5, 9]),
        ('<ellipse label="nut" cx="30" cy="20" rx="10" ry="5" rotation="90"/>', [25, 10, 35, 30]),
        (
            '<cuboid label="nut" xtl1="1" ytl1="2" xbl1="1" ybl1="9" xtr1="8" ytr1="3" xbr1="8" ybr1="10"'
            ' xtl2="12" ytl2="1" xbl2="12" ybl2="8" xtr2="5" ytr2="4" xbr2="5" ybr2="7"/>',
            [1, 1, 12, 10],
        ),
    ],
)
def test_shapes_have_their_boxes(shape: str, box: list[float], tmp_path: Path) -> None:
    found = read(tmp_path, {"annotations.xml": images(shape)}, ("a.jpg", "b.jpg"))
    assert found.splits[""]["a"] == [("nut", box)]


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ('<box label="nut" xtl="1" ytl="2" xbr="x" ybr="20"/>', "xbr: input should be a valid number"),
        ('<box label="nut" xtl="1" ytl="2" xbr="nan" ybr="20"/>', "xbr: input should be a finite number"),
        ('<box label="nut" xtl="1" ytl="2" ybr="20"/>', "xbr: field required"),
        ('<box label=" " xtl="1" ytl="2" xbr="3" ybr="20"/>', "label is empty"),
        ('<polygon label="nut" points="1,2;3"/>', "points must be numbers, but got '3'"),
        ('<points label="nut" points="3,4"/>', "a box needs two points or more"),
        ('<skeleton label="nut"><points label="x" outside="1" points="3,4"/></skeleton>', "a box needs two points"),
    ],
)
def test_an_unreadable_shape_takes_its_image_out(shape: str, reason: str, tmp_path: Path) -> None:
    found = read(tmp_path, {"annotations.xml": images(BOX, shape)}, ("a.jpg", "b.jpg"))
    assert found.splits == {"": {"b": [("nut", [1, 2, 30, 20])]}}
    assert [each.kind for each in found.issues] == [IssueKind.BAD_OBJECT]
    assert found.issues[0].line.startswith(f"annotations.xml: a.jpg: object 2: {reason}")


def video(size: int, *tracks: str) -> str:
    meta = f"<meta><task><size>{size}</size><start_frame>0</start_frame></task></meta>"
    return f"<annotations><version>1.1</version>{meta}{''.join(tracks)}</annotations>"


def track(*frames: tuple[int, int, float]) -> str:
    """A track of boxes 10 x 10, each with its frame, whether it is outside, and its x."""
    boxes = (
        f'<box frame="{frame}" outside="{outside}" keyframe="1" xtl="{x}" ytl="0" xbr="{x + 10}" ybr="10"/>'
        for frame, outside, x in frames
    )
    return f'<track id="0" label="car">{"".join(boxes)}</track>'


def test_boxes_between_key_frames_are_interpolated_and_end_where_they_are_outside(tmp_path: Path) -> None:
    names = [f"images/frame_{frame:06d}.png" for frame in range(8)]
    tracks = track((1, 0, 0), (4, 0, 12), (5, 1, 12), (7, 0, 30))
    found = read(tmp_path, {"annotations.xml": video(8, tracks)}, names).splits[""]
    left = {int(name[-1]): [box[0] for _, box in objects] for name, objects in found.items()}
    assert left == {0: [], 1: [0], 2: [4], 3: [8], 4: [12], 5: [], 6: [], 7: [30]}


def test_frames_without_numbers_are_the_images_in_their_order(tmp_path: Path) -> None:
    names = ("images/a.jpg", "images/b.jpg", "images/c.jpg")
    found = read(tmp_path, {"annotations.xml": video(3, track((0, 0, 0), (1, 1, 0), (2, 0, 5)))}, names)
    assert found.splits[""] == {"a": [("car", [0, 0, 10, 10])], "b": [], "c": [("car", [5, 0, 15, 10])]}
    found = read(tmp_path, {"annotations.xml": video(4, track((0, 0, 0), (1, 1, 0)))}, names)
    assert [each.line for each in found.issues] == ["annotations.xml: there is no image 'frame_000000.png' below data"]


def test_a_track_with_a_frame_that_is_no_number_is_an_issue(tmp_path: Path) -> None:
    bad = '<track id="3" label="car"><box frame="one" xtl="0" ytl="0" xbr="1" ybr="1"/></track>'
    found = read(tmp_path, {"annotations.xml": video(1, track((0, 0, 0)), bad)}, ["frame_000000.png"])
    assert found.splits == {"": {"frame_000000": [("car", [0, 0, 10, 10])]}}
    assert [each.line for each in found.issues] == ["annotations.xml: track 3: frame must be a number, but is 'one'"]


@pytest.mark.parametrize(
    "text",
    [
        '<annotations><version>1.1</version><image id="0" name="a.jpg">',
        '<!DOCTYPE a [<!ENTITY b "c">]><annotations><version>1.1</version>&b;</annotations>',
    ],
)
def test_a_file_that_is_not_xml_is_an_error(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"annotations\.xml: not a readable XML file"):
        read(tmp_path, {"annotations.xml": text})


def test_files_in_utf_16_are_read(tmp_path: Path) -> None:
    text = '<?xml version="1.0" encoding="utf-16"?>' + images(BOX.replace("nut", "Schraube ä"))
    found = read(tmp_path, {"annotations.xml": text.encode("utf-16")}, ("a.jpg", "b.jpg"))
    assert found.splits[""]["a"] == [("Schraube ä", [1, 2, 30, 20])]
