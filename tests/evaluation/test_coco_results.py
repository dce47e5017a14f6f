"""COCO's result files: written, read, refused; average precision as pycocotools has it, error kinds as hotcoco."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.datasets.dataset import Annotation, Dataset
from detector.datasets.loading import load_coco
from detector.detections import Detections
from detector.evaluation.coco_results import CocoIds, coco_ids, plain_ids, read_coco_results, to_coco_results
from detector.evaluation.error_kinds import find_error_kinds, lost_precision
from detector.evaluation.outcomes import Outcomes
from detector.evaluation.voc import average_precisions
from tests.evaluation.boxes import NAMES, A, B, found, objects, outcomes_of
from tests.fakes import coco_of


def images_apart(seed: int, count: int = 20) -> tuple[list[Annotation], list[Detections]]:
    """Objects that do not overlap each other, so that every rule of matching agrees; detections with all errors."""
    rng = np.random.default_rng(seed)
    truths, detections = [], []
    corners = np.stack(np.meshgrid(np.arange(3), np.arange(3)), axis=-1).reshape(-1, 2) * 100.0
    for number in range(count):
        boxes = np.concatenate([corners + 5, corners + 5 + rng.uniform(30, 90, (9, 2))], axis=1)[: rng.integers(0, 9)]
        labels = rng.integers(0, 3, len(boxes))
        truths.append(Annotation(f"{number:03d}", Path(f"{number:03d}.jpg"), boxes, labels, np.zeros(len(boxes), bool)))
        rows = rng.integers(0, len(boxes), 12) if len(boxes) else np.zeros(0, np.int64)
        moved = np.maximum(boxes[rows] + rng.normal(0, 9, (len(rows), 4)), 0)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        wrong = rng.integers(0, 3, len(rows))
        far = np.array([[400.0, 400, 450, 450]])
        detections.append(
            Detections(
                np.concatenate([moved, far]).astype(np.float32),
                np.append(np.where(rng.random(len(rows)) < 0.7, labels[rows], wrong), 0),
                rng.random(len(rows) + 1).astype(np.float32),
                NAMES,
            )
        )
    return truths, detections


def coco_files(folder: Path, truths: list[Annotation], outcomes: Outcomes) -> tuple[Path, list[dict[str, Any]]]:
    content: dict[str, Any] = coco_of(Dataset(truths, NAMES, "test"))
    for each in content["annotations"]:
        each["area"] = each["bbox"][2] * each["bbox"][3]
        each["id"] += 1  # pycocotools takes 0 for no match
    path = folder / "truth.json"
    path.write_text(json.dumps(content))
    return path, to_coco_results(outcomes, coco_ids([path], load_coco(path)))


def average_of_101(outcomes: Outcomes) -> float:
    """COCO's average precision at IoU 0.5, from who found whom."""
    values = []
    for label, n in enumerate(outcomes.n_wanted()):
        true = outcomes.true[outcomes.of_class(label)]
        recall, precision = np.cumsum(true) / n, np.cumsum(true) / np.arange(1, len(true) + 1)
        best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        values.append(best[np.searchsorted(recall, np.linspace(0, 1, 101))].mean())
    return float(np.mean(values))


