"""Stores: one contract for all, each against the real database."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearfield.errors import InputError, StoreFailed
from nearfield.stores import REGISTRY, Record, Store, StoreHit, TableSpec, connect, exact
from nearfield.stores.filters import (
    All,
    Compare,
    Either,
    FieldType,
    Filter,
    Not,
    Value,
    equals,
    matches,
    one_of,
    parse_filter,
    typed,
)
from nearfield.stores.memory import MemoryStore
from tests.support.databases import DATABASES

pytestmark = pytest.mark.service

FIELDS: dict[str, FieldType] = {"lang": "str", "Author": "str", "year": "int", "weight": "float", "draft": "bool"}
STRINGS = [
    "en",
    "de",
    "it's",
    'a "quote"',
    "100%",
    "under_score",
    "back\\slash",
    "snö ☃ 漢字 😀",
    "",
    " ",
    "line\nbreak",
]
STRINGS += ["a'; DROP TABLE records; --", "${HOME}", "$eq", "null", "\\' OR TRUE", "Z", "É"]
INTEGERS = [0, 1, -1, 1999, 2020, 2021, 2**53, 2**53 + 1, -(2**63), 2**63 - 1]
FLOATS = [0.0, -0.0, 0.1, 0.5, -2.5, 3.0, 1e300, -1e300, 1e-7]
COUNT = 120
#: Filters as callers write them; what they match is computed beside the database.
FILTERS: list[Any] = [
    *({"lang": string} for string in STRINGS),
    {"lang": {"ne": "en"}},
    {"lang": {"in": ["en", "it's", "100%"]}},
    {"lang": {"nin": ["en", "back\\slash"]}},
    {"lang": {"in": []}},
    {"lang": {"nin": []}},
    {"lang": {"exists": True}},
    {"lang": {"exists": False}},
    {"lang": {"gt": "b", "lt": "n"}},
    {"lang": {"gte": "Z"}},
    {"not": {"lang": {"lte": "e"}}},
    {"Author": "en"},
    *({"year": {op: 2020}} for op in ("eq", "ne", "gt", "gte", "lt", "lte")),
    {"year": 2**53 + 1},
    {"year": {"gt": 2**53}},
    {"year": {"lte": -(2**63)}},
    {"year": {"gte": 2**63 - 1}},
    {"year": {"in": [2**53, 2021]}},
    *({"weight": {op: 0.5}} for op in ("eq", "ne", "gt", "gte", "lt", "lte")),
    {"weight": 3},
    {"weight": 0},
    {"weight": {"in": [0.1, 3, 7]}},
    {"weight": {"gte": 1e300}},
    {"draft": True},
    {"draft": False},
    {"draft": {"ne": True}},
    {"draft": {"in": [True]}},
    {"draft": {"exists": False}},
    {"ordinal": {"gte": 3, "lt": 9}},
    {"ordinal": {"exists": False}},
    {"document": "files:doc 3"},
    {"document": {"in": ["files:doc 1", "files:it's", "none"]}},
    {"version": {"ne": "v1"}},
    {"document": "files:doc 3", "version": {"ne": "v1"}},
    {"or": [{"lang": "en"}, {"year": {"gt": 2020}}]},
    {"and": [{"or": [{"lang": "en"}, {"lang": "de"}]}, {"not": {"draft": True}}]},
    {"not": {"or": [{"lang": "en"}, {"year": {"gt": 2000}}]}},
    {"not": {"and": [{"lang": {"exists": True}}, {"year": {"lt": 2000}}, {"weight": {"gte": 0}}]}},
    {"not": {"not": {"year": {"gt": 5}}}},
    {"or": []},
    {"and": []},
    {"not": {"or": []}},
    {"not": {"and": []}},
]


class Row:
    """A database of the suite, and the store that is open on it."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.store: Store = connect(address)

    def reopen(self) -> Store:
        """Open it again, as the next process would."""
        self.store.close()
        self.store = connect(self.address)
        return self.store


@pytest.fixture(scope="module", params=list(DATABASES))
def row(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Row]:
    """Each database in turn."""
    with DATABASES[request.param](tmp_path_factory.mktemp(request.param)) as address:
        opened = Row(request.param, address)
        yield opened
        opened.store.close()


