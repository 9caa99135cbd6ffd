"""Parquet: what is exported comes back to the last bit, from any store into any other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from nearfield.errors import InputError, SpaceMismatch
from nearfield.stores import Record, Store, TableSpec, connect, parquet
from nearfield.stores.filters import equals
from nearfield.stores.memory import MemoryStore
from tests.stores.test_stores import FIELDS, FORMS, TABLE, assert_same, fill, sample, stored_records
from tests.support.databases import DATABASES


@pytest.fixture
def memory() -> MemoryStore:
    """A store without anything in it."""
    return MemoryStore.connect("memory:")


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.kind}-{form.dtype}-{form.metric}")
def test_all_kinds_come_back(memory: MemoryStore, tmp_path: Path, form: TableSpec) -> None:
    records = fill(memory, form, sample(form, 50))
    path = tmp_path / "export.parquet"
    assert parquet.write_table(memory, form, path, fingerprint="f1", about={"model": "m", "n": [1, None]}) == 50
    assert [record.name for record in tmp_path.iterdir()] == ["export.parquet"]
    head = parquet.read_header(path)
    assert head == parquet.ParquetHeader(form, 50, "f1", {"model": "m", "n": [1, None]})
    other = MemoryStore.connect("memory:")
    assert parquet.read_table(path, other, fingerprint="f1") == 50
    assert parquet.read_table(path, other) == 50  # a second time changes nothing
    assert_same(stored_records(other, form, vectors=True), records, vectors=True)


@pytest.mark.service
def test_from_store_to_store(memory: MemoryStore, tmp_path: Path) -> None:
    """Through LanceDB, by a file, into another table of other name, metric and index."""
    with DATABASES["lancedb"](tmp_path) as address:
        lance = connect(address)
        records = fill(lance, TABLE, sample(TABLE, 80))
        parquet.write_table(lance, TABLE, tmp_path / "a.parquet", where=equals("version", "v1"))
        remaining = [record for record in records if record.version == "v1"]
        target = replace(TABLE, name="other", metric="dot", index="none", fields={**FIELDS, "more": "int"})
        assert parquet.read_table(tmp_path / "a.parquet", memory, target) == len(remaining)
        assert_same(stored_records(memory, target, vectors=True), remaining, vectors=True)
        parquet.write_table(memory, target, tmp_path / "b.parquet")
        parquet.read_table(tmp_path / "b.parquet", lance)
        assert_same(stored_records(lance, target, vectors=True), remaining, vectors=True)
        lance.close()


def test_a_table_without_records(memory: MemoryStore, tmp_path: Path) -> None:
    memory.create(TABLE)
    assert parquet.write_table(memory, TABLE, tmp_path / "none.parquet") == 0
    other = MemoryStore.connect("memory:")
    assert parquet.read_table(tmp_path / "none.parquet", other) == 0 and other.tables() == [TABLE.name]


def test_other_readers_can_read_it(memory: MemoryStore, tmp_path: Path) -> None:
    records = fill(memory, TABLE, sample(TABLE, 10))
    parquet.write_table(memory, TABLE, tmp_path / "x.parquet")
    rows = {row["id"]: row for row in pq.read_table(tmp_path / "x.parquet").to_pylist()}
    assert rows[records[4].id]["text"] == records[4].text and rows[records[4].id]["vector"] == list(records[4].vector)
    assert rows[records[4].id]["field_year"] == records[4].fields.get("year")


class Gone(MemoryStore):
    """A store that goes away in the middle."""

    def scan(self, table: TableSpec, where: Any = None, *, vectors: bool = False) -> Iterator[list[Record]]:
        """Yield a part, and fail."""
        yield from super().scan(table, where, vectors=vectors)
        raise RuntimeError("gone")


def test_what_was_there_stays_until_the_file_is_whole(memory: MemoryStore, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    fill(memory, TABLE, sample(TABLE, 10))
    parquet.write_table(memory, TABLE, path)
    before = path.read_bytes()
    gone = Gone()
    fill(gone, TABLE, sample(TABLE, 20))
    with pytest.raises(RuntimeError, match="gone"):
        parquet.write_table(gone, TABLE, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"dimensions": 25}, "dimensions 24.*takes 25"),
        ({"dtype": "float16"}, "dtype 'float32'.*takes 'float16'"),
        ({"kind": "multivector"}, "kind 'dense'.*takes 'multivector'"),
        ({"fields": {"lang": "str"}}, "the field 'Author'"),
        ({"fields": {**FIELDS, "year": "str"}}, r"the field 'year' \(int\)"),
    ],
)
def test_tables_that_it_does_not_fit(memory: MemoryStore, tmp_path: Path, options: Any, match: str) -> None:
    fill(memory, TABLE, sample(TABLE, 3))
    parquet.write_table(memory, TABLE, tmp_path / "x.parquet")
    other = replace(TABLE, name="other", **options)
    with pytest.raises(InputError, match=match):
        parquet.read_table(tmp_path / "x.parquet", memory, other)
    assert memory.tables() == [TABLE.name]


def test_another_space_is_refused(memory: MemoryStore, tmp_path: Path) -> None:
    fill(memory, TABLE, sample(TABLE, 3))
    parquet.write_table(memory, TABLE, tmp_path / "x.parquet", fingerprint="one")
    with pytest.raises(SpaceMismatch, match="one, not two"):
        parquet.read_table(tmp_path / "x.parquet", memory, fingerprint="two")


def test_files_that_are_none_of_ours(memory: MemoryStore, tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("no")
    pq.write_table(pq.read_table(written(memory, tmp_path)).replace_schema_metadata(None), tmp_path / "bare.parquet")
    cut = tmp_path / "cut.parquet"
    cut.write_bytes((tmp_path / "ours.parquet").read_bytes()[:-50])
    for name in ("text.parquet", "bare.parquet", "cut.parquet", "none.parquet", ""):
        with pytest.raises(InputError):
            parquet.read_table(tmp_path / name, memory)
    with pytest.raises(InputError, match="cannot be written"):
        parquet.write_table(memory, TABLE, tmp_path / "no" / "folder.parquet")


def written(store: Store, folder: Path, records: Sequence[Record] = ()) -> Path:
    """Return a file that was written by us."""
    fill(store, TABLE, sample(TABLE, 3))
    parquet.write_table(store, TABLE, folder / "ours.parquet")
    return folder / "ours.parquet"
