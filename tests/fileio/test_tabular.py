"""Strict tables: one cell for each column, quotes in CSV only; and where each row begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from nearfield.errors import InputError
from nearfield.fileio.tabular import read_header, read_table


def _write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8", newline="")
    return path


def test_a_quote_in_strict_tsv_is_a_character(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.tsv", 'a\tb\r\n"x\t"y"\r\n\n')
    (row,) = read_table(path, "tsv", strict=True)
    assert (row.number, row.get()) == (2, {"a": '"x', "b": '"y"'})


def test_rows_of_csv_are_numbered_by_the_line_on_which_they_begin(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", 'a,b\n"1\n2",x\n3,y\n')
    assert [row.number for row in read_table(path, "csv", strict=True)] == [2, 4]
    assert [row.number for row in read_table(path, "csv")] == [2, 4]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "a,b\n1\n", r"line 2: 1 columns, where there should be 2 \(a, b\)"),
        ("a.tsv", "a\tb\n1\t2\t3\n", "line 2: 3 columns, where there should be 2"),
        ("a.csv", 'a,b\n"1"2,3\n', "line 2: "),
    ],
)
def test_a_malformed_row_names_its_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = _write(tmp_path / name, content)
    (row,) = read_table(path, path.suffix[1:], strict=True)
    with pytest.raises(InputError, match=message):
        row.get()


def test_a_table_without_a_header_gets_one(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.tsv", "1\t2\n")
    assert [row.get() for row in read_table(path, "tsv", header=["a", "b"], strict=True)] == [{"a": "1", "b": "2"}]


def test_the_header_is_the_first_row_or_the_fields_of_the_first_object(tmp_path: Path) -> None:
    assert read_header(_write(tmp_path / "a.tsv", "\n1\t2\n"), "tsv") == ["1", "2"]
    assert read_header(_write(tmp_path / "a.jsonl", '{"x": 1, "y": 2}\n'), "jsonl") == ["x", "y"]
    assert read_header(_write(tmp_path / "a.csv", ""), "csv") == []