@pytest.fixture(scope="module")
def filled(row: Row) -> tuple[TableSpec, list[Record]]:
    """A table that tests only read, and what it holds."""
    table = replace(TABLE, name="filled")
    return table, fill(row.store, table, sample(table, COUNT))


TABLE = TableSpec("records", "dense", 24, fields=FIELDS)
_NUMBERS = itertools.count()


def fresh(**options: Any) -> TableSpec:
    """Return a table of a name that was not taken yet."""
    return replace(TABLE, name=f"fresh_{next(_NUMBERS)}", **options)


def sample(table: TableSpec, count: int, seed: int = 0) -> list[Record]:
    """Return records with every kind of text and field; some fields are missing, and some vectors are the same."""
    rng = np.random.default_rng(seed)
    shared = vector(table, rng)
    return [record(table, number, rng, shared) for number in range(count)]


def record(table: TableSpec, number: int, rng: np.random.Generator, shared: Any) -> Record:
    """Return a record by its number. Each seventh of the first hundred has the shared vector."""
    drawn: dict[str, list[Any]] = {
        "lang": STRINGS,
        "Author": ["en", "x"],
        "year": INTEGERS,
        "weight": FLOATS,
        "draft": [True, False],
    }
    fields = {name: values[rng.integers(len(values))] for name, values in drawn.items() if rng.random() < 0.7}
    results = vector(table, rng)
    return Record(
        id=str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))),
        document=f"files:doc {number % 7}" if number % 7 else "files:it's",
        version=f"v{number % 2}",
        ordinal=number % 11,
        text=f"{STRINGS[number % len(STRINGS)]} {number}" if number % 5 else "",
        fields=cast(dict[str, Value], fields),
        payload={"start": number, "headings": ["Ä", 'b"'], "page": None, "deep": {"x": [0.1, True]}},
        vector=shared if number % 7 == 0 and number < 100 else results,
    )


def vector(table: TableSpec, rng: np.random.Generator) -> Any:
    """Return a vector of a table's form."""
    if table.kind == "sparse":
        ids = np.sort(rng.choice(table.dimensions, rng.integers(1, 9), replace=False))
        return ids.astype(np.int64), halves(table, rng.random(len(ids)))
    if table.dtype == "binary":
        return rng.integers(0, 256, table.dimensions // 8, dtype=np.uint8)
    shape = (int(rng.integers(1, 6)), table.dimensions) if table.kind == "multivector" else (table.dimensions,)
    drawn = rng.standard_normal(shape)
    length = np.linalg.norm(drawn, axis=-1, keepdims=True)
    # Not all of them are of length 1, where the metric does not ask for it.
    return halves(table, drawn / length if table.metric == "cosine" else drawn)


def halves(table: TableSpec, values: Any) -> Any:
    """Return numbers in float32 that the table's type can hold."""
    return values.astype(np.float16 if table.dtype == "float16" else np.float32).astype(np.float32)


def fill(store: Store, table: TableSpec, records: list[Record]) -> list[Record]:
    """Make a table and write records into it."""
    store.create(table)
    for start in range(0, len(records), store.batch):
        store.upsert(table, records[start : start + store.batch])
    return records


def stored_records(store: Store, table: TableSpec, where: Filter | None = None, **options: Any) -> dict[str, Record]:
    """Return what a scan gives, by id; each record once."""
    results = [record for part in store.scan(table, where, **options) for record in part]
    assert len({hit.id for hit in results}) == len(results)
    return {hit.id: hit for hit in results}


def plain(record: Record) -> tuple[Any, ...]:
    """Return all of a record but the vector, and the types of its fields."""
    kinds = {name: type(value) for name, value in record.filterable.items()}
    return record.filterable, kinds, record.text, record.payload


def parts(vector: Any) -> list[Any]:
    """Return the arrays of a vector."""
    return [vector] if isinstance(vector, np.ndarray) else list(vector)


def assert_same(results: dict[str, Record], records: Sequence[Record], *, vectors: bool = False) -> None:
    """The records that were found are these, down to the last bit."""
    assert {key: plain(record) for key, record in results.items()} == {record.id: plain(record) for record in records}
    for record in records if vectors else []:
        for left, right in zip(parts(results[record.id].vector), parts(record.vector), strict=True):
            assert left.dtype == right.dtype and np.array_equal(left, right)


def assert_hits(results: list[list[StoreHit]], expected: list[list[StoreHit]]) -> None:
    """The same records in the same order with the same scores, and without vectors."""
    assert [[hit.record.id for hit in hits] for hits in results] == [
        [hit.record.id for hit in hits] for hits in expected
    ]
    for hits, others in zip(results, expected, strict=True):
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in others], rel=1e-5, abs=1e-6)
        assert [plain(hit.record) for hit in hits] == [plain(hit.record) for hit in others]
        assert all(hit.record.vector is None for hit in hits)


