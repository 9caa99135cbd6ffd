"""Each stage of a search against hand calculations and reference libraries, and all of them together."""

from __future__ import annotations

import json
import math
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfield.corpus.manifest.keyword_index import KeywordIndex, filter_to_sql, tokenizer_of, words
from nearfield.corpus.search import fusion, highlighting, mmr
from nearfield.corpus.search.hit import SearchHit
from nearfield.corpus.search.searcher import Searchable, Searcher
from nearfield.encoder import Encoder
from nearfield.errors import InputError, SpaceMismatch
from nearfield.stores import Record, Store, TableSpec, connect
from nearfield.stores.filters import All, Compare, Either, Filter, Not, matches

CHUNKS = """CREATE TABLE chunks(rowid INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, document TEXT NOT NULL,
 version TEXT NOT NULL, ordinal INTEGER NOT NULL, text TEXT NOT NULL, context TEXT NOT NULL, fields TEXT NOT NULL,
 payload TEXT NOT NULL, tokens INTEGER NOT NULL)"""


class ChunkTable:
    """A table of chunks and its keyword index, as a manifest has them."""

    def __init__(self, **options: Any) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.execute(CHUNKS)
        self.keywords = KeywordIndex(self.connection, **options)
        self.keywords.create()

    def add(self, text: str, *, context: str = "", record: Record | None = None) -> int:
        of = record or Record(str(uuid.uuid4()), "d", "v", 0, text)
        columns = (of.id, of.document, of.version, of.ordinal, text, context)
        added = self.connection.execute(
            "INSERT INTO chunks VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
            (*columns, json.dumps(dict(of.fields)), json.dumps(dict(of.payload))),
        )
        row = int(added.lastrowid or 0)
        self.keywords.put([(row, f"{context}\n{text}" if context else text)])
        return row

    def drop(self, row: int) -> None:
        self.keywords.remove([row])
        self.connection.execute("DELETE FROM chunks WHERE rowid = ?", (row,))


@pytest.fixture
def open_table() -> Iterator[Callable[..., ChunkTable]]:
    """Create empty tables of chunks, closed after the test."""
    created: list[ChunkTable] = []

    def build(**options: Any) -> ChunkTable:
        created.append(ChunkTable(**options))
        return created[-1]

    yield build
    for item in created:
        item.connection.close()


# -- keywords --------------------------------------------------------------------------------------------------


def test_bm25_is_the_formula(open_table: Callable[..., ChunkTable]) -> None:
    chunk_table, texts = open_table(), ["cat cat dog", "bird fish", "cat mouse horse cow", "a b c", "tree"]
    rows = [chunk_table.add(text) for text in texts]
    lengths = [len(text.split()) for text in texts]
    average, idf = sum(lengths) / 5, math.log((5 - 2 + 0.5) / (2 + 0.5))

    def score(count: int, length: int) -> float:
        return idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / average))

    results = chunk_table.keywords.search("cat", 10)
    assert [row for row, _ in results] == [rows[0], rows[2]]
    assert [value for _, value in results] == pytest.approx([score(2, 3), score(1, 4)], rel=1e-9)


def test_any_word_may_match_and_none_need(open_table: Callable[..., ChunkTable]) -> None:
    chunk_table = open_table()
    one, two = chunk_table.add("Running dogs"), chunk_table.add("Résumé of a cat")
    for filler in ("x", "y", "z"):
        chunk_table.add(filler)
    assert {row for row, _ in chunk_table.keywords.search("a dog runs after the resume", 5)} == {one, two}
    assert chunk_table.keywords.search("elephant", 5) == []
    assert chunk_table.keywords.search("the", 1) == []


@pytest.mark.parametrize(
    "query",
    ['"', "'", '"dog', "dog AND", "NOT dog", "NEAR(dog cat)", "text:dog", "dog*", "^dog", "(dog", "-dog", "{a b}: dog"],
)
def test_no_query_is_an_operator(open_table: Callable[..., ChunkTable], query: str) -> None:
    chunk_table = open_table()
    dog = chunk_table.add("the dog")
    for _ in range(3):
        chunk_table.add("other")
    assert [row for row, _ in chunk_table.keywords.search(query, 5)] == ([dog] if "dog" in query else [])


@pytest.mark.slow
@given(st.text(max_size=30))
@settings(max_examples=100, deadline=None)
def test_any_text_is_a_query(query: str) -> None:
    chunk_table = ChunkTable()
    row = chunk_table.add(query.encode("utf-8", "replace").decode().replace("\0", " "))
    results = chunk_table.keywords.search(query, 5)
    chunk_table.connection.close()
    assert [item for item, _ in results] in ([row], [])
    if query.isascii() and words(query):
        assert results