def evaluated(module: Any, evaluation: Any, path: Path, results: list[dict[str, Any]]) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = module(str(path))
        run = evaluation(truth, truth.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


def test_average_precision_is_that_of_pycocotools(tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truths, detections = images_apart(0)
    outcomes = outcomes_of(truths, detections)
    path, results = coco_files(tmp_path, truths, outcomes)
    run = evaluated(COCO, COCOeval, path, results)
    assert average_of_101(outcomes) == pytest.approx(float(run.stats[1]), abs=1e-9)
    # the area below the whole curve, rather than 101 points of it
    assert np.mean(average_precisions(outcomes, "area")) == pytest.approx(float(run.stats[1]), abs=0.01)


@pytest.mark.all
def test_error_kinds_are_those_of_hotcoco(tmp_path: Path) -> None:
    """Counts are equal, and what is lost by kinds whose errors go.

    For the other kinds hotcoco repairs otherwise than TIDE's own program and than we do: it makes all detections of the
    kind true, also those on one object and those of a found one, leaves them in their class, and puts missed objects
    before all detections where we take them out of the ground truth.
    """
    hotcoco = pytest.importorskip("hotcoco")
    for seed in range(5):
        truths, detections = images_apart(seed)
        outcomes = outcomes_of(truths, detections)
        path, results = coco_files(tmp_path, truths, outcomes)
        theirs = evaluated(hotcoco.COCO, hotcoco.COCOeval, path, results).tide_errors()
        kinds = find_error_kinds(outcomes)
        names = {"class": "Cls", "location": "Loc", "both": "Both", "duplicate": "Dupe", "background": "Bkg"}
        names["missed"] = "Miss"
        assert kinds.counts() == {ours: theirs["counts"][name] for ours, name in names.items()}
        lost = lost_precision(outcomes, kinds, "area")
        for ours in ("both", "duplicate", "background"):
            assert lost[ours] == pytest.approx(theirs["delta_ap"][names[ours]], abs=0.012), (seed, ours)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    truths, detections = images_apart(1)
    outcomes = outcomes_of(truths, detections)
    dataset = Dataset(truths, NAMES, "test")
    for ids in (plain_ids(dataset), coco_ids([coco_files(tmp_path, truths, outcomes)[0]], dataset)):
        path = tmp_path / "found.json"
        path.write_text(json.dumps(to_coco_results(outcomes, ids)))
        read = read_coco_results(path, ids, dataset)
        assert sum(len(each.scores) for each in read.values()) == len(outcomes.scores)
        for label, name in enumerate(NAMES):
            rows = outcomes.of_class(label)
            assert read[name].scores.tolist() == outcomes.scores[rows].tolist()
            assert [int(each) for each in read[name].image_ids] == outcomes.images[rows].tolist()
            np.testing.assert_allclose(read[name].boxes, outcomes.boxes[rows], atol=1e-4)


def test_images_with_numbers_for_names(tmp_path: Path) -> None:
    dataset = Dataset([objects("000012", (A, 0, False)), objects("7a", (B, 1, False))], NAMES, "test")
    path = tmp_path / "found.json"
    row = {"category_id": 1, "bbox": [0, 0, 10, 10], "score": 1}
    path.write_text(json.dumps([{**row, "image_id": 12}, {**row, "image_id": "000012"}, {**row, "image_id": "7a"}]))
    assert read_coco_results(path, plain_ids(dataset), dataset)["cat"].image_ids == ["000012", "000012", "7a"]


def boxed(name: str) -> Annotation:
    return replace(objects(Path(name).stem, (A, 0, False)), path=Path("photos", name))


ROW = {"category_id": 1, "bbox": [0, 0, 10, 10], "score": 0.5}


@pytest.mark.parametrize(
    "image_id", ["a b", "a b.jpg", "images/val/a b.jpg", "C:\\data\\a b.png", "http://host/a b.jpg"]
)
def test_images_go_by_their_names_in_data_of_other_formats(image_id: str, tmp_path: Path) -> None:
    dataset = Dataset([boxed("a b.jpg"), boxed("12.jpg")], NAMES, "test")
    path = tmp_path / "found.json"
    path.write_text(json.dumps([{**ROW, "image_id": image_id}, {**ROW, "image_id": 12.0}]))
    assert read_coco_results(path, plain_ids(dataset), dataset)["cat"].image_ids == ["a b", "12"]


def test_an_id_comes_before_a_name(tmp_path: Path) -> None:
    one, two = replace(boxed("2.jpg"), image_id="1"), replace(boxed("1.jpg"), image_id="2")
    dataset = Dataset([one, two], NAMES, "test")
    path = tmp_path / "found.json"
    path.write_text(json.dumps([{**ROW, "image_id": "1"}]))
    assert read_coco_results(path, plain_ids(dataset), dataset)["cat"].image_ids == ["1"]


def test_a_name_of_two_images_stands_for_neither(tmp_path: Path) -> None:
    one, two = (replace(boxed("a.jpg"), image_id=f"{part}/a", path=Path(part, "a.jpg")) for part in ("one", "two"))
    dataset = Dataset([one, two], NAMES, "test")
    path = tmp_path / "found.json"
    path.write_text(json.dumps([{**ROW, "image_id": "two/a"}]))
    assert read_coco_results(path, plain_ids(dataset), dataset)["cat"].image_ids == ["two/a"]
    path.write_text(json.dumps([{**ROW, "image_id": "a.jpg"}]))
    with pytest.raises(
        ValueError, match=r"detection 0: there is no image 'a\.jpg' among the 2 evaluated, whose ids are"
    ):
        read_coco_results(path, plain_ids(dataset), dataset)


@pytest.mark.parametrize(
    ("categories", "labels"),
    [([1, 2, 3], [0, 1, 2]), ([0, 1, 2], [0, 1, 2]), (["0", "1"], [0, 1]), ([1.0, "2"], [0, 1]), ([0, 3], [2])],
)
def test_categories_count_from_1_or_0(categories: list[object], labels: list[int], tmp_path: Path) -> None:
    dataset = Dataset([boxed("a.jpg")], NAMES, "test")
    path = tmp_path / "found.json"
    path.write_text(json.dumps([{**ROW, "image_id": "a", "category_id": each} for each in categories]))
    read = read_coco_results(path, plain_ids(dataset), dataset)
    assert [label for label, name in enumerate(NAMES) if len(read[name].scores)] == labels


def test_a_file_with_images_and_categories_goes_by_its_own_names(tmp_path: Path) -> None:
    dataset = Dataset([boxed("a.jpg")], NAMES, "test")
    content = {
        "images": [{"id": 5, "file_name": "val/a.jpg"}],
        "categories": [{"id": 7, "name": NAMES[1]}, {"id": 0, "name": "unicorn"}],
        "annotations": [{**ROW, "id": 1, "image_id": 5, "category_id": 7}, {**ROW, "image_id": "5", "category_id": 0}],
    }
    path = tmp_path / "found.json"
    path.write_text(json.dumps(content))
    read = read_coco_results(path, CocoIds({"a": 99}, [4, 5, 6]), dataset)
    assert {name: each.image_ids for name, each in read.items()} == {NAMES[0]: [], NAMES[1]: ["a"], NAMES[2]: []}
    path.write_text(json.dumps({**content, "images": []}))
    with pytest.raises(ValueError, match=r"found\.json: not a COCO result file: its lists do not fit together"):
        read_coco_results(path, CocoIds({"a": 99}, [4, 5, 6]), dataset)


def test_ids_are_those_of_the_file_that_lists_the_images(tmp_path: Path) -> None:
    dataset = Dataset([replace(boxed("a.jpg"), path=tmp_path / "val/a.jpg")], ("dog", "cat"), "test")
    for split, names, first in (("train", ["a.jpg", "b.jpg"], 1), ("val", ["a.jpg"], 70)):
        (tmp_path / split).mkdir()
        content = {
            "images": [{"id": number, "file_name": name} for number, name in enumerate(names, first)],
            "categories": [{"id": first + 1, "name": "cat"}, {"id": first, "name": " dog "}],
            "annotations": [],
        }
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(content))
    paths = [tmp_path / split / "_annotations.coco.json" for split in ("train", "val")]
    for order in (paths, paths[::-1]):
        assert coco_ids(order, dataset) == CocoIds({"a": 70}, [70, 71])
    other = Dataset([boxed("x.jpg")], ("dog",), "test")
    assert coco_ids(paths, other) == coco_ids([], other) == plain_ids(other)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a readable JSON"),
        ("[" * 100_000, "not a readable JSON"),
        ("{}", "must be a list"),
        ("[3]", "detection 0: must have the keys"),
        ('[{"image_id": 1}]', "detection 0: must have the keys"),
        ('[{"image_id": 9, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]', "there is no image 9 among the 1"),
        ('[{"image_id": [], "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]', "there is no image"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1], "score": 1}]', "bbox must be the numbers"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, "1"], "score": 1}]', "bbox must be the numbers"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": NaN}]', "bbox must be the numbers"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1e999}]', "bbox must be the numbers"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 2e9], "score": 1}]', "bbox must be the numbers"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [0, 0, -1, 1], "score": 1}]', "at least 0, but has -1"),
        ('[{"image_id": 1, "category_id": 8, "bbox": [0, 0, 1, 1], "score": 1}]', "no detection is of a class"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "found.json"
    path.write_text(content)
    dataset = Dataset([objects("1")], NAMES, "test")
    with pytest.raises(ValueError, match=message) as raised:
        read_coco_results(path, plain_ids(dataset), dataset)
    assert str(path) in str(raised.value)


def test_an_empty_list_is_no_detection(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    path.write_text("[]")
    dataset = Dataset([objects("1")], NAMES, "test")
    assert len(read_coco_results(path, plain_ids(dataset), dataset)["cat"].scores) == 0
    assert len(outcomes_of([objects("1")], [found()]).scores) == 0


def test_an_exact_id_goes_before_an_equal_number(tmp_path: Path) -> None:
    dataset = Dataset([boxed("000012.jpg"), boxed("12.jpg"), boxed("013.jpg")], NAMES, "test")
    path = tmp_path / "found.json"
    path.write_text(json.dumps([{**ROW, "image_id": each} for each in (12, "000012", 13, "13.png", "013")]))
    found = read_coco_results(path, plain_ids(dataset), dataset)["cat"].image_ids
    assert found == ["12", "000012", "013", "013", "013"]
