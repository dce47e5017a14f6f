"""Read Label Studio's labeling configuration and tasks, and write detections as its predictions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

MAX_CONFIG_CHARACTERS = 1_000_000
_MAX_PROJECT_DIGITS = 18


@dataclass(frozen=True)
class RectangleTag:
    """The tag of a labeling configuration that rectangles are drawn with.

    from_name, to_name: names of the tag and of its image. data_key: key of the image in the data of a task.
    labels: label of each class, by the case-folded name of the class; empty for labels that come with each task.
    """

    from_name: str
    to_name: str
    data_key: str
    labels: Mapping[str, str]

    def label_of(self, class_name: str) -> str | None:
        """Return the label of a class; None for a class that the project does not have."""
        return self.labels.get(class_name.casefold()) if self.labels else class_name


def parse_label_config(text: object) -> RectangleTag:
    """Return the first RectangleLabels tag of an image in a labeling configuration (XML).

    Raises ValueError, in one line, for anything else.
    """
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_CONFIG_CHARACTERS:
        raise ValueError("label_config must be the labeling configuration of a project, as XML text")
    try:
        root = fromstring(text, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise ValueError(f"label_config is not XML: {str(error).splitlines()[0]}") from None
    images = {each.get("name"): each for each in root.iter("Image")}
    for tag in root.iter("RectangleLabels"):
        to_name = (tag.get("toName") or "").split(",")[0].strip()
        key = re.fullmatch(r"\$(.+)", (images[to_name].get("value") or "").strip()) if to_name in images else None
        if key is not None and tag.get("name"):
            return RectangleTag(str(tag.get("name")), to_name, key[1], _labels_of(tag))
    raise ValueError(
        'label_config has no RectangleLabels of an Image: add <Image name="image" value="$image"/> and '
        '<RectangleLabels name="label" toName="image">'
    )


def _labels_of(tag: Element) -> dict[str, str]:
    """Return the labels by class name: their own, and those of Label Studio's attribute predicted_values."""
    values = {each: value for each in tag.iter("Label") if (value := (each.get("value") or "").strip())}
    predicted = {
        name.strip().casefold(): value
        for each, value in values.items()
        for name in (each.get("predicted_values") or "").split(",")
        if name.strip()
    }
    return {value.casefold(): value for value in values.values()} | predicted


def project_of(value: object) -> str:
    """Return the id of a project, digits, from "3", 3, "3.1764510000" or ``{"id": 3}``; ValueError for others."""
    if isinstance(value, Mapping):
        value = value.get("id")
    found = re.fullmatch(rf"(\d{{1,{_MAX_PROJECT_DIGITS}}})(\.\d+)?", str(value), re.ASCII)
    if isinstance(value, bool) or found is None:
        raise ValueError("project must be the id of a project, such as 3 or '3.1764510000'")
    return found[1]


def image_of_task(task: object, tag: RectangleTag) -> str:
    """Return the address of the image of a task. Raises ValueError for a task without it."""
    data = task.get("data") if isinstance(task, Mapping) else None
    address = data.get(tag.data_key) if isinstance(data, Mapping) else None
    if not isinstance(address, str) or not address.strip():
        raise ValueError(f"the task has no text {tag.data_key!r} in its data")
    return address.strip()


def prediction_of(answer: Mapping[str, Any], tag: RectangleTag, model_version: str) -> dict[str, Any]:
    """Return the prediction of a task from the answer of `Session.detect`.

    Boxes are in per cent of the upright image. The score of a rectangle is its probability; that of the task is their
    mean, 0 without any, so that sorting by it shows the least certain images first. Scores of a model without
    calibration are no probabilities, and are left out.
    """
    results = [
        _rectangle(each, label, answer["width"], answer["height"], tag)
        for each in answer["detections"]
        if (label := tag.label_of(each["label"])) is not None
    ]
    scores = [each["score"] for each in results if "score" in each]
    return {
        "result": results,
        "score": round(sum(scores) / len(scores), 4) if scores else 0.0,
        "model_version": model_version,
    }


def _rectangle(detection: Mapping[str, Any], label: str, width: int, height: int, tag: RectangleTag) -> dict[str, Any]:
    x1, y1, x2, y2 = _percent(detection["box"], width, height)
    rectangle = {
        "id": uuid4().hex[:10],
        "from_name": tag.from_name,
        "to_name": tag.to_name,
        "type": "rectanglelabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1, "rotation": 0, "rectanglelabels": [label]},
    }
    if "probability" in detection:
        rectangle["score"] = detection["probability"]
    return rectangle


def _percent(box: Sequence[float], width: int, height: int) -> list[float]:
    sides = (width, height, width, height)
    return [min(max(100 * corner / side, 0.0), 100.0) for corner, side in zip(box, sides, strict=True)]
