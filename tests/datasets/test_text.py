"""Text in the encodings of Windows programs and Asian tools is read, or named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.datasets.text import read_csv, read_json, read_text, read_xml_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_with_and_without_a_mark(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes("nut\r\nSchraube für Ø 5\n".encode(encoding))
    assert read_text(path) == "nut\r\nSchraube für Ø 5\n"
    path.write_bytes('["nüt"]'.encode(encoding))
    assert read_json(path) == ["nüt"]
    path.write_bytes('"nüt",1\n'.encode(encoding))
    assert [*read_csv(path)] == [["nüt", "1"]]


@pytest.mark.parametrize(
    ("encoding", "declared", "name"),
    [
        ("gbk", "gb2312", "猫"),
        ("gbk", "GBK", "猫"),
        ("big5", "Big5", "貓"),
        ("shift_jis", "Shift_JIS", "ネコ"),
        ("euc-kr", "euc-kr", "고양이"),
        ("latin-1", "ISO-8859-1", "Kätzchen"),
        ("cp1251", "windows-1251", "кошка"),
        ("utf-16", "UTF-16", "猫"),
        ("utf-8", "utf-16", "猫"),  # of programs that declare how they hold texts, not how they write them
        ("utf-8-sig", "utf-8", "猫"),
    ],
)
def test_declared_encodings_of_xml(encoding: str, declared: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    text = f'<?xml version="1.0" encoding="{declared}"?><a>{name}</a>'
    path.write_bytes(text.encode(encoding))
    assert read_xml_text(path) == text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("螺母和螺栓".encode("gbk"), "is not text in UTF-8 or UTF-16; save it as UTF-8"),
        (b'<?xml version="1.0" encoding="utf-8"?><a>\xe9</a>', "is not in the encoding utf-8 that it declares"),
        (b'<?xml version="1.0" encoding="zip"?><a/>', "has the unknown encoding zip"),
        (b'<?xml version="1.0" encoding="nothing"?><a/>', "has the unknown encoding nothing"),
        (b"\xff\xfea", "is not text in UTF-8 or UTF-16"),
    ],
)
def test_other_encodings_are_named(data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.xml: ") as error:
        read_xml_text(path)
    assert reason in str(error.value)
    assert str(error.value).startswith(f"{path}: ")


def test_long_texts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("12345")
    assert read_text(path, 5) == "12345"
    with pytest.raises(ValueError, match=r"a\.txt: is larger than 4 bytes"):
        read_text(path, 4)


@pytest.mark.parametrize(("delimiter", "rows"), [(",", [["a", "b;c"], ["1", "2"]]), (";", [["a", "b,c"], ["1", "2"]])])
def test_the_first_line_shows_the_delimiter(delimiter: str, rows: list[list[str]], tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join(delimiter.join(row) for row in [["x", "y", "z"], *rows]))
    assert [*read_csv(path)] == [["x", "y", "z"], *rows]


@pytest.mark.parametrize("data", [b"a,b\n" + b"x" * 200_000 + b"\n", b"a,b\n\xe9,1\n"])
def test_damaged_tables_are_named(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.csv: "):
        list(read_csv(path))


@given(st.binary(max_size=80))
def test_any_bytes_are_text_or_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.xml"
    path.write_bytes(data)
    for read in (read_text, read_xml_text, read_json, lambda path: list(read_csv(path))):
        try:
            read(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")


def test_a_letter_may_lie_across_the_end_of_the_block_that_shows_the_encoding(tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    for length in range(4090, 4100):
        text = "name;number\n" + "a" * (length - 12) + "é猫;1\n"
        for encoding in ("utf-8", "utf-16-le", "utf-16"):
            path.write_bytes(text.encode(encoding))
            assert read_text(path) == text
            assert [*read_csv(path)] == [["name", "number"], [f"{'a' * (length - 12)}é猫", "1"]]
