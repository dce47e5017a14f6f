"""Records of images as a Parquet file, by pyarrow, the extra ``parquet``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.runtime.files import replacing
from detector.runtime.optional import optional


def write_table(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """A row for each record: image, width, height, error, and a list of detections; what a record lacks is null.

    A detection is ``{label, score, probability, box}``. Names of files that are no UTF-8 are escaped. Raises
    MissingPackageError without pyarrow.
    """
    arrow, parquet = optional("pyarrow", "parquet"), optional("pyarrow.parquet", "parquet")
    real, text = arrow.float32(), arrow.string()
    detection = arrow.struct([("label", text), ("score", real), ("probability", real), ("box", arrow.list_(real, 4))])
    columns = [("image", text), ("width", arrow.int32()), ("height", arrow.int32()), ("error", text)]
    schema = arrow.schema([*columns, ("detections", arrow.list_(detection))])
    rows = [{**record, "image": _utf8(record["image"])} for record in records]
    rows = [{**row, "error": _utf8(row["error"])} if "error" in row else row for row in rows]
    with replacing(path) as temporary:
        parquet.write_table(arrow.Table.from_pylist(rows, schema), temporary, compression="zstd")


def check_parquet() -> None:
    """Raise MissingPackageError where such files cannot be written."""
    optional("pyarrow.parquet", "parquet")


def _utf8(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
