"""Read text files of labeling tools in the encodings that their programs write."""

import codecs
import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_TEXT = 1 << 26
"""Maximum number of bytes of a text file that is read whole: lists, labels, XML."""

_START = 4096  # bytes that show an encoding
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = re.compile(rb"""^<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["']""")
_SUPERSETS = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "iso8859-1": "cp1252", "latin-1": "cp1252"}
_DELIMITERS = ",;\t"


def read_text(path: Path, max_bytes: int | None = MAX_TEXT) -> str:
    """Return the text of a file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises OSError, and ValueError, with one line that starts with the path, for another encoding and a file of more
    than ``max_bytes`` bytes.
    """
    return _decode(_read_bytes(path, max_bytes), path)


def read_xml_text(path: Path) -> str:
    """Return the text of an XML file in the encoding of its byte order mark, else in the one that it declares.

    Python knows more encodings than the parser, such as GBK and Shift-JIS. Raises the errors of `read_text`.
    """
    data = _read_bytes(path, MAX_TEXT)
    declared = _DECLARED.match(data.lstrip())
    return _decode(data, path, declared.group(1).decode("ascii") if declared else None)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file of any size. Raises the errors of `read_text`, and ValueError if it is none."""
    text = read_text(path, None)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable JSON file ({error})") from error


def read_csv(path: Path) -> Iterator[list[str]]:
    """Yield the rows of a CSV file, separated by commas, semicolons or tabs as its first line is.

    The file is read line by line. Raises the errors of `read_text`, and ValueError for a file that is not CSV.
    """
    with path.open("rb") as file:
        encoding = _encoding(file.read(_START)) or "utf-8"
    with path.open(encoding=encoding, newline="") as text:
        try:
            first = text.readline(_START)
            text.seek(0)
            yield from csv.reader(text, delimiter=max(_DELIMITERS, key=first.count))
        except UnicodeDecodeError as error:
            raise ValueError(_not_unicode(path)) from error
        except csv.Error as error:
            raise ValueError(f"{path}: not a readable CSV file ({error})") from error


def _read_bytes(path: Path, max_bytes: int | None) -> bytes:
    with path.open("rb") as file:
        data = file.read() if max_bytes is None else file.read(max_bytes + 1)
    if max_bytes is not None and len(data) > max_bytes:
        raise ValueError(f"{path}: is larger than {max_bytes} bytes")
    return data


def _decode(data: bytes, path: Path, declared: str | None = None) -> str:
    marked = _encoding(data[:_START])
    # programs declare UTF-16 in files that were later saved as UTF-8: the bytes decide
    wide = declared is not None and declared.lower().startswith(("utf-16", "utf-32", "ucs-"))
    encoding = marked or (None if wide else declared) or "utf-8"
    try:
        encoding = codecs.lookup(encoding).name
        return data.decode(_SUPERSETS.get(encoding, encoding))
    except UnicodeDecodeError as error:
        if declared and not marked and not wide:
            raise ValueError(f"{path}: is not in the encoding {declared} that it declares; save it as UTF-8") from error
        raise ValueError(_not_unicode(path)) from error
    except LookupError as error:
        raise ValueError(f"{path}: has the unknown encoding {declared}; save it as UTF-8") from error


def _encoding(start: bytes) -> str | None:
    """Return the Unicode encoding that the start of a file shows; None for UTF-8 without a mark, and all others."""
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    # without a mark, every other byte of mostly Latin text in UTF-16 is zero
    if len(start) >= 4 and b"\0" in start:
        if start[1:64:2].strip(b"\0") == b"":
            return "utf-16-le"
        if start[:64:2].strip(b"\0") == b"":
            return "utf-16-be"
    return None


def _not_unicode(path: Path) -> str:
    return f"{path}: is not text in UTF-8 or UTF-16; save it as UTF-8"
