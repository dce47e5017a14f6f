"""Images in the bodies of requests: as they are, in a form, or as base64 in JSON."""

from __future__ import annotations

import base64
import binascii
import json
import re
from email.message import Message

from detector.images.decoding import START_LENGTH, image_format

_ADVICE = "send the bytes of one image file, as curl --data-binary @image.jpg or -F image=@image.jpg do"
_OPTIONS = "options go into the URL, as in /detect?min_probability=0.5"


def image_of(body: bytes, content_type: str) -> bytes:
    """Return the image file in a body; a body of another kind as it is, which its decoder will refuse.

    An image file is taken as it is, whatever its Content-Type. Forms (multipart/form-data) hold one file, JSON a key
    "image" with base64, or a data URL. Raises ValueError, in one line, for other forms and JSON.
    """
    if image_format(body[:START_LENGTH]) is not None:
        return body
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_boundary()
    if header.get_content_type() == "multipart/form-data" and boundary:
        return _file_of_form(body, b"--" + boundary.encode("utf-8", "surrogateescape"))
    # curl --data sends JSON by the type of a form
    if header.get_content_type() == "application/json" or body.lstrip()[:1] == b"{":
        return _image_of_json(body)
    return body


def _file_of_form(body: bytes, delimiter: bytes) -> bytes:
    files = []
    for part in (b"\r\n" + body).split(b"\r\n" + delimiter)[1:-1]:
        headers, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        if re.search(rb"^content-disposition:.*;\s*filename", headers, re.IGNORECASE | re.MULTILINE):
            files.append(content)
        else:
            raise ValueError(f"the form has a field that is no file: {_OPTIONS}")
    if len(files) != 1:
        raise ValueError(f"the form must hold one file, but holds {len(files)}: {_ADVICE}")
    return files[0]


def _image_of_json(body: bytes) -> bytes:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError(f"the body is not JSON: {_ADVICE}") from None
    if not isinstance(found, dict) or not isinstance(found.get("image"), str):
        raise ValueError(f'JSON must be {{"image": "the file in base64"}}; or {_ADVICE}')
    if len(found) > 1:
        raise ValueError(f"JSON must have no key but image: {_OPTIONS}")
    try:
        text = re.sub(r"^data:[^,]*;base64,", "", found["image"])
        return base64.b64decode(re.sub(r"\s", "", text), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"image is not base64: {_ADVICE}") from None
