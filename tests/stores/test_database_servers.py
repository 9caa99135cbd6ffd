"""Stores that are servers: what the contract of all stores leaves open."""

from __future__ import annotations

import gc
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.errors import InputError, StoreFailed
from nearfield.stores import Record, Store, StoreHit, TableSpec, connect, exact
from nearfield.stores.filters import Not, equals, one_of, parse_filter
from tests.support import postgres
from tests.support.qdrant_server import QdrantServer
from tests.support.qdrant_server import serving as serving_qdrant

pytestmark = pytest.mark.service

FIELDS: dict[str, Any] = {"lang": "str", "year": "int"}
TABLE = TableSpec("records", "dense", 32, fields=FIELDS)


def records(table: TableSpec, count: int, seed: int = 0) -> list[Record]:
    """Return records with vectors of a table's kind."""
    rng = np.random.default_rng(seed)
    return [
        Record(
            str(uuid.UUID(int=int(rng.integers(1 << 60)) + number)),
            f"d{number % 9}",
            "v",
            number,
            f"text {number}",
            {"lang": ["en", "de"][number % 2]} if number % 3 else {"year": number},
            {"start": number},
            vector(table, rng),
        )
        for number in range(count)
    ]


def vector(table: TableSpec, rng: np.random.Generator) -> Any:
    """Return a vector as the table holds it."""
    if table.kind == "sparse":
        ids = np.sort(rng.choice(table.dimensions, 5, replace=False))
        return ids.astype(np.int64), rng.random(5).astype(np.float32)
    if table.dtype == "binary":
        return rng.integers(0, 256, table.dimensions // 8, dtype=np.uint8)
    drawn = rng.standard_normal((3, table.dimensions) if table.kind == "multivector" else table.dimensions)
    drawn /= np.linalg.norm(drawn, axis=-1, keepdims=True)
    return drawn.astype(np.float16 if table.dtype == "float16" else np.float32).astype(np.float32)


def ids(hits: list[list[StoreHit]]) -> list[list[str]]:
    """Return whose records were found."""
    return [[hit.record.id for hit in results] for results in hits]


# -- Qdrant ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine() -> Iterator[QdrantServer]:
    """Qdrant's engine behind its server's interface."""
    with serving_qdrant() as served:
        yield served


@pytest.fixture
def qdrant(engine: QdrantServer) -> Iterator[Store]:
    """A store on that server, which has got nothing yet."""
    store = connect(engine.address)
    for name in store.tables():
        store.drop(name)
    engine.requests.clear()
    yield store
    store.close()


FORMS = [
    TABLE,
    replace(TABLE, metric="euclidean"),
    replace(TABLE, metric="dot"),
    replace(TABLE, dtype="float16"),
    replace(TABLE, dtype="binary"),
    TableSpec("records", "sparse", 40, metric="dot", fields=FIELDS),
    TableSpec("records", "multivector", 8, fields=FIELDS),
]


@pytest.mark.parametrize("table", FORMS, ids=lambda form: f"{form.kind}-{form.dtype}-{form.metric}")
def test_qdrant_gives_scores_as_they_are_defined(qdrant: Store, engine: QdrantServer, table: TableSpec) -> None:
    """Without being compared again here: no vectors are fetched."""
    stored = records(table, 50)
    qdrant.create(table)
    qdrant.upsert(table, stored)
    queries, where = [record.vector for record in stored[:4]], parse_filter({"lang": {"ne": "de"}}, FIELDS)
    engine.requests.clear()
    results = qdrant.search(table, queries, 10, where=where)
    remaining = [record for record in stored if record.fields.get("lang") != "de"]
    expected = exact.search(table, [remaining], queries, 10)
    assert ids(results) == ids(expected)
    for hits, others in zip(results, expected, strict=True):
        # The engine rounds a query to float16 as it does the vectors.
        off = 5e-4 if table.dtype == "float16" else 1e-5
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in others], abs=off)
    assert not any(body["with_vector"] for body in engine.bodies("POST", "/points/query"))
    assert ids(qdrant.search(table, queries, 10, where=where, exact=True)) == ids(expected)
    requested = engine.bodies("POST", "/points/query")[-1]
    assert requested["params"] == {"exact": True, "quantization": {"ignore": True}} and requested["with_vector"]


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, {"size": 32, "distance": "Dot", "datatype": "float32"}),
        ({"metric": "euclidean", "dtype": "float16"}, {"size": 32, "distance": "Euclid", "datatype": "float16"}),
        ({"dtype": "binary"}, {"size": 32, "distance": "Manhattan", "datatype": "uint8"}),
        ({"index": "none"}, {"hnsw_config": {"m": 0}}),
        (
            {"quantization": "int8"},
            {"quantization_config": {"scalar": {"type": "int8", "quantile": 0.99, "always_ram": True}}},
        ),
        ({"quantization": "binary"}, {"quantization_config": {"binary": {"always_ram": True}}}),
        ({"kind": "multivector"}, {"multivector_config": {"comparator": "max_sim"}, "distance": "Dot"}),
    ],
)
def test_qdrant_gets_the_shape(qdrant: Store, engine: QdrantServer, options: Any, shape: Any) -> None:
    qdrant.create(replace(TABLE, **options))
    sent = engine.bodies("PUT", "/collections/nearfield_records")[0]["vectors"]["vector"]
    assert {name: sent[name] for name in shape} == shape


