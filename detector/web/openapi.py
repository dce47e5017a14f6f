"""Describe the JSON API of the page, and of Label Studio's protocol, by the OpenAPI specification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detector import __version__

MAX_PROPOSALS = 10_000
MAX_DETECTIONS = 1_000
MAX_TILES, MIN_TILE_SIDE = 64, 256
"""Limits of the tiles that a request asks for: their time is that of the server."""

Schema = dict[str, Any]

_NUMBER: Schema = {"type": "number"}
_TEXT: Schema = {"type": "string"}
_BOX: Schema = {"type": "array", "items": _NUMBER, "minItems": 4, "maxItems": 4, "description": "x1, y1, x2, y2"}
_LIMITS = {
    "min_score": ("minimum score of all classes", _NUMBER),
    "min_probability": ("minimum probability, of a calibrated model", {**_NUMBER, "minimum": 0, "maximum": 1}),
    "precision": ("the model's thresholds for this precision", {**_NUMBER, "minimum": 0.01, "maximum": 0.99}),
}
_TILES = {"tiles": (f"also search tiles: auto, 1 to {MAX_TILES}, or WxH with sides from {MIN_TILE_SIDE}", _TEXT)}
_DETECT = {
    "name": ("name of the image in the answer", _TEXT),
    "max_detections": ("maximum detections", {"type": "integer", "minimum": 1, "maximum": MAX_DETECTIONS}),
    "proposals": ("number of proposals to return", {"type": "integer", "minimum": 0, "maximum": MAX_PROPOSALS}),
    **_TILES,
    **_LIMITS,
}
_EXPLAIN = {"box": ("x1,y1,x2,y2 in pixels", _TEXT), "class": ("name of a class", _TEXT), **_TILES, **_LIMITS}
_REQUIRED = {"box", "class"}
_IMAGE: Schema = {"type": "string", "contentMediaType": "application/octet-stream"}
_BODY = {
    "required": True,
    "content": {
        "application/octet-stream": {"schema": _IMAGE},
        "multipart/form-data": {
            "schema": {"type": "object", "properties": {"image": _IMAGE}, "required": ["image"]},
        },
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {"image": {"type": "string", "contentEncoding": "base64"}},
                "required": ["image"],
                "additionalProperties": False,
            },
        },
    },
}
_DETECTION: Schema = {
    "type": "object",
    "properties": {"label": _TEXT, "score": _NUMBER, "probability": _NUMBER, "box": _BOX},
    "required": ["label", "score", "box"],
}
_FOUND: Schema = {
    "type": "object",
    "properties": {
        "image": _TEXT,
        "width": {"type": "integer"},
        "height": {"type": "integer"},
        "detections": {"type": "array", "items": _DETECTION},
        "thresholds": {"type": "array", "items": {"type": ["number", "null"]}},
        "class_names": {"type": "array", "items": _TEXT},
        "n_proposals": {"type": "integer"},
        "times": {"type": "object", "additionalProperties": _NUMBER},
        "proposals": {"type": "array", "items": _BOX},
    },
    "required": ["image", "width", "height", "detections", "thresholds", "class_names", "n_proposals", "times"],
}
_OBJECT: Schema = {"type": "object"}
_REFUSALS = {
    "400": "not an image, or an invalid option",
    "403": "a page of another site",
    "408": "the body did not arrive in time",
    "413": "the body has more than 20 MB",
    "503": "too many requests wait, or the detector starts again",
}


def describe_api(label_studio: bool = False) -> Schema:
    """Return the OpenAPI 3.1 document of the page's API; ``label_studio``: with the protocol of its ML backends."""
    paths = {
        "/health": {"get": _operation("Return the state and classes of the model", _json(_OBJECT))},
        "/detect": {"post": _operation("Detect the objects of an image", _json(_FOUND), _DETECT, _BODY)},
        "/explain": {"post": _operation("Attribute the score of a box in a class", _json(_OBJECT), _EXPLAIN, _BODY)},
        "/search": {"post": _operation("Return the merges of selective search", _json(_OBJECT), body=_BODY)},
        "/render": {
            "post": _operation("Convert an image for browsers", {"image/png": {"schema": _IMAGE}}, body=_BODY),
        },
        "/openapi.json": {"get": _operation("Return this document", _json(_OBJECT))},
    }
    if label_studio:
        paths |= {
            "/setup": _label_studio("Connect a project", ["project", "schema"]),
            "/predict": _label_studio(
                "Predict for tasks of a project", ["project", "label_config", "tasks"], {"502": "no image of a task"}
            ),
            "/train": _label_studio("Train on a project", ["project", "label_config"], status="201"),
            "/webhook": _label_studio("Train after an event of a project", ["action"], status="201"),
        }
    info = {"title": "spp-detector", "version": __version__, "license": {"name": "MIT", "identifier": "MIT"}}
    return {"openapi": "3.1.0", "info": info, "servers": [{"url": "."}], "paths": paths}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _operation(
    summary: str,
    content: Schema,
    options: Mapping[str, tuple[str, Schema]] | None = None,
    body: Schema | None = None,
    status: str = "200",
    refusals: Mapping[str, str] | None = None,
) -> Schema:
    errors = {**_REFUSALS, **(refusals or {})} if body else {"403": _REFUSALS["403"]}
    line = {"text/plain": {"schema": _TEXT}}
    operation: Schema = {
        "summary": summary,
        "responses": {
            status: {"description": "the answer", "content": content},
            **{code: {"description": reason, "content": line} for code, reason in sorted(errors.items())},
        },
    }
    if options:
        operation["parameters"] = [
            {"name": name, "in": "query", "required": name in _REQUIRED, "description": text, "schema": schema}
            for name, (text, schema) in options.items()
        ]
    if body:
        operation["requestBody"] = body
    return operation


def _label_studio(
    summary: str, required: Sequence[str], refusals: Mapping[str, str] | None = None, status: str = "200"
) -> Schema:
    body = {"required": True, "content": _json({"type": "object", "required": list(required)})}
    return {"post": _operation(summary, _json(_OBJECT), body=body, status=status, refusals=refusals)}
