"""Learned parts of a detector after the pooling: layers, scores, box regressors, calibration, proposal filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes
from detector.heads.calibration import Calibration
from detector.heads.fully_connected import LAYERS, FullyConnected, Softmax
from detector.heads.linear import BoxRegressors, LinearSVMs
from detector.heads.proposal_filter import ProposalFilter
from detector.runtime.array_files import Arrays

Features = NDArray[np.float32]
AllClasses = LinearSVMs | Softmax
RegressorInput = Literal["pooled", "layer"]

_SELECTED = "selected.labels"
_REGRESSORS = "regression", "second_regression"
_CALIBRATION = "calibration."
_PROPOSAL_FILTER = "proposal_filter."


@dataclass(frozen=True, eq=False)
class SelectedClasses:
    """Some classes of a scorer: the others are computed, too, so that no bit of a score depends on which are left.

    labels: ``(K,)`` int64, which classes of ``scorer``.
    """

    scorer: AllClasses
    labels: NDArray[np.int64]

    def decision_function(self, features: Features) -> Features:
        """Return the scores ``(R, K)`` float32 of ``(R, D)`` float32 features."""
        return self.scorer.decision_function(features)[:, self.labels]

    def affine_at(
        self, features: Features, labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Return weights ``(R, D)`` and constants ``(R,)`` of the score of each row in the class of its label."""
        return self.scorer.affine_at(features, self.labels[labels])

    def select(self, labels: Sequence[int]) -> SelectedClasses:
        """Return some of these classes."""
        return SelectedClasses(self.scorer, self.labels[list(labels)])


Scorer = AllClasses | SelectedClasses