def test_qdrant_gets_sparse_vectors_and_fields(qdrant: Store, engine: QdrantServer) -> None:
    table = TableSpec(
        "words", "sparse", 40, metric="dot", dtype="float16", fields={**FIELDS, "x": "float", "on": "bool"}
    )
    qdrant.create(table)
    sent = engine.bodies("PUT", "/collections/nearfield_words")[0]
    assert sent["sparse_vectors"] == {"vector": {"index": {"datatype": "float16"}}} and not sent["vectors"]
    indices = {body["field_name"]: body["field_schema"] for body in engine.bodies("PUT", "/index")}
    assert indices.pop("document") == indices.pop("version") == "keyword" and indices.pop("ordinal") == "integer"
    assert indices == {"fields.lang": "keyword", "fields.year": "integer", "fields.x": "float", "fields.on": "bool"}


def test_qdrant_waits_until_points_are_written(qdrant: Store, engine: QdrantServer) -> None:
    qdrant.create(TABLE)
    qdrant.upsert(TABLE, records(TABLE, 3))
    qdrant.delete(TABLE, equals("lang", "en"))
    writes = [query for method, path, query, _ in engine.requests if path.endswith(("/points", "/delete", "/index"))]
    assert len(writes) >= 4 and all(query["wait"] == ["true"] for query in writes)