def test_context_is_searched_too(open_table: Callable[..., ChunkTable]) -> None:
    chunk_table = open_table()
    row = chunk_table.add("It purrs.", context="Guide > Cats")
    assert [item for item, _ in chunk_table.keywords.search("cats", 5)] == [row]
    assert chunk_table.keywords.is_consistent()


def test_what_is_removed_is_gone_and_leaves_no_trace(open_table: Callable[..., ChunkTable]) -> None:
    chunk_table, never = open_table(), open_table()
    remaining = [chunk_table.add(text) for text in ("the red cat", "a blue dog")]
    gone = chunk_table.add("red red dog", context="Title")
    for text in ("the red cat", "a blue dog"):
        never.add(text)
    chunk_table.drop(gone)
    assert chunk_table.keywords.is_consistent()
    for query in ("red", "dog title", "blue cat"):
        assert chunk_table.keywords.search(query, 5) == never.keywords.search(query, 5)
    assert {row for row, _ in chunk_table.keywords.search("red dog", 5)} == set(remaining)


def test_it_is_undone_with_the_rows(open_table: Callable[..., ChunkTable]) -> None:
    chunk_table = open_table()
    chunk_table.connection.execute("BEGIN")
    chunk_table.add("half a document")
    chunk_table.connection.execute("ROLLBACK")
    assert chunk_table.keywords.search("document", 5) == []
    assert chunk_table.keywords.is_consistent()


def test_an_unsound_index_is_reported_and_repaired(open_table: Callable[..., ChunkTable]) -> None:
    chunk_table = open_table()
    row = chunk_table.add("one text")
    chunk_table.connection.execute("UPDATE chunks SET text = 'another' WHERE rowid = ?", (row,))
    assert not chunk_table.keywords.is_consistent()
    chunk_table.keywords.rebuild()
    assert chunk_table.keywords.is_consistent()
    assert [item for item, _ in chunk_table.keywords.search("another", 5)] == [row]


def test_it_is_made_of_the_chunks_there_are(open_table: Callable[..., ChunkTable]) -> None:
    chunk_table = open_table(tokenizer="unicode61")
    row = chunk_table.add("running")
    stems = KeywordIndex(chunk_table.connection)
    assert chunk_table.keywords.search("run", 5) == []
    stems.create()
    assert [item for item, _ in stems.search("run", 5)] == [row]
    before = stems.search("run", 5)
    stems.create()
    stems.optimize()
    assert stems.search("run", 5) == before
    assert stems.size() > 0
    assert KeywordIndex(chunk_table.connection, language="zh").tokenizer == "porter"


def test_words_that_most_chunks_have_are_passed_over(open_table: Callable[..., ChunkTable]) -> None:
    chunk_table = open_table()
    for number in range(1500):
        chunk_table.add(f"the one {'half' if number < 700 else ''} n{number}")
    assert len(chunk_table.keywords.search("the n7", 2000)) == 1
    assert len(chunk_table.keywords.search("the half", 2000)) == 700
    assert len(chunk_table.keywords.search("the one", 2000)) == 1500


def test_texts_are_not_stored_twice(open_table: Callable[..., ChunkTable]) -> None:
    chunk_table = open_table()
    for number in range(200):
        chunk_table.add("the same few words again and again " * 20 + str(number))
    stored = chunk_table.connection.execute("SELECT sum(length(text)) FROM chunks").fetchone()[0]
    assert chunk_table.keywords.size() < stored


def test_languages_without_spaces(open_table: Callable[..., ChunkTable]) -> None:
    chunk_table = open_table(language="zh")
    texts = ["贝尔发明了电话。", "爱迪生改进了电灯。", "今天天气很好。", "他们去了北京。", "我喜欢读书。"]
    rows = [chunk_table.add(text) for text in texts]
    assert chunk_table.keywords.search("谁发明了电话？", 5)[0][0] == rows[0]
    assert [row for row, _ in chunk_table.keywords.search("电灯", 5)] == [rows[1]]
    assert chunk_table.keywords.search("飞机", 5) == []


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [
        ("en", "porter"),
        ("en-GB", "porter"),
        ("de", "unicode61"),
        ("zh_Hant", "trigram"),
        ("JA", "trigram"),
        ("", "unicode61"),
    ],
)
def test_the_language_chooses_how_texts_are_cut(language: str, tokenizer: str) -> None:
    assert tokenizer_of(language) == tokenizer