def truth(table: TableSpec, records: Sequence[Record], queries: Sequence[Any], where: Filter | None = None) -> Any:
    """Return the ten nearest, computed from the records themselves."""
    remaining = [record for record in records if matches(where, record.filterable)]
    return exact.search(table, [remaining], queries, 10)


def test_the_suite_has_each_store() -> None:
    assert {name.split("-")[0] for name in DATABASES} == set(REGISTRY.names())


# -- tables ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_table_made_twice_keeps_its_records(row: Row) -> None:
    table = fresh()
    records = fill(row.store, table, sample(table, 5))
    row.store.create(table)
    assert_same(stored_records(row.store, table), records)


def test_tables_are_listed_and_dropped(row: Row) -> None:
    first, second = fresh(), TableSpec("x", "dense", 8)
    for table in (first, second):
        row.store.create(table)
    assert {first.name, "x"} <= set(row.store.tables()) and row.store.tables() == sorted(row.store.tables())
    fill(row.store, first, sample(first, 5))
    row.store.drop(first.name)
    row.store.drop(first.name)
    assert first.name not in row.store.tables() and "x" in row.store.tables()
    row.store.create(first)
    assert row.store.count(first) == 0


def test_the_longest_name(row: Row) -> None:
    table = TableSpec("n" * 62 + "_", "dense", 8)
    records = fill(row.store, table, sample(table, 3))
    assert row.store.count(table) == len(records) and table.name in row.store.tables()
    row.store.drop(table.name)


def test_a_missing_table_is_named(row: Row) -> None:
    table = fresh()
    with pytest.raises(StoreFailed, match=table.name):
        row.store.upsert(table, sample(table, 1))
    with pytest.raises(StoreFailed, match=table.name):
        row.store.count(table)


def test_another_table_is_left_alone(row: Row) -> None:
    first, second = fresh(), fresh()
    records = fill(row.store, first, sample(first, 20))
    fill(row.store, second, sample(second, 20, seed=1))
    row.store.delete(second, equals("version", "v1"))
    row.store.upsert(second, [replace(record, text="other") for record in sample(second, 5)])
    row.store.drop(second.name)
    assert_same(stored_records(row.store, first, vectors=True), records, vectors=True)


def test_what_was_written_is_there_after_reopening(row: Row) -> None:
    table = fresh()
    records = fill(row.store, table, sample(table, 30))
    row.store.delete(table, equals("version", "v1"))
    store = row.reopen()
    assert table.name in store.tables()
    assert_same(
        stored_records(store, table, vectors=True),
        [record for record in records if record.version == "v0"],
        vectors=True,
    )
    store.upsert(table, records)
    assert_same(stored_records(store, table), records)


def test_size_is_a_number_or_none(row: Row, filled: tuple[TableSpec, list[Record]]) -> None:
    size = row.store.size(filled[0])
    assert size is None or size > COUNT * 24 * 4 / 2


# -- records ---------------------------------------------------------------------------------------------------


def test_a_scan_gives_all_back_to_the_last_bit(row: Row, filled: tuple[TableSpec, list[Record]]) -> None:
    table, records = filled
    assert_same(stored_records(row.store, table, vectors=True), records, vectors=True)
    assert all(record.vector is None for record in stored_records(row.store, table).values())
    where = parse_filter({"version": "v1", "draft": {"ne": True}}, FIELDS)
    remaining = [record for record in records if matches(where, record.filterable)]
    assert 0 < len(remaining) < len(records)
    assert_same(stored_records(row.store, table, where, vectors=True), remaining, vectors=True)


