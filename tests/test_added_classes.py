"""Detectors with added classes: what is detected, in which order probabilities are joined, and their files."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.build import build_encoder, build_proposer
from detector.config.detector import parse_config
from detector.datasets.dataset import Annotation
from detector.ensemble import Ensemble
from detector.explanation.explainer import Explainer
from detector.heads.fully_connected import FullyConnected, Softmax
from detector.heads.heads import Heads, SelectedClasses
from detector.heads.linear import BoxRegressors, LinearSVMs
from detector.pipeline import Detector
from detector.runs.evaluate_images import EvaluatorFactory
from detector.runtime.array_files import read_arrays, write_arrays
from detector.scoring import detect_in_inputs, inputs_of
from detector.training.calibration import with_calibration
from detector.training.class_changes import add_classes, remove_class
from tests.composites import bright, by_class, calibration, fake_composite
from tests.fakes import PROPOSALS, colored, fake_detector, with_heads

NETWORK = {"backbone": "zf5/0.05", "weights": "random"}


def test_added_classes_are_detected_with_the_others_by_one_model_and_by_several() -> None:
    composite = fake_composite()
    assert composite.class_names == ("red", "green", "bright")
    found = composite.detect(colored())
    assert {each.class_name for each in found} == {"red", "green", "bright"}
    bright_scores = found.scores[found.labels == 2]
    np.testing.assert_allclose(bright_scores, [200, 150])  # 250 - 50 and 200 - 50
    assert by_class(Ensemble([composite]), colored()) == by_class(composite, colored())


def test_settings_of_detection_and_numbers_are_those_of_the_whole_model() -> None:
    composite = fake_composite()
    assert {each.config.detection.min_score for each in composite.with_detection(min_score=120).detectors} == {120}
    assert {each.config.detection.tiles for each in composite.with_tiles(4).detectors} == {4}
    measured = replace(fake_detector(), record={"cross_validation": {"mAP": 0.7}})
    assert measured.metrics == {"mAP": 0.7} and "mAP 70.0 %" in repr(measured)
    assert fake_detector().metrics == {} and "mAP" not in repr(fake_detector())


def test_an_added_class_changes_no_bit_of_the_others() -> None:
    base, composite = by_class(fake_detector(0.1), colored()), fake_composite()
    moving = add_classes(fake_detector(0.1), composite.added[0])
    assert {name: by_class(moving, colored())[name] for name in base} == base


def test_an_added_svm_beside_a_softmax_is_no_mix_of_models(caplog: pytest.LogCaptureFixture) -> None:
    softmax = with_heads(fake_detector(), scorer=Softmax(np.zeros((3, 3), np.float32), np.zeros(3, np.float32)))
    composite = add_classes(softmax, bright(softmax))
    with caplog.at_level(logging.WARNING):
        Ensemble([composite])
        assert not caplog.records
        # a class less does not make a softmax another kind of scorer
        Ensemble([softmax, remove_class(softmax, "green")])
        assert not caplog.records
        Ensemble([remove_class(softmax, "green"), fake_detector()])
    assert "combine models of one kind" in caplog.text


def test_probabilities_are_those_of_each_classs_own_calibration() -> None:
    composite = fake_composite(calibrated=True)
    assert composite.calibration is not None
    np.testing.assert_allclose(composite.calibration.slopes, [0.1, 0.2, 0.3])
    odds = {"red": lambda score: 0.1 * score + 1, "green": lambda score: 0.2 * score + 2}
    odds["bright"] = lambda score: 0.3 * score - 3
    found = composite.detect(colored(), min_score=-50)
    assert {each.class_name for each in found} == set(odds)
    for each in found:
        assert each.probability == pytest.approx(1 / (1 + np.exp(-odds[each.class_name](each.score))), rel=1e-5)


def test_one_class_without_calibration_leaves_the_model_without_probabilities() -> None:
    composite = fake_composite(calibrated=True)
    (added,) = composite.added
    half = replace(composite, added=(with_heads(added, calibration=None),))
    assert half.calibration is None
    assert half.detect(colored()).probabilities is None


def test_a_calibration_is_divided_among_the_classes_heads() -> None:
    given = calibration([1, 2, 3], [4, 5, 6])
    composite = with_calibration(fake_composite(), given)
    assert composite.calibration is not None
    for name, array in composite.calibration.to_arrays().items():
        np.testing.assert_array_equal(array, given.to_arrays()[name])
    assert composite.added[0].heads.calibration is not None
    assert composite.added[0].heads.calibration.slopes.tolist() == [3]
    assert with_calibration(composite, None).calibration is None


def test_each_class_has_the_minimum_score_of_its_own_recipe() -> None:
    base = fake_detector().with_detection(min_score=-101.0)
    added = bright(base).with_detection(min_score=160.0)
    composite = add_classes(base, added)
    inputs = inputs_of(composite.detectors, colored())
    found = detect_in_inputs(composite.detectors, inputs)
    assert found.scores[found.labels == 2].tolist() == [200]
    alone = detect_in_inputs(base.detectors, inputs[:1])
    assert found.scores[found.labels < 2].tolist() == alone.scores.tolist()
    assert alone.scores.min() == -100  # of black


def test_evaluation_detects_added_classes_and_records_proposals_once(tmp_path: Path) -> None:
    from detector.images.files import write_image

    write_image(tmp_path / "a.png", colored())
    boxes = np.array([[0, 0, 64, 64]], np.float32)
    truth = Annotation("a", tmp_path / "a.png", boxes, np.array([2]), np.zeros(1, np.bool_))
    model = Ensemble([fake_composite()])
    evaluate = EvaluatorFactory(lambda: model, model.class_names, coverage=True)()
    result, _ = evaluate(truth)
    assert set(result.detections.labels.tolist()) == {0, 1, 2}
    assert result.coverage is not None and result.coverage.best[:, -1].tolist() == [1]
    assert result.coverage.n_proposals.tolist() == [len(PROPOSALS)]


def test_scores_of_added_classes_are_attributed_to_their_cells() -> None:
    explainer = Explainer(fake_composite(calibrated=True), colored())
    found = explainer.detect(np.full(3, 120, np.float32))
    attributions = explainer.explain(found)
    assert [each.class_name for each in attributions] == [each.class_name for each in found]
    for each, detection in zip(attributions, found, strict=True):
        assert each.score == pytest.approx(detection.score)
        assert float(each.heat_map().sum()) + each.bias == pytest.approx(each.score, rel=1e-4)
        assert each.probability == pytest.approx(detection.probability)


def test_the_last_class_of_the_first_heads_can_be_removed() -> None:
    composite = replace(fake_composite(calibrated=True), record={"trained_on": "squares", "mAP": 0.5})
    (added,) = composite.added
    composite = replace(composite, added=(replace(added, record={"trained_on": "lamps"}),))
    expected = by_class(composite, colored())
    one = remove_class(remove_class(composite, "red"), "green")
    assert (one.class_names, one.added) == (("bright",), ())
    assert by_class(one, colored()) == {"bright": expected["bright"]}
    assert one.record == {"trained_on": "lamps"}
    with pytest.raises(ValueError, match="'bright' is the model's only class"):
        remove_class(one, "bright")


def test_classes_come_and_go_in_any_order() -> None:
    base = fake_detector()
    composite = add_classes(add_classes(base, bright(base, "one", trained_on="1")), bright(base, "two"))
    # the heads of an added model may have classes that were added themselves
    both = add_classes(remove_class(composite, "one"), remove_class(remove_class(composite, "red"), "green").own)
    assert remove_class(composite, "one").record == {"added": {"two": {}}}
    assert composite.record["added"]["one"] == {"trained_on": "1"}
    assert both.class_names == ("red", "green", "two", "one")
    expected = by_class(composite, colored())
    assert by_class(both, colored()) == {name: expected[name] for name in both.class_names}
    nested = add_classes(remove_class(base, "green"), add_classes(bright(base, "one"), bright(base, "two")))
    assert [each.class_names for each in nested.detectors] == [("red",), ("one",), ("two",)]
    assert set(by_class(nested, colored())) == {"red", "one", "two"}


@pytest.fixture(scope="module")
def composite() -> Detector:
    """Random heads on the smallest real network: two classes on fc6, an added one on the same fc6, one on pooled."""
    config = parse_config(
        {
            "features": {
                "backbone": "zf5/0.05",
                "weights": "random",
                "short_sides": [128],
                "levels": [1],
                "precision": "float32",
            },
            "proposals": {"max_boxes": 50},
            "detection": {"min_score": -10.0},
        },
        "test",
    )
    random, encoder = np.random.default_rng(0), build_encoder(config.features)

    def normal(*shape: int) -> Any:
        return random.normal(size=shape).astype(np.float32)

    n_pooled = encoder.n_features
    layers = FullyConnected([normal(8, n_pooled).astype(np.float16)], [normal(8)], runtime=encoder.backbone.runtime)
    regressors = BoxRegressors(0.01 * normal(1, n_pooled, 4), normal(1, 4) / 9)
    propose = build_proposer(config.proposals)
    base = Detector(propose, encoder, Heads(Softmax(normal(8, 3), normal(3)), layers=layers), ("a", "b"), config)
    on_layers = Heads(LinearSVMs(normal(8, 1), normal(1)), [regressors], layers, calibration=calibration([0.5], [0]))
    pooled = Heads(LinearSVMs(normal(n_pooled, 1), normal(1)), [regressors])
    for number, heads in enumerate((on_layers, pooled)):
        added = replace(base, heads=heads, class_names=(f"new {number}",), record={"images": number}, added=())
        base = add_classes(base, added)
    return base


def test_files_and_pickles_hold_all_classes_to_the_bit(composite: Detector, tmp_path: Path) -> None:
    expected = by_class(composite, colored())
    assert set(expected) == {"a", "b", "new 0", "new 1"}
    composite.save(tmp_path / "model")
    for again in (Detector.load(tmp_path / "model"), pickle.loads(pickle.dumps(composite))):
        assert by_class(again, colored()) == expected
        assert again.record == composite.record
        assert [each.record for each in again.added] == [{"images": 0}, {"images": 1}]
        # also where a class of each of the heads is removed
        less = remove_class(remove_class(again, "new 0"), "a")
        assert by_class(less, colored()) == {name: expected[name] for name in ("b", "new 1")}
        less.save(tmp_path / "less")
        assert by_class(Detector.load(tmp_path / "less"), colored()) == by_class(less, colored())


def test_shared_layers_are_stored_once(composite: Detector, tmp_path: Path) -> None:
    composite.save(tmp_path / "model")
    names = [name for name in read_arrays(tmp_path / "model")[0] if "fc6.weights" in name]
    assert names == ["fc6.weights"]
    again = Detector.load(tmp_path / "model")
    assert again.added[0].heads.layers is again.heads.layers is not None
    assert again.added[1].heads.layers is None


def change_of(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda metadata: metadata["added"][0].update({key: value})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda metadata: metadata.update(added=3), "added must be a list of objects with class_names, config"),
        (lambda metadata: metadata.update(added=["x"]), "added must be a list of objects"),
        (lambda metadata: metadata["added"][0].pop("record"), "added must be a list of objects"),
        (change_of("class_names", "new 0"), "added must be a list of objects"),
        (change_of("shares_layers", 1), "added must be a list of objects"),
        (change_of("class_names", [["x"]]), "class_names must end with the added classes"),
        (change_of("class_names", ["other"]), "class_names must end with the added classes"),
        (change_of("class_names", ["a", "b", "c", "d"]), "must have shape"),
        (change_of("config", {"svm": 3}), "the configuration of an added class: svm: "),
        (change_of("shares_layers", False), "weights of the scores must have shape"),
        (lambda metadata: metadata["added"].append(metadata["added"][0]), "lacks 'svm.weights'"),
        (lambda metadata: metadata.pop("added"), "must have shape"),
    ],
)
def test_a_damaged_description_of_added_classes_is_one_line(
    composite: Detector, tmp_path: Path, damage: Callable[[Any], None], message: str
) -> None:
    path = tmp_path / "model"
    composite.save(path)
    arrays, metadata = read_arrays(path)
    damage(metadata)
    write_arrays(path, arrays, metadata)
    with pytest.raises(ValueError) as error:
        Detector.load(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ") and message in text and "\n" not in text


def test_the_recipes_limit_is_each_detectors_own_and_a_given_one_that_of_the_image() -> None:
    base = fake_detector().with_detection(max_detections=1, min_score=0.0)
    composite = add_classes(base, bright(base))
    found = composite.detect(colored(), min_score=0)
    assert [each.class_name for each in found] == ["bright", "red"]
    assert [each.class_name for each in composite.detect(colored(), max_detections=1)] == ["bright"]


@pytest.mark.parametrize("kind", [LinearSVMs, Softmax])
def test_selected_classes_are_columns_of_all(kind: type[LinearSVMs] | type[Softmax]) -> None:
    random = np.random.default_rng(0)
    n_columns = 4 + (kind is Softmax)
    scorer = kind(random.normal(size=(3, n_columns)).astype(np.float32), np.zeros(n_columns, np.float32))
    heads = Heads(scorer)
    features = random.normal(size=(5, 3)).astype(np.float32)
    everything = heads.decision_function(features)
    some = heads.select([0, 2, 3]).select([0, 2])
    some.check(3, 2)
    np.testing.assert_array_equal(some.decision_function(features), everything[:, [0, 3]])
    weights, constants = some.affine_at(features, np.array([0, 1, 1, 0, 1]))
    expected = everything[np.arange(5), [0, 3, 3, 0, 3]]
    np.testing.assert_allclose((features * weights).sum(1) + constants, expected, rtol=1e-5, atol=1e-6)
    again = Heads.from_arrays(some.to_arrays())
    np.testing.assert_array_equal(again.decision_function(features), everything[:, [0, 3]])
    for labels in ([0, 4], [0, -1], [0]):
        wrong = replace(some, scorer=SelectedClasses(scorer, np.array(labels)))
        with pytest.raises(ValueError, match="2 of 4 classes must be selected, but got"):
            wrong.check(3, 2)


def test_the_record_names_what_each_of_two_added_classes_was_trained_on() -> None:
    base = replace(fake_detector(), record={"trained_on": "shapes", "cross_validation": {"mAP": 0.5}})
    one = bright(base, "bright", trained_on="lamps")
    two = bright(base, "shiny", trained_on="mirrors")
    both = add_classes(add_classes(base, one), two)
    records = {"bright": {"trained_on": "lamps"}, "shiny": {"trained_on": "mirrors"}}
    assert both.record == {"trained_on": "shapes", "added": records}
    # the same of both at once, and of what is left when one goes
    assert add_classes(base, add_classes(one, two)).record == both.record
    assert remove_class(both, "bright").record == {"trained_on": "shapes", "added": {"shiny": records["shiny"]}}
