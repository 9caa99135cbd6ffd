"""LanceDB beyond the contract: its own index, what it tidies up, and what a killed process leaves."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.errors import StoreFailed
from nearfield.stores import TableSpec, connect, exact, lancedb
from nearfield.stores.filters import equals
from tests.stores.test_stores import assert_same, fill, recall, sample, stored_records, vector

pytestmark = pytest.mark.slow

BASE = TableSpec("records", "dense", 32, fields={"lang": "str"})


@pytest.fixture
def store(tmp_path: Path) -> lancedb.LanceDbStore:
    """A fresh one."""
    return lancedb.LanceDbStore.connect(f"lancedb://{tmp_path / 'vectors'}")


def records_of(table: TableSpec, count: int, seed: int = 0) -> list[Any]:
    """Return records whose fields are the table's."""
    return [replace(record, fields={"lang": "en"}) for record in sample(table, count, seed)]


FORMS = [
    BASE,
    replace(BASE, metric="dot"),
    replace(BASE, metric="euclidean", quantization="int8"),
    replace(BASE, quantization="int8"),
    replace(BASE, quantization="binary", dimensions=256),
    replace(BASE, dtype="float16"),
    replace(BASE, dtype="binary", dimensions=256),
    replace(BASE, kind="multivector", dimensions=16),
]


@pytest.mark.parametrize(
    "table", FORMS, ids=lambda record: f"{record.kind}-{record.dtype}-{record.metric}-{record.quantization}"
)
def test_the_index_finds_nearly_all(store: Any, table: TableSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lancedb, "_ROWS_TO_INDEX", 500)
    records = fill(store, table, records_of(table, 1000))
    rng = np.random.default_rng(3)
    queries = [vector(table, rng) for _ in range(10)]
    expected = exact.search(table, [records], queries, 10)
    store.index(table)
    opened = store._database.open_table(table.name)
    assert [list_indice.name for list_indice in opened.list_indices() if list_indice.columns == ["vector"]]
    # A bit for each number, and their directions are drawn at random each time.
    assert recall(store.search(table, queries, 10), expected) >= (0.75 if table.quantization == "binary" else 0.9)
    results = store.search(table, queries, 10, exact=True)
    assert [[hit.record.id for hit in hits] for hits in results] == [
        [hit.record.id for hit in hits] for hits in expected
    ]
    # What came after the index was built is found too, and what was removed is not.
    late = records_of(table, 1100, seed=8)[1000:]
    store.upsert(table, late)
    store.delete(table, equals("document", late[-1].document))
    query = late[0].vector
    remaining = [record for record in [*records, *late] if record.document != late[-1].document]
    expected = exact.search(table, [remaining], [query], 5)
    assert recall(store.search(table, [query], 5), expected) >= 0.6


def test_small_tables_and_those_without_index_have_none(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    small, none = replace(BASE, name="small"), replace(BASE, name="none", index="none")
    fill(store, small, records_of(small, 300))
    store.index(small)
    monkeypatch.setattr(lancedb, "_ROWS_TO_INDEX", 100)
    fill(store, none, records_of(none, 300))
    store.index(none)
    assert all(not store._database.open_table(name).list_indices() for name in ("small", "none"))


# LanceDB warns that no reader may use an older version. With a grace of a millisecond, a version that was that young
# when the table was compacted stayed until the next time, in one run of 80.
@pytest.mark.filterwarnings("ignore:optimize:UserWarning")
def test_many_small_writes_are_joined(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lancedb, "_MIN_WRITES", 8)
    monkeypatch.setattr(lancedb, "_GRACE", timedelta(0))
    records = records_of(BASE, 60)
    store.create(BASE)
    for at in range(60):
        store.upsert(BASE, records[at : at + 1])
        assert len(files(store, "data/*.lance")) <= 16
    opened = store._database.open_table(BASE.name)
    assert opened.stats()["fragment_stats"]["num_fragments"] <= 8
    store.index(BASE)
    assert len(files(store, "data/*.lance")) == 1 and len(files(store, "_versions/*.manifest")) == 1
    assert_same(stored_records(store, BASE, vectors=True), records, vectors=True)
    total = sum(path.stat().st_size for path in files(store, "**/*"))
    assert 0.7 * total < store.size(BASE) <= total


def files(store: Any, pattern: str) -> list[Path]:
    """Return the files of the table."""
    return [path for path in store._path(BASE.name).glob(pattern) if path.is_file()]


def test_lookups_by_document_and_id_have_an_index(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lancedb, "_ROWS_TO_KEY", 100)
    records = fill(store, BASE, records_of(BASE, 300))
    store.index(BASE)
    indexed = {
        name for list_indice in store._database.open_table(BASE.name).list_indices() for name in list_indice.columns
    }
    assert indexed == {"id", "document"}
    store.upsert(BASE, records[:50])
    store.upsert(BASE, [replace(record, text="late") for record in records[:20]])
    store.delete(BASE, equals("document", "files:doc 1"))
    remaining = [replace(record, text="late") for record in records[:20]] + records[20:]
    assert_same(stored_records(store, BASE), [record for record in remaining if record.document != "files:doc 1"])


def test_another_process_sees_what_was_written(store: Any, tmp_path: Path) -> None:
    """A server that searches while the table is filled, indexed and tidied by another."""
    records = fill(store, BASE, records_of(BASE, 50))
    reader = connect(f"lancedb://{tmp_path / 'vectors'}")
    assert reader.count(BASE) == 50
    store.upsert(BASE, records_of(BASE, 80)[50:])
    store.index(BASE)
    assert reader.count(BASE) == 80
    assert len(reader.search(BASE, [records[0].vector], 5)[0]) == 5
    store.drop(BASE.name)
    with pytest.raises(StoreFailed, match="records"):
        reader.count(BASE)
    assert reader.tables() == []


def test_a_table_that_was_half_made_is_made(store: Any) -> None:
    (store._path(BASE.name) / "data").mkdir(parents=True)
    assert store.tables() == []
    records = fill(store, BASE, records_of(BASE, 5))
    assert_same(stored_records(store, BASE), records)


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFailed, match="file"):
        connect(f"lancedb://{tmp_path / 'file'}")