def test_fetch_keeps_the_order(row: Row, filled: tuple[TableSpec, list[Record]]) -> None:
    table, records = filled
    requested = [records[at].id for at in (7, 3, 90, 0)]
    results = row.store.fetch(table, [*requested[:2], str(uuid.uuid4()), *requested[2:]], vectors=True)
    assert [hit.id for hit in results] == requested
    assert_same({hit.id: hit for hit in results}, [records[at] for at in (7, 3, 90, 0)], vectors=True)
    assert row.store.fetch(table, []) == [] and row.store.fetch(table, requested)[0].vector is None


def test_a_record_takes_the_place_of_the_one_before(row: Row) -> None:
    table = fresh()
    records = fill(row.store, table, sample(table, 20))
    row.store.upsert(table, records[:3])
    assert row.store.count(table) == 20
    # Nothing of the older record is left: neither fields nor payload.
    bare = [
        replace(record, document="d", text="new", fields={}, payload={}, vector=-record.vector)
        for record in records[:3]
    ]
    row.store.upsert(table, [records[0], *bare])
    row.store.upsert(table, [])
    assert_same(stored_records(row.store, table, vectors=True), bare + records[3:], vectors=True)
    assert row.store.count(table, parse_filter({"lang": {"exists": False}, "document": "d"}, FIELDS)) == 3


@pytest.mark.parametrize(
    "condition", [{"document": "files:it's"}, {"lang": {"gt": "b"}}, {"not": {"year": {"gte": 2020}}}, {"and": []}]
)
def test_delete_takes_what_matches(row: Row, condition: Any) -> None:
    table, where = fresh(), parse_filter(condition, FIELDS)
    records = fill(row.store, table, sample(table, 40))
    assert where is not None
    row.store.delete(table, where)
    row.store.delete(table, where)
    assert_same(
        stored_records(row.store, table), [record for record in records if not matches(where, record.filterable)]
    )


MANY = TableSpec("many", "dense", 16, fields={"lang": "str"})


@lru_cache
def many(total: int) -> list[Record]:
    """Return that many records, drawn once for all stores."""
    drawn = enumerate(sample(MANY, total))
    return [replace(record, fields={"lang": STRINGS[at % 9]}, payload={}) for at, record in drawn]


@pytest.mark.slow
def test_five_thousand_records(row: Row) -> None:
    # Fewer in what differs from another row by where it runs alone.
    total = 1500 if "-" in row.name else 5000
    table, records = replace(MANY, name=fresh().name), many(total)
    fill(row.store, table, records)
    row.store.index(table)
    assert row.store.count(table) == total
    assert_same(stored_records(row.store, table, vectors=True), records, vectors=True)
    requested = [record.id for record in reversed(records[:1200])]
    assert [record.id for record in row.store.fetch(table, requested)] == requested
    where = one_of("document", ["files:doc 1", "files:doc 2"])
    queries = [record.vector for record in records[100:110]]
    assert_hits(row.store.search(table, queries, 10, where=where, exact=True), truth(table, records, queries, where))
    expected = truth(table, records, queries)
    results = row.store.search(table, queries, 10)
    assert recall(results, expected) >= 0.9
    row.store.delete(table, where)
    assert row.store.count(table) == sum(not matches(where, record.filterable) for record in records)


def recall(results: list[list[StoreHit]], expected: list[list[StoreHit]]) -> float:
    """Return the recall, by scores, since equal ones may replace one another."""
    hits = [
        sum(hit.score >= others[-1].score - 1e-6 for hit in hits)
        for hits, others in zip(results, expected, strict=True)
    ]
    return sum(hits) / sum(map(len, expected))


# -- filters ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_filters_mean_the_same_everywhere(row: Row, filled: tuple[TableSpec, list[Record]]) -> None:
    table, records = filled
    for condition in FILTERS:
        where = parse_filter(condition, FIELDS) or All(())
        expected = {record.id for record in records if matches(where, record.filterable)}
        assert (condition, set(stored_records(row.store, table, where))) == (condition, expected)
        assert (condition, row.store.count(table, where)) == (condition, len(expected))