@dataclass(frozen=True)
class Heads:
    """Learned parts of a detector after the pooling.

    scorer: scores features of the fully connected layers or, without layers, pooled features.
    regressors: box regressors, each with one per class: of proposals and, in a cascade, of boxes that these refined.
    layers: fully connected layers between pooled features and scores, if any.
    regressors_read: input of the regressors: pooled features, or features of the layers.
    calibration: probabilities and thresholds, learned on held-out images, if any.
    proposal_filter: ranks proposals before they are scored, if any.
    """

    scorer: Scorer
    regressors: Sequence[BoxRegressors] = ()
    layers: FullyConnected | None = None
    regressors_read: RegressorInput = "pooled"
    calibration: Calibration | None = None
    proposal_filter: ProposalFilter | None = None

    def check(self, n_pooled: int, n_classes: int) -> None:
        """Raise ValueError unless the parts fit each other, ``n_pooled`` features and ``n_classes`` classes."""
        if self.layers is not None and self.layers.n_inputs != n_pooled:
            raise ValueError(f"fc6 must take {n_pooled} features, but takes {self.layers.n_inputs}")
        n_features = n_pooled if self.layers is None else self.layers.n_features
        if isinstance(self.scorer, SelectedClasses):
            scorer, labels, n_scored = self.scorer.scorer, self.scorer.labels, self.scorer.scorer.n_classes
            if len(labels) != n_classes or not ((labels >= 0) & (labels < n_scored)).all():
                raise ValueError(f"{n_classes} of {n_scored} classes must be selected, but got {labels.tolist()}")
        else:
            scorer, n_scored = self.scorer, n_classes
        expected = (n_features, n_scored + isinstance(scorer, Softmax))
        if scorer.weights.shape != expected:
            raise ValueError(f"weights of the scores must have shape {expected}, but got {scorer.weights.shape}")
        if scorer.biases.shape != expected[1:]:
            raise ValueError(f"biases of the scores must have shape {expected[1:]}, but got {scorer.biases.shape}")
        shape = (n_classes, n_features if self.regressors_read == "layer" else n_pooled, 4)
        for regressors in self.regressors:
            if regressors.weights.shape != shape:
                raise ValueError(f"regressor weights must have shape {shape}, but got {regressors.weights.shape}")
            if regressors.biases.shape != (n_classes, 4):
                raise ValueError(
                    f"regressor biases must have shape {(n_classes, 4)}, but got {regressors.biases.shape}"
                )
        if self.calibration is not None and len(self.calibration.slopes) != n_classes:
            raise ValueError(f"calibration must have {n_classes} classes, but has {len(self.calibration.slopes)}")

    @property
    def kind(self) -> type[AllClasses]:
        """Kind of the scorer: SVMs or a softmax."""
        return type(self.scorer.scorer if isinstance(self.scorer, SelectedClasses) else self.scorer)

    @property
    def regresses_from_layers(self) -> bool:
        """True where scores and box deltas are computed from the same features, those of the layers."""
        return self.layers is not None and bool(self.regressors) and self.regressors_read == "layer"

    def features(self, pooled: Features) -> Features:
        """Return the features ``(R, n)`` that are scored: those of the layers or, without layers, the pooled ones."""
        return pooled if self.layers is None else self.layers(pooled)

    def decision_function(self, pooled: Features) -> Features:
        """Return scores ``(R, K)`` float32 of ``(R, D)`` float32 pooled features: margins, or log odds of a softmax."""
        return self.scorer.decision_function(self.features(pooled))

    def score_and_regress(
        self,
        pooled: Features,
        rows: NDArray[np.int64],
        labels: NDArray[np.int64],
        regressors: BoxRegressors | None,
        score: bool,
    ) -> tuple[Boxes, NDArray[np.float32]]:
        """Return box deltas ``(N, 4)`` and scores ``(N,)``, float32, of pairs of a row and a class.

        pooled: ``(R, D)``. rows, labels: ``(N,)``, the pairs.
        regressors: those of the heads that compute the deltas; None: zeros.
        score: whether to compute the scores; otherwise they are zero.
        A row is computed once, however many pairs it is in.
        """
        features = self.features(pooled) if score or self.regresses_from_layers else pooled
        deltas, scores = np.zeros((len(rows), 4), np.float32), np.zeros(len(rows), np.float32)
        if regressors is not None:
            deltas = regressors.predict(features if self.regresses_from_layers else pooled, labels, rows)
        if score:
            scores = self.scorer.decision_function(features)[rows, labels]
        return deltas, scores

    def regress(self, pooled: Features, labels: NDArray[np.int64]) -> Boxes:
        """Return box deltas ``(R, 4)`` float32 of ``(R, D)`` pooled features, by the first regressors."""
        return self.score_and_regress(pooled, np.arange(len(labels)), labels, self.regressors[0], score=False)[0]

    def affine_at(self, pooled: Features, labels: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return weights ``(R, D)`` and constants ``(R,)`` of the score as an affine function of the pooled features.

        The score of a row of ``(R, D)`` pooled features in the class of its label ``(R,)`` is the sum of its features
        times its weights, plus its constant; exactly, up to rounding.
        """
        features = self.features(pooled)
        weights, constants = self.scorer.affine_at(features, labels)
        if self.layers is not None:
            weights, more = self.layers.affine_at(pooled, weights)
            constants = constants + more
        return weights.astype(np.float64), constants.astype(np.float64)

    def select(self, labels: Sequence[int]) -> Heads:
        """Return heads with some of the classes, whose scores and boxes stay bit-identical."""
        selected = self.scorer
        if not isinstance(selected, SelectedClasses):
            selected = SelectedClasses(selected, np.arange(selected.n_classes))
        regressors = [each.select(labels) for each in self.regressors]
        calibration = self.calibration and self.calibration.of_classes(labels)
        return replace(self, scorer=selected.select(labels), regressors=regressors, calibration=calibration)

    def to_arrays(self) -> Arrays:
        """Return all arrays by name, as a model file holds them."""
        arrays: Arrays = {}
        if isinstance(self.scorer, SelectedClasses):
            arrays[_SELECTED] = self.scorer.labels
        scorer = self.scorer.scorer if isinstance(self.scorer, SelectedClasses) else self.scorer
        head = _name(type(scorer))
        arrays |= {f"{head}.weights": scorer.weights, f"{head}.biases": scorer.biases}
        if self.layers is not None:
            for name, weights, biases in zip(LAYERS, self.layers.weights, self.layers.biases, strict=False):
                arrays |= {f"{name}.weights": weights, f"{name}.biases": biases}
        for name, regressors in zip(_REGRESSORS, self.regressors, strict=False):
            arrays |= {f"{name}.weights": regressors.weights, f"{name}.biases": regressors.biases}
        if self.calibration is not None:
            arrays |= {f"{_CALIBRATION}{name}": array for name, array in self.calibration.to_arrays().items()}
        if self.proposal_filter is not None:
            arrays |= {f"{_PROPOSAL_FILTER}{name}": array for name, array in self.proposal_filter.to_arrays().items()}
        return arrays

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, Any],
        precision: str = "float32",
        device: str = "cpu",
        regressors_read: RegressorInput = "pooled",
        proposal_filter_levels: Sequence[int] = (),
        runtime: str = "torch",
    ) -> Heads:
        """Build the heads from the arrays of `to_arrays`; ``precision``, ``device``, ``runtime``: see `FullyConnected`.

        Raises KeyError for a missing array, ValueError for one of another type or with infinite values.
        """
        for name, array in arrays.items():
            _check_array(name, array)
        layers = None
        stages = [name for name in _REGRESSORS if f"{name}.weights" in arrays]
        if stages and stages[0] != _REGRESSORS[0]:
            raise ValueError("there are second regressors, but no first ones")
        regressors = [BoxRegressors(arrays[f"{name}.weights"], arrays[f"{name}.biases"]) for name in stages]
        if names := [name for name in LAYERS if f"{name}.weights" in arrays]:
            weights, biases = ([arrays[f"{name}.{kind}"] for name in names] for kind in ("weights", "biases"))
            layers = FullyConnected(weights, biases, precision, device, runtime)
        kind: type[AllClasses] = Softmax if f"{_name(Softmax)}.weights" in arrays else LinearSVMs
        trained = kind(arrays[f"{_name(kind)}.weights"], arrays[f"{_name(kind)}.biases"])
        scorer = SelectedClasses(trained, arrays[_SELECTED]) if _SELECTED in arrays else trained
        calibration = Calibration.from_arrays(_under(_CALIBRATION, arrays))
        proposal_filter = ProposalFilter.from_arrays(_under(_PROPOSAL_FILTER, arrays), proposal_filter_levels)
        return cls(scorer, regressors, layers, regressors_read, calibration, proposal_filter)


def _under(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _check_array(name: str, array: NDArray[Any]) -> None:
    """Raise ValueError for weights, biases or labels, by their name in a file, of a wrong type or shape."""
    if name == _SELECTED and (array.ndim != 1 or array.dtype != np.int64):
        raise ValueError(f"{name} must be int64 with 1 axis, but is {array.dtype} {array.shape}")
    part, _, kind = name.rpartition(".")
    if kind not in ("weights", "biases") or part not in (*LAYERS, _name(Softmax), _name(LinearSVMs), *_REGRESSORS):
        return
    n_axes = (2 if kind == "weights" else 1) + (part in _REGRESSORS)
    if array.ndim != n_axes or array.dtype not in (np.float16, np.float32):
        raise ValueError(f"{name} must be float32 or float16 with {n_axes} axes, but is {array.dtype} {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")


def _name(kind: type[AllClasses]) -> str:
    return "softmax" if kind is Softmax else "svm"