def test_qdrant_gets_much_in_several_requests(
    qdrant: Store, engine: QdrantServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearfield.stores.qdrant_points._WRITE", 20_000)
    stored = records(TABLE, 60)
    qdrant.create(TABLE)
    qdrant.upsert(TABLE, stored)
    sizes = [len(body["points"]) for body in engine.bodies("PUT", "/points")]
    assert len(sizes) > 2 and sum(sizes) == 60 and qdrant.count(TABLE) == 60


def test_qdrant_compares_again_where_its_index_is_compressed(qdrant: Store, engine: QdrantServer) -> None:
    table = replace(TABLE, quantization="binary")
    qdrant.create(table)
    qdrant.upsert(table, records(table, 3))
    qdrant.search(table, [records(table, 1)[0].vector], 2)
    requested = engine.bodies("POST", "/points/query")[0]["params"]
    assert requested["quantization"] == {"rescore": True, "oversampling": 4.0}


def test_qdrant_leaves_other_collections_alone(qdrant: Store, engine: QdrantServer) -> None:
    from qdrant_client import models

    theirs = models.VectorParams(size=3, distance=models.Distance.DOT)
    engine.engine.create("theirs", models.CreateCollection(vectors={"": theirs}))
    qdrant.create(TABLE)
    assert qdrant.tables() == ["records"]
    qdrant.drop("theirs")
    assert "theirs" in engine.engine.shards


def test_qdrant_refuses_what_it_cannot_compress(qdrant: Store) -> None:
    with pytest.raises(InputError, match="sparse"):
        qdrant.create(TableSpec("words", "sparse", 40, quantization="int8"))
    with pytest.raises(InputError, match="int8"):
        qdrant.create(replace(TABLE, dtype="binary", quantization="int8"))


def test_qdrant_finds_what_has_no_vector(qdrant: Store) -> None:
    """A text of which no token counts is a record all the same; its score is 0."""
    table = TableSpec("records", "multivector", 8)
    stored = records(table, 4)
    stored[2] = replace(stored[2], vector=np.zeros((0, 8), np.float32))
    qdrant.create(table)
    qdrant.upsert(table, stored)
    for is_exact in (True, False):
        results = {hit.record.id: hit.score for hit in qdrant.search(table, [stored[0].vector], 9, exact=is_exact)[0]}
        assert len(results) == 4 and results[stored[2].id] == 0
        assert len(qdrant.search(table, [np.zeros((0, 8), np.float32)], 9, exact=is_exact)[0]) == 4
    assert qdrant.fetch(table, [stored[2].id], vectors=True)[0].vector.shape == (0, 8)


def test_qdrant_keeps_what_is_not_of_unit_length(qdrant: Store, engine: QdrantServer) -> None:
    stored = [replace(record, vector=record.vector * np.float32(3.3)) for record in records(TABLE, 5)]
    qdrant.create(TABLE)
    qdrant.upsert(TABLE, stored)
    results = {record.id: record.vector for part in qdrant.scan(TABLE, vectors=True) for record in part}
    assert all(np.array_equal(results[record.id], record.vector) for record in stored)
    sent = engine.bodies("PUT", "/points")[0]["points"]
    assert [np.linalg.norm(point["vector"]["vector"]) for point in sent] == pytest.approx([1.0] * 5)
    assert qdrant.search(TABLE, [stored[0].vector], 1)[0][0].score == pytest.approx(1.0, abs=1e-6)


def test_qdrant_that_is_locked_away_or_too_old() -> None:
    with serving_qdrant(key="the+key/") as locked:
        with pytest.raises(StoreFailed, match=r"add \?api_key="):
            connect(locked.address)
        with pytest.warns(UserWarning, match="insecure"):
            connect(f"{locked.address}?api_key=the+key/").close()
    with serving_qdrant(version="1.9.2") as old, pytest.raises(StoreFailed, match=r"1\.9\.2"):
        connect(old.address)


def test_qdrant_that_goes_away() -> None:
    with serving_qdrant() as served:
        store = connect(served.address)
        store.create(TABLE)
    with pytest.raises(StoreFailed, match="does not answer"):
        store.count(TABLE)
    store.close()
    with pytest.raises(StoreFailed, match=r"127\.0\.0\.1:9 does not answer"):
        connect("qdrant://127.0.0.1:9")


def test_addresses_of_qdrant(tmp_path: Path) -> None:
    wrong = ["qdrant://", "qdrant:relative", "qdrant://user@host", "qdrant://host?key=x", "qdrant://host:99999"]
    for address in wrong:
        with pytest.raises(InputError):
            connect(address)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_folder_of_qdrant_is_of_one_process(tmp_path: Path) -> None:
    store = connect(f"qdrant://{tmp_path}/there")
    with pytest.raises(StoreFailed, match="already accessed"):
        connect(f"qdrant://{tmp_path}/there")
    store.close()
    gc.collect()  # the client leaves the file of the lock open


# -- PostgreSQL ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Postgres]:
    """A server of the newest pgvector there is."""
    with postgres.serving(postgres.NEW) as served, postgres.password():
        yield served


@pytest.fixture
def pgvector(server: postgres.Postgres) -> Iterator[Store]:
    """A store on that server, which has no tables, and uses indices for few rows too."""
    store = connect(f"{server.address}&options=-c%20enable_seqscan%3Doff")
    for name in store.tables():
        store.drop(name)
    yield store
    store.close()


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"metric": "dot"},
        {"metric": "euclidean"},
        {"dtype": "float16"},
        {"dtype": "binary"},
        {"quantization": "binary", "dimensions": 256},
        {"quantization": "binary", "dimensions": 256, "dtype": "float16"},
    ],
    ids=str,
)
def test_pgvector_searches_with_its_index(pgvector: Store, monkeypatch: pytest.MonkeyPatch, options: Any) -> None:
    monkeypatch.setattr("nearfield.stores.pgvector._ROWS_TO_INDEX", 500)
    table = replace(TABLE, **options)
    stored = records(table, 600)
    pgvector.create(table)
    pgvector.upsert(table, stored)
    before = pgvector.size(table) or 0
    pgvector.index(table)
    pgvector.index(table)
    assert (pgvector.size(table) or 0) > before
    queries = [record.vector for record in stored[:10]]
    with monkeypatch.context() as patch:
        patch.setattr("nearfield.stores.pgvector.PgVectorStore._compared", lambda *_: pytest.fail("was compared"))
        results = pgvector.search(table, queries, 10)
    expected = exact.search(table, [stored], queries, 10)
    shared = [len({*one} & {*other}) for one, other in zip(ids(results), ids(expected), strict=True)]
    # The signs of random vectors say little about them.
    least = 70 if table.quantization == "binary" else 90
    assert sum(shared) >= least and all(len(hits) == 10 for hits in results)
    scores = {(at, hit.record.id): hit.score for at, hits in enumerate(expected) for hit in hits}
    for at, hits in enumerate(results):
        known = [(hit.score, scores[at, hit.record.id]) for hit in hits if (at, hit.record.id) in scores]
        assert [one for one, _ in known] == pytest.approx([other for _, other in known], abs=2e-3)
    assert ids(pgvector.search(table, queries, 10, exact=True)) == ids(expected)