def conditions() -> st.SearchStrategy[Filter]:
    """Any condition on any field."""
    values: dict[str, list[Any]] = {"lang": STRINGS, "year": INTEGERS, "weight": FLOATS, "draft": [True, False]}
    values |= {"ordinal": [0, 5, 10], "document": ["files:it's", "files:doc 2"]}
    kinds = {**FIELDS, "ordinal": "int", "document": "str"}

    def of(name: str) -> st.SearchStrategy[Filter]:
        value = st.sampled_from(values[name])
        ordered = ["eq"] if kinds[name] == "bool" else ["eq", "gt", "gte", "lt", "lte"]
        return st.one_of(
            st.builds(Compare, st.just(name), st.sampled_from(ordered), value),
            st.builds(Compare, st.just(name), st.just("in"), st.lists(value, max_size=3).map(tuple)),
            st.just(Compare(name, "exists", True)),
        )

    return st.sampled_from(sorted(values)).flatmap(of)


def filters() -> st.SearchStrategy[Filter]:
    """Any combination of conditions."""
    return st.recursive(
        conditions(),
        lambda inner: st.one_of(
            st.builds(Not, inner),
            st.builds(All, st.lists(inner, max_size=3).map(tuple)),
            st.builds(Either, st.lists(inner, max_size=3).map(tuple)),
        ),
        max_leaves=6,
    )


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(where=filters())
def test_any_filter_means_the_same_everywhere(row: Row, filled: tuple[TableSpec, list[Record]], where: Filter) -> None:
    table, records = filled
    assert set(stored_records(row.store, table, where)) == {
        record.id for record in records if matches(where, record.filterable)
    }


# -- search ----------------------------------------------------------------------------------------------------

FORMS = [
    *(TableSpec("t", "dense", 24, metric=metric, fields=FIELDS) for metric in ("cosine", "dot", "euclidean")),
    *(TableSpec("t", "dense", 24, "float16", metric, FIELDS) for metric in ("cosine", "dot", "euclidean")),
    TableSpec("t", "dense", 64, "binary", fields=FIELDS),
    TableSpec("t", "sparse", 50, metric="dot", fields=FIELDS),
    TableSpec("t", "multivector", 8, fields=FIELDS),
    TableSpec("t", "multivector", 8, "float16", fields=FIELDS),
]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.kind}-{form.dtype}-{form.metric}")
def test_the_nearest_are_the_same_everywhere(row: Row, form: TableSpec) -> None:
    """The same top 10 as from the records themselves, and so from all stores; ties go by id."""
    table, store = replace(form, name=f"form_{next(_NUMBERS)}"), row.store
    if not (table.kind in store.kinds and table.dtype in store.dtypes and table.metric in store.metrics):
        with pytest.raises(InputError, match=r"cannot hold .*Known: "):
            store.create(table)
        return
    records = fill(store, table, sample(table, 60))
    assert_same(stored_records(store, table, vectors=True), records, vectors=True)
    rng = np.random.default_rng(5)
    # The first query's vector is that of nine records.
    queries = [records[0].vector, *(vector(table, rng) for _ in range(3))]
    for condition in (None, {"draft": {"ne": True}}, {"lang": {"exists": True}, "document": {"nin": ["files:doc 2"]}}):
        where = parse_filter(condition, FIELDS)
        expected = truth(table, records, queries, where)
        assert_hits(store.search(table, queries, 10, where=where, exact=True), expected)
        # So few records are all compared by whatever index.
        assert_hits(store.search(table, queries, 10, where=where), expected)


def test_the_same_ten_as_in_memory(row: Row, filled: tuple[TableSpec, list[Record]]) -> None:
    """What any other store answers is what the one in memory does: with filters and without."""
    table, records = filled
    memory = MemoryStore.connect("memory:")
    fill(memory, table, records)
    rng = np.random.default_rng(9)
    queries = [vector(table, rng) for _ in range(8)]
    for condition in (None, {"lang": {"in": STRINGS[:6]}}, {"or": [{"year": {"gt": 1999}}, {"weight": {"lt": 0.2}}]}):
        where = parse_filter(condition, FIELDS)
        expected = memory.search(table, queries, 10, where=where)
        assert_hits(row.store.search(table, queries, 10, where=where, exact=True), expected)


