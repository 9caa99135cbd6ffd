"""Reading a table from one of its rows on: the rest is the same as in a reading from the start, errors included."""

from __future__ import annotations

from pathlib import Path

import pyarrow as arrow
import pytest
from pyarrow import parquet

from nearfield.errors import InputError
from nearfield.fileio.tabular import TableRow, read_table

LINES = b"\xef\xbb\xbfone\r\n\ntwo \xc3\xa9\nth\xffree\nfour"
JSON = b'\xef\xbb\xbf\n{"a": "\xc3\xa9"}\r\n"text"\n\n{"a": 1, "a": 2}\nbad\n{"a": "\\u2028"}'
CSV = (
    b"\xef\xbb\xbf\n \na,b,b\n1,2\n"
    b'"two\nlines \xc3\xa9",x\n\n"open,1\n3,4,5,6\n'
    b'5,"\xff"\r\n6,"quoted ""twice""\r\nand more"\n7,8'
)
# More rows with an open quote than after which rows may span lines.
TSV = b"a\tb\n" + b"".join(b'"%d\topen\n' % number for number in range(25)) + b'x\t"y\nz"\nlast\trow\n'


def _comparable(row: TableRow) -> tuple[object, ...]:
    value = str(row.value) if isinstance(row.value, InputError) else row.value
    return row.where, value, row.number, row.repeated, row.start


@pytest.mark.parametrize(
    ("form", "data", "count"), [("txt", LINES, 5), ("jsonl", JSON, 5), ("csv", CSV, 7), ("tsv", TSV, 28)]
)
def test_each_row_of_a_file_of_lines_can_be_the_first(form: str, data: bytes, count: int, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{form}"
    path.write_bytes(data)
    _check_all_starts(path, form, count)


@pytest.mark.parametrize("row_group_size", [1, 100, 300, 1000])
def test_each_row_of_parquet_can_be_the_first(row_group_size: int, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(arrow.table({"a": list(range(700)), "b": ["x"] * 700}), path, row_group_size=row_group_size)
    rows = list(read_table(path, "parquet", ["a"]))
    for first in (0, 1, 99, 100, 256, 299, 300, 511, 699):
        rest = list(read_table(path, "parquet", ["a"], start=rows[first].start))
        assert list(map(_comparable, rest)) == list(map(_comparable, rows[first:]))


def _check_all_starts(path: Path, form: str, count: int) -> None:
    rows = list(read_table(path, form))
    assert len(rows) == count
    for first, row in enumerate(rows):
        rest = list(read_table(path, form, start=row.start))
        assert list(map(_comparable, rest)) == list(map(_comparable, rows[first:]))


def test_row_groups_before_the_first_row_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(arrow.table({"a": ["x" * 50 + str(at) for at in range(1000)]}), path, row_group_size=250)
    rows = list(read_table(path, "parquet"))
    metadata = parquet.ParquetFile(path).metadata
    start = metadata.row_group(0).column(0).data_page_offset
    damaged = bytearray(path.read_bytes())
    damaged[start : start + 200] = bytes(200)
    path.write_bytes(damaged)
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        list(read_table(path, "parquet"))
    assert [row.value for row in read_table(path, "parquet", start=rows[400].start)] == [
        row.value for row in rows[400:]
    ]