def test_words_of_other_scripts_stay_whole(open_table: Callable[..., ChunkTable]) -> None:
    chunk_table = open_table(language="hi")
    row = chunk_table.add("हिन्दी भाषा")
    for filler in ("भा", "षा", "हि", "न्दी"):
        chunk_table.add(filler)
    assert [item for item, _ in chunk_table.keywords.search("भाषा", 5)] == [row]


def test_an_unknown_tokenizer_is_named() -> None:
    with pytest.raises(InputError, match="Did you mean 'porter'"):
        KeywordIndex(sqlite3.connect(":memory:"), tokenizer="poter")  # type: ignore[arg-type]


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "lang": st.sampled_from(["en", "de", "ü", "", "a'b", 'q"', "\\", "\U0001f600"]),
    "year": st.one_of(st.integers(-3, 3), st.sampled_from([2**63 - 1, -(2**63), 2**53 + 1, 2**53])),
    "price": st.one_of(st.sampled_from([0.1, 0.2, 0.1 + 0.2, 0.3, -0.0, 5e-324, 1e308, 1e16]), st.floats(-9, 9)),
    "open": st.booleans(),
    "na me": st.integers(0, 1),
}
RECORDS = st.fixed_dictionaries({}, optional=FIELDS)


def _comparisons() -> st.SearchStrategy[Filter]:
    def of(name: str) -> st.SearchStrategy[Filter]:
        one = FIELDS[name]
        equal = st.builds(Compare, st.just(name), st.just("eq"), one)
        among = st.builds(Compare, st.just(name), st.just("in"), st.lists(one, max_size=3).map(tuple))
        there = st.builds(Compare, st.just(name), st.just("exists"), st.just(True))
        order = st.builds(Compare, st.just(name), st.sampled_from(["gt", "gte", "lt", "lte"]), one)
        return st.one_of(equal, among, there, *([] if name == "open" else [order]))

    own: list[st.SearchStrategy[Filter]] = [
        st.builds(Compare, st.just("ordinal"), st.sampled_from(["eq", "gt", "lte"]), st.integers(0, 4)),
        st.builds(Compare, st.just("document"), st.just("in"), st.lists(st.sampled_from("abc")).map(tuple)),
    ]
    return st.one_of(*map(of, FIELDS), *own)


FILTERS = st.recursive(
    _comparisons(),
    lambda part: st.one_of(
        st.builds(All, st.lists(part, max_size=3).map(tuple)),
        st.builds(Either, st.lists(part, max_size=3).map(tuple)),
        st.builds(Not, part),
    ),
    max_leaves=6,
)


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from("abc"), RECORDS), min_size=1, max_size=5), FILTERS)
@settings(max_examples=150, deadline=None)
def test_sql_holds_where_the_filter_does(stored: list[tuple[str, dict[str, Any]]], where: Filter) -> None:
    chunk_table = ChunkTable()
    records = [Record(str(at), document, "v", at, "word", fields) for at, (document, fields) in enumerate(stored)]
    for record in records:
        chunk_table.add("word", record=record)
    sql, values = filter_to_sql(where)
    ids = {row[0] for row in chunk_table.connection.execute(f"SELECT id FROM chunks WHERE {sql}", values)}
    searched = chunk_table.keywords.records([row for row, _ in chunk_table.keywords.search("word", 9, where)])
    chunk_table.connection.close()
    expected = {record.id for record in records if matches(where, record.filterable)}
    assert ids == expected
    assert {record.id for record in searched.values()} == expected


def test_wide_filters(open_table: Callable[..., ChunkTable]) -> None:
    chunk_table = open_table()
    row = chunk_table.add("word", record=Record("7", "d", "v", 7, "word"))
    many = Compare("id", "in", tuple(map(str, range(100_000))))
    assert chunk_table.keywords.search("word", 5, many)[0][0] == row
    assert chunk_table.keywords.search("word", 5, Either(tuple(Compare("ordinal", "eq", at) for at in range(5000))))
    with pytest.raises(InputError, match="too many conditions"):
        chunk_table.keywords.search("word", 5, All(tuple(Compare("ordinal", "gt", -1) for _ in range(40_000))))


def test_records_are_the_chunks(open_table: Callable[..., ChunkTable]) -> None:
    chunk_table = open_table()
    record = Record("x", "doc", "v1", 3, "text", {"lang": "en", "year": 5}, {"title": "T", "start": 1, "end": 5})
    row = chunk_table.add("text", record=record)
    results = chunk_table.keywords.records([row, 999])[row]
    assert vars(results) == vars(record)