def test_ties_at_the_end_go_by_id(row: Row) -> None:
    """Forty records of one vector: the ten lowest ids, though the database may have chosen any."""
    table = fresh()
    like = sample(table, 1)[0]
    records = [replace(record, vector=like.vector) for record in sample(table, 40)]
    fill(row.store, table, records)
    results = row.store.search(table, [like.vector], 10, exact=True)[0]
    assert [hit.record.id for hit in results] == sorted(record.id for record in records)[:10]


def test_vectors_of_any_length_rank_by_their_direction(row: Row) -> None:
    table, rng = fresh(), np.random.default_rng(3)
    records = [
        replace(record, vector=(record.vector * rng.uniform(0.01, 50)).astype(np.float32))
        for record in sample(table, 50)
    ]
    records[5] = replace(records[5], vector=np.zeros(24, np.float32))
    fill(row.store, table, records)
    queries = [vector(table, rng) for _ in range(5)]
    expected = truth(table, records, queries)
    assert_hits(row.store.search(table, queries, 10, exact=True), expected)
    # As near, if not in the same order: what points one way differs by no more than a rounding.
    assert recall(row.store.search(table, queries, 10), expected) == 1
    # Nothing is left out, not even what is near to nothing.
    assert len(row.store.search(table, queries[:1], 60)[0]) == 50


def test_searches_at_the_edges(row: Row, filled: tuple[TableSpec, list[Record]]) -> None:
    table, records = filled
    query, none = records[0].vector, equals("lang", "no such")
    assert row.store.search(table, [], 10) == []
    assert row.store.search(table, [query], 10, where=none) == [[]]
    assert row.store.search(table, [query], 10, where=none, exact=True) == [[]]
    assert len(row.store.search(table, [query], 1000)[0]) == COUNT
    empty = fresh()
    row.store.create(empty)
    assert row.store.search(empty, [query, query], 3) == [[], []]
    assert row.store.search(empty, [query], 3, exact=True) == [[]]


@pytest.mark.slow
def test_a_narrow_filter_finds_all_it_matches(row: Row) -> None:
    table = fresh()
    records = fill(row.store, table, sample(table, 600))
    row.store.index(table)
    where = one_of("id", [record.id for record in records[300:304]])
    results = row.store.search(table, [records[7].vector], 10, where=where)
    assert_hits(results, truth(table, records, [records[7].vector], where))


def test_vectors_that_do_not_fit_are_refused(row: Row) -> None:
    table = fresh()
    good = fill(row.store, table, sample(table, 2))
    other = good[0].vector.copy()
    other[3] = np.nan
    for wrong in (good[0].vector[:-1], other, np.zeros((2, 24), np.float32), np.zeros(24, np.uint8)):
        with pytest.raises(InputError, match=good[0].id):
            row.store.upsert(table, [replace(good[1], text="new"), replace(good[0], vector=wrong)])
    assert_same(stored_records(row.store, table, vectors=True), good, vectors=True)


def test_tables_that_no_store_can_hold() -> None:
    for options in ({"name": "Upper"}, {"name": "1st"}, {"name": "a" * 64}, {"dtype": "binary", "dimensions": 20}):
        with pytest.raises(InputError):
            replace(TABLE, **cast(Any, options))
    for name in ("a.b", "", "and", "ordinal", "x" * 49, 'quote"'):
        with pytest.raises(InputError, match="field's name"):
            replace(TABLE, fields={name: "str"})
    with pytest.raises(InputError, match="Known: bool"):
        replace(TABLE, fields={"x": cast(Any, "text")})


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("nothing://x", "lancedb:x", "chroma://", "chroma://host/path", "lancedb://", "memry:"):
        with pytest.raises(InputError):
            connect(wrong)
    with pytest.raises(InputError, match="NEARFIELD_NO_SUCH"):
        connect("lancedb:///tmp/${NEARFIELD_NO_SUCH}")
    with pytest.raises(StoreFailed):
        connect("chroma://127.0.0.1:9")
    assert connect("memory:").tables() == []


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_texts_that_some_database_cannot_hold_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="Field 'lang' has text"):
        typed("lang", text, "str")
