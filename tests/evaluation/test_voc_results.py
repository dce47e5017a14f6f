"""Files of detections in the devkit's format: written, read, scored and refused."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from detector.detections import Detections
from detector.evaluation.outcomes import by_class, gather_outcomes
from detector.evaluation.thresholds import threshold_curve
from detector.evaluation.voc import Metric, evaluate_voc
from detector.evaluation.voc_results import file_names, read_detections, write_detections
from tests.evaluation.boxes import NAMES, A, found, objects, random_images
from tests.reference import slow_voc


@pytest.mark.parametrize("metric", ["voc07", "area"])
def test_files_and_memory_score_alike(tmp_path: Path, metric: Metric) -> None:
    truths, detections = random_images(0)
    image_ids = [truth.image_id for truth in truths]
    write_detections(tmp_path / "results" / "new", "val", image_ids, detections)
    read = read_detections(tmp_path / "results" / "new", "val", NAMES)
    from_files = evaluate_voc(read, truths, NAMES, metric)
    assert from_files.AP == evaluate_voc(detections, truths, NAMES, metric).AP
    expected = [slow_voc(truths, detections, label, metric, Fraction(1, 2)) for label in range(3)]
    np.testing.assert_allclose(list(from_files.AP.values()), expected, rtol=0, atol=1e-6)
    assert 0.05 < from_files.mAP < 0.95


def test_written_lines(tmp_path: Path) -> None:
    detections = [
        found(((47.0, 239.0, 195.0, 371.0), 1, 0.25), ((0.5, 0.0, 1.0, 1.0), 1, 2.0)),
        found((A, 0, -1.5)),
    ]
    write_detections(tmp_path, "val", ["000012", "7"], detections)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"comp4_det_val_{name}.txt" for name in NAMES]
    lines = (tmp_path / "comp4_det_val_dog.txt").read_text().splitlines()
    assert lines == ["000012 2.0 1.5 1.0 1.0 1.0", "000012 0.25 48.0 240.0 195.0 371.0"]
    assert (tmp_path / "comp4_det_val_cat.txt").read_text() == "7 -1.5 1.0 1.0 10.0 10.0\n"
    assert (tmp_path / "comp4_det_val_sheep.txt").read_text() == ""


def test_round_trip_is_exact(tmp_path: Path) -> None:
    _, detections = random_images(1)
    just_above = np.nextafter(np.float32(0.1), np.float32(1))
    tight = found((A, 0, 0.1), (A, 0, float(just_above)), ((3.2, 3.2, 3.2, 3.7), 0, 1e-7), (A, 0, -3e8))
    detections.append(tight)
    image_ids = [f"image-{number}" for number in range(len(detections))]
    write_detections(tmp_path, "test", image_ids, detections)
    read = read_detections(tmp_path, "test", NAMES)
    for name, expected in by_class(image_ids, detections).items():
        assert list(read[name].image_ids) == list(expected.image_ids)
        np.testing.assert_array_equal(read[name].boxes, expected.boxes)
        np.testing.assert_array_equal(read[name].scores.astype(np.float32), expected.scores.astype(np.float32))


def test_files_of_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "comp4_det_test_dog.txt"
    path.write_bytes(b"000012 0.056313 48 240 195 371\r\n\r\n2008_000001\t1e-3 7 7 7 7 \n")
    read = read_detections(str(tmp_path), "test", NAMES)
    assert list(read) == ["dog"]
    assert read["dog"].image_ids == ["000012", "2008_000001"]
    assert read["dog"].boxes.tolist() == [[47, 239, 195, 371], [6, 6, 7, 7]]
    assert read["dog"].scores.tolist() == [0.056313, 0.001]
    result = evaluate_voc(read, [objects("000012", (A, 0, False)), objects("2008_000001")], NAMES)
    assert result.AP["cat"] == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("000012 0.5 1 1 9", "6 columns, image_id score x1 y1 x2 y2, but got 5"),
        ("000012 0.5 1 1 9 9 9", "but got 7"),
        ("000012 0.5 1 one 9 9", "'one'"),
        ("000012 nan 1 1 9 9", "numbers must be finite, but got nan 1 1 9 9"),
        ("000012 0.5 1 1 inf 9", "numbers must be finite"),
        ("000012 0.5 1 1 2e9 9", "corners must be -1e9 to 1e9, but got 1 1 2e9 9"),
        ("\x80\x81 binary", "6 columns"),
    ],
)
def test_bad_lines_name_file_and_line(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "comp4_det_val_dog.txt"
    path.write_text(f"000012 0.5 1 1 9 9\n\n{line}\n", encoding="latin-1")
    with pytest.raises(ValueError, match="comp4_det_val_dog") as error:
        read_detections(tmp_path, "val", NAMES)
    assert str(error.value).startswith(f"{path}:3: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_scores_may_be_of_any_size(tmp_path: Path) -> None:
    (tmp_path / "comp4_det_val_dog.txt").write_text("1 1e308 1 1 9 9\n1 -1e308 1 1 9 9\n")
    assert read_detections(tmp_path, "val", NAMES)["dog"].scores.tolist() == [1e308, -1e308]


def test_images_that_are_not_evaluated_name_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "comp4_det_val_dog.txt"
    path.write_text("000012 0.5 1 1 9 9\n000013 0.5 1 1 9 9\n")
    with pytest.raises(ValueError, match="image '000013' is not one of the 1 evaluated") as error:
        read_detections(tmp_path, "val", NAMES, ["000012"])
    assert str(error.value).startswith(f"{path}:2: ")
    assert read_detections(tmp_path, "val", NAMES, ["000013", "000012"])["dog"].image_ids == ["000012", "000013"]


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        read_detections(tmp_path / "nowhere", "val", NAMES)
    write_detections(tmp_path, "train", ["1"], [found()])
    with pytest.raises(FileNotFoundError, match="no file comp4_det_val_<class>"):
        read_detections(tmp_path, "val", NAMES)


def test_write_rejects_what_the_files_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="detections must be one for each of 2 images, but got 1"):
        write_detections(tmp_path, "val", ["1", "2"], [found()])
    with pytest.raises(ValueError, match="share their class names"):
        write_detections(tmp_path, "val", ["1", "2"], [found(), Detections.empty(["cat"])])
    for image_id in ("a b", "", "a\nb"):
        with pytest.raises(ValueError, match="image ids must not contain whitespace"):
            write_detections(tmp_path, "val", [image_id], [found()])
    longest = 255 - len("comp4_det_val_.txt")
    assert file_names("val", ["x" * longest]) == [f"comp4_det_val_{'x' * longest}.txt"]
    for name in ("../dog", "a/b", "x" * (longest + 1), "a\0b"):
        with pytest.raises(ValueError, match="must fit in a file name"):
            write_detections(tmp_path, "val", ["1"], [Detections.empty([name])])
    assert list(tmp_path.iterdir()) == []


def test_boxes_that_no_object_can_have_are_false_detections(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As the devkit counts them: 1 of 3 detections is true, and the best."""
    path = tmp_path / "comp4_det_val_cat.txt"
    path.write_text("1 0.9 1 1 10 10\n1 0.8 10 1 1 10\n\n1 0.7 -9 1 0 10\n")
    read = read_detections(tmp_path, "val", NAMES)
    assert read["cat"].boxes.tolist() == [[0, 0, 10, 10], [9, 0, 9, 0], [-10, 0, 0, 10]]  # no area, or outside
    outcomes = gather_outcomes(read, [objects("1", (A, 0, False), ((20.0, 0.0, 30.0, 10.0), 0, False))], NAMES)
    np.testing.assert_allclose(threshold_curve(outcomes, 0).precision, [1, 1 / 2, 1 / 3])
    np.testing.assert_allclose(threshold_curve(outcomes, 0).recall, [1 / 2, 1 / 2, 1 / 2])
    assert caplog.messages == [
        f"{path}:2: a box must have x1 <= x2 and y1 <= y2, but got 10 1 1 10; counted as a false detection",
        f"{path}:4: a box must lie in its image, which begins at 1 1, but got -9 1 0 10; counted as a false detection",
    ]


def test_twenty_warnings_are_enough(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("cat", "dog"):
        (tmp_path / f"comp4_det_val_{name}.txt").write_text("1 0.5 10 1 8 9\n" * 15)
    read = read_detections(tmp_path, "val", NAMES)
    assert [len(each.scores) for each in read.values()] == [15, 15]
    assert len(caplog.messages) == 21
    assert caplog.messages[-1] == "10 more such lines"