@pytest.mark.network
def test_pgvector_finds_all_that_a_narrow_filter_lets_through(pgvector: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfield.stores.pgvector._ROWS_TO_INDEX", 1000)
    stored = records(TABLE, 1200)
    pgvector.create(TABLE)
    pgvector.upsert(TABLE, stored)
    pgvector.index(TABLE)
    where = one_of("id", [record.id for record in stored[500:504]])
    results = pgvector.search(TABLE, [stored[0].vector], 10, where=where)
    assert ids(results) == ids(exact.search(TABLE, [stored[500:504]], [stored[0].vector], 10))
    many = Not(equals("document", "d1"))
    remaining = [record for record in stored if record.document != "d1"]
    results = pgvector.search(TABLE, [stored[0].vector], 150, where=many)
    expected = exact.search(TABLE, [remaining], [stored[0].vector], 150)
    assert len(results[0]) == 150 and len({*ids(results)[0]} & {*ids(expected)[0]}) >= 130


@pytest.mark.network
def test_pgvector_indexes_what_it_can(pgvector: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wider vectors, and those of tables without an index, are compared one by one."""
    monkeypatch.setattr("nearfield.stores.pgvector._ROWS_TO_INDEX", 5)
    for table in (
        TableSpec("wide", "dense", 2_008),
        TableSpec("half", "dense", 4_008, "float16"),
        TableSpec("none", "dense", 16, index="none"),
        TableSpec("words", "sparse", 90_000, metric="dot"),
        TableSpec("tokens", "multivector", 8),
    ):
        stored = records(table, 8)
        pgvector.create(table)
        pgvector.upsert(table, stored)
        pgvector.index(table)
        results = pgvector.search(table, [stored[3].vector], 3)
        assert results[0][0].record.id == stored[3].id and len(results[0]) == 3


@pytest.mark.network
def test_pgvector_refuses_what_it_cannot_hold(pgvector: Store) -> None:
    for options, said in (
        ({"dimensions": 16_008}, "16000"),
        ({"quantization": "int8"}, "'int8'"),
        ({"quantization": "binary", "dtype": "binary"}, "dense"),
        ({"quantization": "binary", "kind": "multivector"}, "dense"),
    ):
        with pytest.raises(InputError, match=said):
            pgvector.create(replace(TABLE, **options))


@pytest.mark.network
def test_pgvector_writes_a_batch_as_a_whole_or_not_at_all(pgvector: Store) -> None:
    stored = records(TABLE, 10)
    pgvector.create(TABLE)
    for text in ("a\0b", "a\ud800b"):
        with pytest.raises(InputError, match="'records'"):
            pgvector.upsert(TABLE, [*stored, replace(stored[9], id=str(uuid.uuid4()), text=text)])
    assert pgvector.count(TABLE) == 0
    payload = {"nul": "\0", "large": 2**70, "float": 1e22, "whole": 1.0}
    pgvector.upsert(TABLE, [replace(stored[0], payload=payload)])
    results = pgvector.fetch(TABLE, [stored[0].id])[0].payload
    assert results == payload and [type(hit) for hit in results.values()] == [str, int, float, float]


@pytest.mark.network
def test_pgvector_can_be_used_by_several_threads(pgvector: Store) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def use(number: int) -> int:
        table = replace(TABLE, name=f"table_{number}")
        pgvector.create(table)
        pgvector.upsert(table, records(table, 40, seed=number))
        pgvector.delete(table, equals("document", "d1"))
        return pgvector.count(table)

    with ThreadPoolExecutor(6) as threads:
        counts = list(threads.map(use, range(6)))
    assert counts == [35] * 6 and len(pgvector.tables()) == 6


@pytest.mark.network
def test_a_scan_of_pgvector_locks_nothing(pgvector: Store) -> None:
    pgvector.create(TABLE)
    pgvector.upsert(TABLE, records(TABLE, 1100))
    pages = pgvector.scan(TABLE)
    next(pages)
    pgvector.drop(TABLE.name)
    with pytest.raises(StoreFailed, match="no table 'records'"):
        next(pages)


@pytest.mark.network
def test_pgvector_keeps_to_its_own_tables(pgvector: Store, server: postgres.Postgres) -> None:
    import psycopg

    pgvector.create(TABLE)
    with psycopg.connect(
        server.address.replace("${NEARFIELD_TEST_PASSWORD}@", "@"), password=postgres.PASSWORD
    ) as other:
        other.execute("CREATE TABLE theirs (id int)")
        other.execute("CREATE TABLE nearfield_other (id int)")
    assert pgvector.tables() == ["records"]
    pgvector.drop("theirs")
    with psycopg.connect(
        server.address.replace("${NEARFIELD_TEST_PASSWORD}@", "@"), password=postgres.PASSWORD
    ) as other:
        other.execute("DROP TABLE theirs, nearfield_other")


@pytest.mark.network
def test_postgres_that_goes_away_and_comes_back(server: postgres.Postgres) -> None:
    store = connect(server.address)
    stored = records(TABLE, 30)
    store.create(TABLE)
    store.upsert(TABLE, stored[:20])
    server.stop("immediate")
    try:
        for _ in range(2):
            with pytest.raises(StoreFailed, match="does not answer"):
                store.upsert(TABLE, stored)
    finally:
        server.start()
    assert store.count(TABLE) == 20
    store.upsert(TABLE, stored)
    assert store.count(TABLE) == 30
    store.drop(TABLE.name)
    store.close()


@pytest.mark.network
def test_passwords_stay_out_of_messages(server: postgres.Postgres) -> None:
    address = server.address
    for wrong in (
        address.replace("${NEARFIELD_TEST_PASSWORD}", "hunter2"),
        "postgresql://user:hunter2@127.0.0.1:9/base",
        "postgresql://user:hunter2@host:port:hunter2/base",
        "postgresql://user:hunter2@/base?hunter2=1",
    ):
        with pytest.raises((StoreFailed, InputError)) as caught:
            connect(wrong)
        assert "hunter2" not in str(caught.value)
    with pytest.raises(StoreFailed, match="password authentication failed"):
        connect(address.replace("${NEARFIELD_TEST_PASSWORD}", "hunter2"))
