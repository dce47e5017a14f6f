"""Detections of one image: checked arrays, to filter, draw and convert for other libraries."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detector.boxes import Boxes, area, as_boxes
from detector.runtime.optional import optional

if TYPE_CHECKING:
    from PIL.Image import Image

    from detector.images.files import ImageLike

Floats = NDArray[np.float32]

FIRM = 0.5
"""Probability from which a box is drawn by a solid line."""
_MAX_SHOWN = 5
"""Detections in a `repr`."""


class Detection(NamedTuple):
    """One detection; box: ``x1 y1 x2 y2``. probability: None for a model without calibration."""

    class_name: str
    score: float
    box: tuple[float, ...]
    probability: float | None

    def __repr__(self) -> str:
        """Return such as "Detection(class_name='dog', probability=0.882, score=2.01, box=(48.2, 30.1, 401.9, 372))"."""
        chance = "" if self.probability is None else f"probability={self.probability:.3g}, "
        corners = ", ".join(f"{corner:g}" for corner in np.round(self.box, 1).tolist())
        return f"Detection(class_name={self.class_name!r}, {chance}score={self.score:.3g}, box=({corners}))"

    def __str__(self) -> str:
        """Return such as "dog 88 % at 48 30 402 372"."""
        return f"{self.class_name} {self.confidence} at {' '.join(f'{corner:.0f}' for corner in self.box)}"

    @property
    def confidence(self) -> str:
        """Probability as "88 %" or, of a model without calibration, score as "0.83"."""
        return f"{self.score:.2f}" if self.probability is None else percent(self.probability)


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections of one image, best first: rows are sorted by score; ties keep their order.

    boxes: ``(N, 4)`` float32 ``x1 y1 x2 y2``, pixels of the image, 0-based, half-open.
    labels: ``(N,)`` int64, indices into class_names.
    scores: ``(N,)`` float32 margins, unbounded and not probabilities.
    class_names: names of the labels 0..K-1.
    probabilities: ``(N,)`` float32 in 0..1; None for a model without calibration.
    image_size: height and width of the image, where they are known.
    Raises ValueError for arrays that do not fit together, labels out of range, and values that are not finite.
    """

    boxes: Boxes
    labels: NDArray[np.int64]
    scores: Floats
    class_names: tuple[str, ...]
    probabilities: Floats | None = None
    image_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        boxes = as_boxes(self.boxes)
        with np.errstate(over="ignore"):  # numbers that are too large become infinite
            labels, scores = np.asarray(self.labels), np.asarray(self.scores, np.float32)
        columns: dict[str, NDArray[Any]] = {"labels": labels, "scores": scores}
        if self.probabilities is not None:
            columns["probabilities"] = np.asarray(self.probabilities, np.float32)
        for name, array in columns.items():
            if array.shape != (len(boxes),):
                raise ValueError(f"{name} must have shape ({len(boxes)},), but got {array.shape}")
        if labels.size and not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"labels must be integers, but got {labels.dtype}")
        wrong = (labels < 0) | (labels >= len(self.class_names))
        if wrong.any():
            raise ValueError(f"labels must be in 0..{len(self.class_names) - 1}, but got {labels[wrong][0]}")
        if not np.isfinite(scores).all():
            given = np.asarray(self.scores)[~np.isfinite(scores)][0]
            rule = "fit into float32" if np.isfinite(given) else "be finite"
            raise ValueError(f"scores must {rule}, but got {given}")
        order = np.argsort(-scores, kind="stable")
        object.__setattr__(self, "boxes", boxes[order])
        object.__setattr__(self, "labels", labels.astype(np.int64)[order])
        object.__setattr__(self, "scores", scores[order])
        object.__setattr__(self, "class_names", tuple(self.class_names))
        if (probabilities := columns.get("probabilities")) is not None:
            outside = ~((probabilities >= 0) & (probabilities <= 1))  # NaN is outside, too
            if outside.any():
                raise ValueError(f"probabilities must be in 0..1, but got {probabilities[outside][0]}")
            object.__setattr__(self, "probabilities", probabilities[order])

    @classmethod
    def empty(cls, class_names: Sequence[str]) -> Detections:
        """Return no detections."""
        no_scores = np.zeros(0, np.float32)
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), no_scores, tuple(class_names))

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[Detection]:
        for row in range(len(self)):
            probability = None if self.probabilities is None else float(self.probabilities[row])
            name, score = self.class_names[self.labels[row]], float(self.scores[row])
            yield Detection(name, score, tuple(self.boxes[row].tolist()), probability)

    def __repr__(self) -> str:
        """Return such as "Detections(2: cat 99 % at 6 6 421 296; dog 40 % at 48 30 402 372)"."""
        shown = [str(each) for each in self[:_MAX_SHOWN]]
        more = [f"{len(self) - _MAX_SHOWN} more"] if len(self) > _MAX_SHOWN else []
        return f"Detections({len(self)}{': ' if shown else ''}{'; '.join(shown + more)})"

    @overload
    def __getitem__(self, rows: int | np.integer[Any]) -> Detection: ...

    @overload
    def __getitem__(self, rows: slice | Sequence[int] | Sequence[bool] | NDArray[Any]) -> Detections: ...

    def __getitem__(
        self, rows: int | np.integer[Any] | slice | Sequence[int] | Sequence[bool] | NDArray[Any]
    ) -> Detection | Detections:
        """Return one `Detection`, or the detections of a slice, of indices or of a mask ``(N,)``.

        Raises IndexError for an index out of range.
        """
        if isinstance(rows, int | np.integer):
            return list(self)[rows]
        rows = rows if isinstance(rows, slice) else np.asarray(rows)
        probabilities = None if self.probabilities is None else self.probabilities[rows]
        return replace(
            self,
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            scores=self.scores[rows],
            probabilities=probabilities,
        )

    @property
    def xyxy(self) -> Boxes:
        """``boxes``, by their name in supervision's ``sv.Detections``."""
        return _read_only(self.boxes)

    @property
    def class_id(self) -> NDArray[np.int64]:
        """``labels``, by their name in ``sv.Detections``."""
        return _read_only(self.labels)

    @property
    def confidence(self) -> Floats:
        """``probabilities``, by their name in ``sv.Detections``; ``scores`` for a model without calibration."""
        return _read_only(self.scores if self.probabilities is None else self.probabilities)

    def above(self, min_score: float) -> Detections:
        """Keep detections with a score of at least ``min_score``."""
        return self.top(int((self.scores >= min_score).sum()))

    def reaching(self, thresholds: ArrayLike) -> Detections:
        """Keep detections with a score of at least the threshold ``(K,)`` of their class."""
        return self[self.scores >= np.asarray(thresholds, np.float32)[self.labels]]

    def top(self, n: int) -> Detections:
        """Keep the n best, or all where there are fewer. Raises ValueError for a negative n."""
        if n < 0:
            raise ValueError(f"n must not be negative, but got {n}")
        return self[:n]

    def inside(self) -> Detections:
        """Keep detections with an area: boxes refined out of the image and clipped to it have none."""
        return self[area(self.boxes) > 0]

    def where(
        self,
        classes: Collection[str] | None = None,
        min_score: float | None = None,
        min_probability: float | None = None,
        min_area: float | None = None,
        max_area: float | None = None,
    ) -> Detections:
        """Keep detections that meet all conditions given; limits are inclusive, areas are in square pixels.

        Raises ValueError for an unknown class, and for min_probability without probabilities.
        """
        kept, areas = np.ones(len(self), np.bool_), area(self.boxes)
        if classes is not None:
            kept &= np.isin(self.labels, labels_of(classes, self.class_names))
        if min_probability is not None and self.probabilities is None:
            raise ValueError("there are no probabilities: the model has no calibration")
        pairs = (self.scores, min_score), (self.probabilities, min_probability), (areas, min_area)
        for values, limit in pairs:
            if values is not None and limit is not None:
                kept &= values >= np.float32(limit)
        if max_area is not None:
            kept &= areas <= max_area
        return self[kept]

    def draw(self, image: ImageLike, scores: bool = False) -> Image:
        """Draw boxes, names and probabilities ("dog 88 %") on a copy of the image; return a PIL image.

        Without probabilities, scores take their place ("dog 0.83"). Boxes with a probability below `FIRM` are dashed.
        image: as `Detector.detect` takes it. scores: write the scores, too ("dog 88 % (2.13)").
        Raises the errors of `as_image`, and ValueError for an image of another size than that of the detections.
        """
        from PIL import Image

        from detector.images.drawing import draw_boxes
        from detector.images.files import as_image

        pixels = as_image(image)
        if self.image_size not in (None, pixels.shape[:2]):
            (height, width), (own_height, own_width) = pixels.shape[:2], self.image_size or (0, 0)
            raise ValueError(
                f"the detections are of an image of {own_width} x {own_height}, but this one has {width} x {height}: "
                "give it as it was given to detect (a path or PIL image is turned by its EXIF orientation)"
            )
        captions = [f"{each.class_name} {each.confidence}" for each in self]
        if scores and self.probabilities is not None:
            captions = [f"{caption} ({each.score:.2f})" for caption, each in zip(captions, self, strict=True)]
        dashed = None if self.probabilities is None else self.probabilities < FIRM
        return Image.fromarray(draw_boxes(pixels, self.boxes, self.labels, captions, self.confidence, dashed))

    def to_records(self) -> list[dict[str, str | float | list[float]]]:
        """Return one ``{"label": name, "score": float, "box": [x1, y1, x2, y2]}`` per detection, ready for JSON.

        With probabilities, ``"probability"`` follows the score.
        """
        records = []
        for row, (box, label) in enumerate(zip(self.boxes, self.labels, strict=True)):
            values = {"score": plain(self.scores[row])}
            if self.probabilities is not None:
                values["probability"] = plain(self.probabilities[row])
            records.append({"label": self.class_names[label], **values, "box": list(map(plain, box))})
        return records

    def to_coco(self, image_id: int | str, category_ids: Mapping[str, int] | None = None) -> list[dict[str, Any]]:
        """Return rows of a COCO result file, ``bbox`` as ``[x, y, width, height]``.

        category_ids: by class name; by default 1 for the first class, and so on.
        """
        ids = category_ids or {name: label for label, name in enumerate(self.class_names, 1)}
        rows = []
        for label, score, (x1, y1, x2, y2) in zip(self.labels, self.scores, self.boxes.astype(float), strict=True):
            box = [float(x1), float(y1), float(x2 - x1), float(y2 - y1)]
            category = ids[self.class_names[label]]
            rows.append({"image_id": image_id, "category_id": category, "bbox": box, "score": plain(score)})
        return rows

    def to_pandas(self) -> Any:
        """Return a ``pandas.DataFrame``: class_name, probability (NaN without calibration), score, x1, y1, x2, y2."""
        probabilities = np.full(len(self), np.nan, np.float32) if self.probabilities is None else self.probabilities
        columns = {"class_name": self._names(), "probability": probabilities, "score": self.scores}
        columns |= {name: self.boxes[:, corner] for corner, name in enumerate(("x1", "y1", "x2", "y2"))}
        return optional("pandas").DataFrame(columns)

    def to_supervision(self) -> Any:
        """Return a ``supervision.Detections`` with class names and scores in its data."""
        kind = optional("supervision").Detections
        data = {"class_name": np.array(self._names(), str), "score": self.scores.copy()}
        return kind(
            xyxy=self.boxes.copy(), confidence=self.confidence.copy(), class_id=self.labels.astype(int), data=data
        )

    def _names(self) -> list[str]:
        return [self.class_names[label] for label in self.labels]

    def _repr_html_(self) -> str:
        """Return an HTML table, for notebooks."""
        head = "".join(f"<th>{name}</th>" for name in ("class", "probability", "score", "x1", "y1", "x2", "y2"))
        rows = []
        for each in self:
            chance = "" if each.probability is None else percent(each.probability)
            cells = (escape(each.class_name), chance, f"{each.score:.3f}", *(f"{corner:.1f}" for corner in each.box))
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def labels_of(classes: Collection[str], class_names: Sequence[str]) -> list[int]:
    """Return the labels of one or more names of classes. Raises ValueError for an unknown one."""
    names = {classes} if isinstance(classes, str) else set(classes)
    if unknown := names - set(class_names):
        raise ValueError(f"there is no class {min(unknown, key=str)!r}; there are {', '.join(class_names)}")
    return [label for label, name in enumerate(class_names) if name in names]


def percent(probability: float) -> str:
    """Return a probability in percent, such as "88 %"; only what is certain is "0 %" or "100 %"."""
    if 0 < probability < 0.01:
        return "<1 %"
    return ">99 %" if 0.99 < probability < 1 else f"{100 * probability:.0f} %"


def plain(value: np.float32) -> float:
    """Return the shortest decimal that is read as the same float32: 0.83 instead of 0.8299999833106995."""
    return float(str(value))


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view