# -- fusion ----------------------------------------------------------------------------------------------------


def test_reciprocal_ranks_by_hand() -> None:
    scores = fusion.reciprocal({"a": ["x", "y"], "b": ["y", "z"]})
    assert scores == pytest.approx({"x": 1 / 61, "y": 1 / 62 + 1 / 61, "z": 1 / 62})
    assert fusion.reciprocal({"a": ["x"], "b": ["y"]}, weights={"b": 3.0}, k=1) == {"x": 0.5, "y": 1.5}
    assert fusion.reciprocal({}) == {}


def test_weighted_scores_by_hand() -> None:
    scores = {"dense": {"x": 0.9, "y": 0.5, "z": 0.1}, "bm25": {"y": 12.0, "w": 4.0}}
    assert fusion.weighted(scores) == pytest.approx({"x": 0.5, "y": 0.75, "z": 0.0, "w": 0.0})
    assert fusion.weighted(scores, weights={"bm25": 3.0}) == pytest.approx({"x": 0.25, "y": 0.875, "z": 0.0, "w": 0.0})
    assert fusion.scaled({"x": 2.0, "y": 2.0}) == {"x": 1.0, "y": 1.0}
    assert fusion.weighted({"dense": {}, "bm25": {"x": 3.0}}) == {"x": 0.5}


# -- variety ---------------------------------------------------------------------------------------------------


def test_mmr_by_hand() -> None:
    vectors = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    picked, values = mmr.select(np.array([1.0, 0.9, 0.4]), vectors, 3, 0.5)
    assert picked == [0, 2, 1]
    assert values == pytest.approx([0.5, 0.2, -0.05])
    assert mmr.select(np.array([1.0, 0.9, 0.4]), vectors, 2, 1.0)[0] == [0, 1]
    assert mmr.select(np.zeros(0), np.zeros((0, 2)), 3, 0.5) == ([], [])


@pytest.mark.parametrize("balance", [0.0, 0.3, 0.7, 1.0])
def test_mmr_is_the_reference_library_s(balance: float) -> None:
    library = pytest.importorskip("langchain_core.vectorstores.utils")
    random = np.random.default_rng(3)
    vectors, query = random.random((40, 8)), random.random(8)
    expected = library.maximal_marginal_relevance(query, list(vectors), lambda_mult=balance, k=12)
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    if balance == 0:  # the library begins with the nearest one whatever the balance is
        expected, cosines = expected, np.where(np.arange(40) == expected[0], 1e9, 0.0)
        balance = 1e-12
    picked, values = mmr.select(cosines, vectors, 12, balance)
    assert picked == expected
    assert values == sorted(values, reverse=True)


# -- highlights ------------------------------------------------------------------------------------------------


def test_sentences_lie_where_they_are_said_to() -> None:
    text = "  Dr. Smith left.  He 😀 ran!\n\nA new part\nin two lines. "
    assert [text[start:end] for start, end in highlighting.sentences(text)] == [
        "Dr. Smith left.",
        "He 😀 ran!",
        "A new part\nin two lines.",
    ]
    assert highlighting.sentences("") == []
    assert highlighting.sentences(" \n\n ") == []


def test_highlights_share_words_with_the_query() -> None:
    texts = ["Cats sleep a lot. Dogs run in parks. It rained.", "Nothing of that here. Really nothing.", "A dog sat."]
    first, second, third = highlighting.by_words("Where do dogs run?", texts)
    assert texts[0][slice(*first[0])] == "Dogs run in parks."
    assert len(first) == 1
    assert second == ()
    assert third == ((0, 10),)
    assert highlighting.by_words("cats", []) == []


def test_the_best_places_come_first() -> None:
    scores = {(0, 5): 1.0, (6, 9): 2.0, (10, 12): 0.9, (13, 15): 1.0, (16, 18): 1.1}
    assert highlighting.best_places(scores) == ((6, 9), (16, 18), (0, 5))
    assert highlighting.best_places(scores, 0.9) == ((6, 9),)
    assert highlighting.best_places({}) == ()


# -- all of them together --------------------------------------------------------------------------------------

VOCABULARY = ("cat", "dog", "fish", "bird", "red", "blue", "house", "tree")
TEXTS = {
    "a": "The cat sat in the red house. A dog came.",
    "b": "The dog ran. The dog saw a cat and a bird.",
    "c": "A blue fish and a red fish.",
    "d": "A bird sat in the tree. The tree was blue.",
    "e": "The house is blue. A cat and a cat and a dog.",
    "f": "Nothing is said here of animals.",
}
IDS = {name: str(uuid.uuid5(uuid.NAMESPACE_URL, name)) for name in TEXTS}
NAMES = {key: name for name, key in IDS.items()}


def counted(text: str) -> np.ndarray[Any, Any]:
    """Encode a text as the counts of known words, and a little of everything."""
    results = [word.strip(".?!,").lower().rstrip("s") for word in text.split()]
    return np.array([results.count(word) + 0.01 for word in VOCABULARY], np.float32)


def dense(texts: Sequence[str]) -> np.ndarray[Any, Any]:
    rows = np.stack([counted(text) for text in texts])
    scaled: np.ndarray[Any, Any] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled


def sparse(texts: Sequence[str]) -> list[Any]:
    rows = [np.floor(counted(text)) for text in texts]
    return [(np.flatnonzero(row), row[row > 0]) for row in rows]


def several(texts: Sequence[str]) -> list[Any]:
    words_of = [[word for word in text.split() if counted(word).max() > 1] for text in texts]
    return [
        np.concatenate([dense([word]) for word in results] or [np.zeros((0, 8), np.float32)]) for results in words_of
    ]


def bits(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.packbits(rows > 0.1, axis=1)


FEATURES: dict[str, tuple[dict[str, Any], Callable[..., Any], str | None, Any]] = {
    "dense": ({"kind": "dense", "dimensions": 8}, dense, None, None),
    "short": ({"kind": "dense", "dimensions": 4}, lambda texts: dense(texts)[:, :4], "dense", lambda rows: rows[:, :4]),
    "bits": ({"kind": "dense", "dimensions": 8, "dtype": "binary"}, lambda texts: bits(dense(texts)), "dense", bits),
    "sparse": ({"kind": "sparse", "dimensions": 8, "metric": "dot"}, sparse, None, None),
    "tokens": ({"kind": "multivector", "dimensions": 8, "metric": "dot"}, several, None, None),
}


class Counting:
    """Counts the calls of an encoder, and the texts in them."""

    def __init__(self, encode: Callable[..., Any]) -> None:
        self.encode = encode
        self.calls: list[int] = []

    def __call__(self, texts: Sequence[str]) -> Any:
        self.calls.append(len(texts))
        return self.encode(texts)


class Overlap:
    """A cross-encoder in its place: the share of the query's words that the document has, the most of them last."""

    def __init__(self) -> None:
        self.pairs: list[int] = []

    def score(self, query: Sequence[str], documents: Sequence[str]) -> list[float]:
        self.pairs.append(len(query))
        return [-float(counted(one) @ counted(other)) for one, other in zip(query, documents, strict=True)]


class Place:
    """A small collection of all kinds of features, and what was counted of it."""

    def __init__(self, chunk_table: ChunkTable, names: Sequence[str], **options: Any) -> None:
        self.store: Store = connect("memory:")
        self.calls = {name: Counting(FEATURES[name][1]) for name in names}
        self.documents = Counting(dense)
        self.reranker = Overlap()
        features = {name: self._feature(name) for name in names}
        for name, text in TEXTS.items():
            record = _record(name, text)
            chunk_table.add(text, record=record, context="" if name != "f" else "cat")
        options = {"load_reranker": lambda _: self.reranker, **options}
        self.searcher = Searcher(self.store, features, options.pop("keywords", chunk_table.keywords), **options)

    def _feature(self, name: str) -> Searchable:
        spec, encode, of, shape = FEATURES[name]
        table = TableSpec(name, fields={"lang": "str", "size": "int"}, **spec)
        self.store.create(table)
        vectors = encode(list(TEXTS.values()))
        rows = zip(TEXTS.items(), vectors, strict=True)
        self.store.upsert(table, [_record(key, text, vector) for (key, text), vector in rows])
        return Searchable(table, self.calls[name], of=of, shape=shape, encode_documents=self.documents)

    def names(self, query: str, k: int = 10, **options: Any) -> list[str]:
        return [NAMES[item.id] for item in self.searcher.search(query, k, **options)]


def _record(name: str, text: str, vector: Any = None) -> Record:
    fields = {"lang": "en" if name in "abc" else "de", "size": len(text)}
    payload = {"title": f"Title {name}", "start": 3, "end": 3 + len(text), "page": 2, "headings": ["H"]}
    return Record(IDS[name], f"files:/x#{name}", "v", 0, text, fields, payload, vector)


@pytest.fixture
def place(open_table: Callable[..., ChunkTable]) -> Place:
    """A collection with every kind of feature."""
    return Place(open_table(), list(FEATURES))


def _cosines(query: str) -> dict[str, float]:
    rows = dense(list(TEXTS.values())).astype(float)
    return dict(zip(TEXTS, (rows @ dense([query])[0]).tolist(), strict=True))


def _ranked(scores: Mapping[str, float]) -> list[str]:
    return sorted(scores, key=lambda name: (-scores[name], IDS[name]))


QUERIES = ("a cat and a dog", "red fish", "the bird in the blue tree", "dog", "house")


@pytest.mark.parametrize("query", QUERIES)
def test_dense_is_the_cosine(place: Place, query: str) -> None:
    results = place.searcher.search(query, 6, mode="dense")
    expected = _cosines(query)
    assert [NAMES[hit.id] for hit in results] == _ranked(expected)
    assert [hit.score for hit in results] == pytest.approx(sorted(expected.values(), reverse=True), abs=1e-6)


@pytest.mark.parametrize("query", QUERIES)
def test_sparse_is_the_product(place: Place, query: str) -> None:
    counts = {name: np.floor(counted(text)) @ np.floor(counted(query)) for name, text in TEXTS.items()}
    assert place.names(query, 6, mode="sparse") == _ranked(counts)


@pytest.mark.parametrize("query", QUERIES)
def test_multivector_is_maxsim(place: Place, query: str) -> None:
    query_vectors = several([query])[0]
    scores = {
        name: float((query_vectors @ rows.T).max(1).sum()) if len(rows) else 0.0
        for name, rows in zip(TEXTS, several(list(TEXTS.values())), strict=True)
    }
    results = place.searcher.search(query, 6, mode="multivector")
    assert [hit.score for hit in results] == pytest.approx(sorted(scores.values(), reverse=True), abs=1e-6)
    reranked = place.searcher.search(query, 6, mode="dense", rerank="multivector")
    assert {item.id: item.score for item in reranked} == pytest.approx({hit.id: hit.score for hit in results})
    assert place.names(query, 6, mode="dense", rerank="maxsim") == [NAMES[item.id] for item in reranked]


@pytest.mark.parametrize("fuse", ["rrf", "weighted"])
@pytest.mark.parametrize("query", QUERIES)
def test_hybrid_fuses_its_rankings(open_table: Callable[..., ChunkTable], query: str, fuse: str) -> None:
    place = Place(open_table(), ["dense"])
    rankings = {name: place.searcher.search(query, 6, mode=name) for name in ("dense", "bm25")}
    if fuse == "rrf":
        scores = fusion.reciprocal({name: [item.id for item in row] for name, row in rankings.items()})
    else:
        scores = fusion.weighted({name: {item.id: item.score for item in row} for name, row in rankings.items()})
    results = place.searcher.search(query, 6, mode="hybrid", fuse=fuse)
    assert {hit.id: hit.score for hit in results} == pytest.approx(scores)
    assert [hit.id for hit in results] == sorted(scores, key=lambda key: (-scores[key], key))


def test_hybrid_takes_the_sparse_feature_before_bm25(place: Place) -> None:
    stages = place.searcher.search("cat", 1, mode="hybrid", explain=True)[0].stages
    assert set(stages) == {"dense", "sparse", "fused"}


def test_weights_of_rankings(open_table: Callable[..., ChunkTable]) -> None:
    place, query = Place(open_table(), ["dense"]), "the bird in the blue tree"
    for name in ("dense", "bm25"):
        other = "bm25" if name == "dense" else "dense"
        only = place.names(query, 3, mode="hybrid", weights={other: 0})
        assert only == place.names(query, 3, mode=name)


@pytest.mark.parametrize("short", ["short", "bits"])
def test_two_stages_score_by_whole_vectors(open_table: Callable[..., ChunkTable], short: str) -> None:
    place, query = Place(open_table(), ["dense", short]), "a cat and a dog"
    results = place.searcher.search(query, 2, mode="two-stage", depth=4, explain=True)
    first = place.names(query, 4, mode=short)
    expected = {name: score for name, score in _cosines(query).items() if name in first}
    assert [NAMES[hit.id] for hit in results] == _ranked(expected)[:2]
    for hit in results:
        assert hit.score == pytest.approx(expected[NAMES[hit.id]], abs=1e-6)
        assert hit.stages[short]["rank"] == first.index(NAMES[hit.id]) + 1
    assert place.calls["dense"].calls == [1]
    assert place.names(query, 6, mode="two-stage") == place.names(query, 6, mode="dense")


def test_auto_is_hybrid_where_that_can_be(open_table: Callable[..., ChunkTable]) -> None:
    def stages(names: Sequence[str], **options: Any) -> set[str]:
        return set(Place(open_table(), names, **options).searcher.search("cat", explain=True)[0].stages)

    assert stages(["dense"]) == {"dense", "bm25", "fused"}
    assert stages(["dense"], keywords=None) == {"dense"}
    assert stages(["sparse"]) == {"bm25"}
    assert stages(["sparse"], keywords=None) == {"sparse"}


@pytest.mark.parametrize("mode", ["dense", "sparse", "bm25", "multivector", "hybrid", "two-stage", "bits", "auto"])
def test_filters_hold_in_each_mode(place: Place, mode: str) -> None:
    assert set(place.names("cat dog bird", mode=mode, where={"lang": "en"})) <= set("abc")
    assert place.names("cat dog bird", mode=mode, where={"document": "files:/x#e"}) == ["e"]
    assert place.names("cat dog bird", mode=mode, where={"size": {"gt": 10_000}}) == []
    assert set(place.names("cat", mode=mode, where=Not(Compare("lang", "eq", "en")))) <= set("def")


@pytest.mark.parametrize("mode", ["dense", "sparse", "bm25", "multivector", "hybrid", "two-stage", "bits"])
def test_many_queries_are_as_one_by_one_and_encoded_together(place: Place, mode: str) -> None:
    together = place.searcher.search_many(QUERIES, 4, mode=mode, explain=True)
    assert all(calls.calls in ([], [len(QUERIES)]) for calls in place.calls.values())
    assert together == [place.searcher.search(query, 4, mode=mode, explain=True) for query in QUERIES]
    assert place.searcher.search_many([], mode=mode) == []


def test_what_is_found_says_where_it_stands(place: Place) -> None:
    results = place.searcher.search("red fish", 1, mode="dense")[0]
    assert results == SearchHit(
        id=IDS["c"],
        document="files:/x#c",
        score=results.score,
        text=TEXTS["c"],
        title="Title c",
        start=3,
        end=3 + len(TEXTS["c"]),
        page=2,
        last_page=2,
        headings=("H",),
        fields={"lang": "en", "size": len(TEXTS["c"])},
    )
    assert place.searcher.search("red fish", 1, mode="bm25")[0].headings == ("H",)


def test_a_cross_encoder_scores_all_pairs_at_once(place: Place) -> None:
    results = place.searcher.search_many(
        ["cat", "dog"], 2, mode="dense", rerank="a-model", rerank_depth=3, explain=True
    )
    assert place.reranker.pairs == [6]
    for query, row in zip(("cat", "dog"), results, strict=True):
        first = place.names(query, 3, mode="dense")
        scores = {name: -float(counted(query) @ counted(TEXTS[name])) for name in first}
        assert [NAMES[item.id] for item in row] == _ranked(scores)[:2]
        assert [item.stages["rerank"]["rank"] for item in row] == [1, 2]
        assert [item.stages["dense"]["rank"] for item in row] == [first.index(NAMES[item.id]) + 1 for item in row]


def test_what_the_model_reads_is_reranked() -> None:
    from nearfield.corpus.search.reranking import by_pairs

    read: list[str] = []

    class Reads:
        def score(self, query: Sequence[str], documents: Sequence[str]) -> list[float]:
            read.extend(documents)
            return [1.0] * len(documents)

    record = Record("x", "d", "v", 0, "text", {}, {"context": "Guide"})
    assert by_pairs(Reads(), ["q"], [[record]]) == [{"x": 1.0}]
    assert read == ["Guide\ntext"]
    assert by_pairs(Reads(), ["q"], [[]]) == [{}]

    class Labels(Reads):
        def score(self, query: Sequence[str], documents: Sequence[str]) -> Any:
            return np.ones((len(documents), 3))

    with pytest.raises(InputError, match="3 scores for each pair"):
        by_pairs(Labels(), ["q"], [[record]])


def test_variety(place: Place) -> None:
    query = "a cat and a dog"
    plain = place.names(query, 3, mode="dense")
    assert place.names(query, 3, mode="dense", mmr=1.0) == plain
    varied = place.searcher.search(query, 3, mode="dense", mmr=0.3, explain=True)
    assert NAMES[varied[0].id] == plain[0]
    assert [NAMES[item.id] for item in varied] != plain
    assert [item.stages["mmr"]["rank"] for item in varied] == [1, 2, 3]
    assert [item.score for item in varied] == sorted((item.score for item in varied), reverse=True)


def test_highlights_are_places_of_the_text(place: Place) -> None:
    for highlight in (True, "words", "meaning"):
        results = place.searcher.search("bird and cat", 6, mode="dense", highlight=highlight)
        best = {NAMES[hit.id]: [hit.text[slice(*span)] for span in hit.highlights] for hit in results}
        assert best["b"][0] == "The dog saw a cat and a bird."
    assert place.searcher.search("cat", 1, mode="dense")[0].highlights == ()


def test_sentences_are_encoded_once(place: Place) -> None:
    place.searcher.search_many(["cat", "dog", "bird"], 3, mode="dense", rerank="sentences", highlight="meaning")
    total = sum(len(highlighting.sentences(text)) for text in TEXTS.values())
    assert place.documents.calls == [total]


def test_the_space_of_queries_is_checked(tiny: Encoder, open_table: Callable[..., ChunkTable]) -> None:
    table = TableSpec("dense", "dense", tiny.dimensions)
    store = connect("memory:")
    store.create(table)
    vectors = tiny.encode_document(["the cat sat", "a blue dog"])
    store.upsert(table, [Record(str(at), "d", "v", at, "t", {}, {}, row) for at, row in enumerate(vectors)])
    right = Searchable(table, tiny.encode_query, fingerprint=tiny.fingerprint)
    assert len(Searcher(store, {"dense": right}).search("cat", mode="dense")) == 2
    wrong = Searchable(table, lambda texts: tiny.encode_query(texts, truncate_dim=16, force_truncate_dim=True))
    other = Searchable(table, wrong.encode_queries, fingerprint=tiny.fingerprint)
    with pytest.raises(SpaceMismatch, match="cannot be compared"):
        Searcher(store, {"dense": other}).search("cat", mode="dense")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"mode": "densse"}, "Did you mean 'dense'"),
    ({"mode": "sparse"}, r'features\.sparse = {kind = "sparse"'),
    ({"mode": "multivector"}, r'features\.tokens = {kind = "multivector"'),
    ({"mode": "two-stage"}, r'features\.short = {of = "dense"'),
    ({"rerank": "multivector"}, r"Rerank 'multivector' needs a multivector feature"),
    ({"k": 0}, "from 1 to 1,000"),
    ({"k": 1001}, "from 1 to 1,000"),
    ({"k": True}, "whole number"),
    ({"k": 2.5}, "whole number"),
    ({"rerank": "x", "rerank_depth": 0}, "rerank_depth"),
    ({"depth": 0}, "depth"),
    ({"mmr": 1.5}, "mmr is a number from 0 to 1"),
    ({"mmr": float("nan")}, "mmr is a number"),
    ({"fuse": "rff"}, "Did you mean 'rrf'"),
    ({"highlight": "meanings"}, "Did you mean 'meaning'"),
    ({"weights": {"bm52": 1}}, "Did you mean 'bm25'"),
    ({"weights": {"bm25": -1}}, "weights is a number"),
    ({"weights": {"bm25": 0, "dense": 0}}, "one must be above"),
    ({"where": {"lnag": "en"}}, "Did you mean 'lang'"),
    ({"where": {"size": "big"}}, "has a whole number as its value"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_options_say_what_to_do(
    open_table: Callable[..., ChunkTable], options: dict[str, Any], message: str
) -> None:
    place = Place(open_table(), ["dense"])
    with pytest.raises(InputError, match=message):
        place.searcher.search("cat", **{"mode": "hybrid", **options})
    assert place.calls["dense"].calls == []


@pytest.mark.parametrize("query", ["", "  \n", 5, None])
def test_no_query_is_refused(place: Place, query: Any) -> None:
    with pytest.raises(InputError, match="Query 1 is"):
        place.searcher.search_many(["cat", query])
    with pytest.raises(InputError, match="list of texts"):
        place.searcher.search_many("cat")


def test_what_is_not_at_hand_is_named(open_table: Callable[..., ChunkTable]) -> None:
    bare = Place(open_table(), ["dense"], keywords=None, load_reranker=None)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"mode": "bm25"}, "keyword index"),
        ({"mode": "hybrid"}, "features.sparse"),
        ({"rerank": "sentence"}, "Did you mean 'sentences'"),
    ]
    for options, message in refused:
        with pytest.raises(InputError, match=message):
            bare.searcher.search("cat", **options)
    with pytest.raises(InputError, match=r"features\.dense"):
        Place(open_table(), ["sparse"]).searcher.search("cat", mode="sparse", mmr=0.5)
