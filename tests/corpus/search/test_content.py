"""Searches by pictures, by chunks and by several parts, and over chunks of several kinds, with vectors set by hand."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.corpus.search.content.query import LikeChunks, parse_queries
from nearfield.corpus.search.content.surprise import SurpriseScale, chance_shares
from nearfield.corpus.search.hit import SearchHit
from nearfield.corpus.search.relevance import RelevanceScale
from nearfield.corpus.search.searcher import Searchable, Searcher
from nearfield.errors import InputError
from nearfield.media.audio import Audio
from nearfield.media.content import MixedContent
from nearfield.media.image import Image
from nearfield.stores import Record, TableSpec, connect, exact
from tests.corpus.search.test_search import ChunkTable

WIDTH = 24
FIELDS = {"kind": "str", "page": "int", "duration": "float"}
SHAPE = Image(np.zeros((2, 2, 3), np.uint8))
RANDOM = np.random.default_rng(7)


def toward(axes: Mapping[int, float]) -> np.ndarray[Any, Any]:
    """Return a unit vector with these cosines to axes, and a random rest beyond the first eight axes."""
    vector = np.zeros(WIDTH)
    for axis, cosine in axes.items():
        vector[axis] = cosine
    rest = np.zeros(WIDTH)
    rest[8:] = RANDOM.standard_normal(WIDTH - 8)
    left = max(0.0, 1 - float(vector @ vector))
    return np.asarray(vector + rest / np.linalg.norm(rest) * left**0.5, np.float32)


class World:
    """A collection of texts and pictures, each with a feature whose encoder returns vectors that are set by hand."""

    def __init__(self) -> None:
        self.store = connect("memory:")
        self.rows = ChunkTable()
        self.rows.keywords.leave_out_media()
        self.vectors: dict[Any, np.ndarray[Any, Any]] = {}
        self.tables = {
            "text": TableSpec("text", "dense", WIDTH),
            "visual": TableSpec("visual", "dense", WIDTH, fields=FIELDS),  # type: ignore[arg-type]
        }
        for table in self.tables.values():
            self.store.create(table)
        self.reads: dict[str, tuple[str, ...]] = {"text": ("text",), "visual": ("image", "page")}
        self.encoded: list[Any] = []

    def _encode(self, items: Sequence[Any]) -> list[Any]:
        self.encoded += items
        return [self.vectors.get(item if isinstance(item, str) else id(item), toward({0: 0.5})) for item in items]

    def add(
        self, name: str, vector: Any, *, document: str = "", kind: str = "text", text: str = "", **place: Any
    ) -> str:
        """Add a chunk, and return its id."""
        key = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
        payload = {**place, **({} if kind == "text" else {"kind": kind})}
        fields = {**payload} if kind != "text" else {}
        record = Record(key, document or f"d:#{name}", "v", 0, text, {}, payload, vector)
        if kind == "text":
            self.rows.add(text or name, record=Record(key, record.document, "v", 0, text or name, {}, payload))
        else:
            columns = (key, record.document, "v", 0, "", "", json.dumps(fields), json.dumps(payload))
            self.rows.connection.execute("INSERT INTO chunks VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, 0)", columns)
            record = Record(key, record.document, "v", 0, "", fields, payload, vector)
        self.store.upsert(self.tables["text" if kind == "text" else "visual"], [record])
        return key

    def fill(self, texts: tuple[float, float], pictures: tuple[float, float], count: int = 40) -> None:
        """Add texts and pictures whose cosines to the first axis are spread between two values."""
        for number in range(count):
            share = (number + 0.5) / count
            self.add(f"text{number}", toward({0: texts[0] + share * (texts[1] - texts[0])}))
            self.add(f"photo{number}", toward({0: pictures[0] + share * (pictures[1] - pictures[0])}), kind="image")

    def searcher(self) -> Searcher:
        features = {
            "text": Searchable(self.tables["text"], self._encode, model="words", encode_documents=self._encode),
            "visual": Searchable(
                self.tables["visual"],
                self._encode,
                model="eyes",
                reads=self.reads["visual"],
                modalities=("text", "image"),
                encode_media=self._encode,
            ),
        }
        relevance = RelevanceScale(self.store, features, self.rows.keywords)
        fields: Any = FIELDS
        return Searcher(self.store, features, self.rows.keywords, fields=fields, relevance=relevance)

    def search(self, query: Any, k: int = 10, **options: Any) -> list[SearchHit]:
        return self.searcher().search(query, k, **options)


@pytest.fixture
def world() -> Iterator[World]:
    created = World()
    created.vectors["a red car"] = toward({0: 1.0})
    yield created
    created.rows.connection.close()


# -- comparison of kinds ---------------------------------------------------------------------------------------


def test_a_picture_that_stands_out_precedes_texts_with_higher_cosines(world: World) -> None:
    world.fill((0.4, 0.6), (0.18, 0.24))
    right = world.add("car", toward({0: 0.33}), kind="image")
    raw = {}
    for name, table in world.tables.items():
        for hit in world.store.search(table, [world.vectors["a red car"]], 50)[0]:
            raw[hit.record.id] = (hit.score, name)
    assert max(raw.values())[1] == "text" and raw[right][0] < 0.34  # by raw scores, 41 texts precede it
    hits = world.search("a red car", 20, explain=True)
    assert hits[0].id == right and hits[0].score > 0.9
    assert hits[0].stages["kinds"]["rank"] == 1
    assert all(hit.score < 0.5 for hit in hits[1:])


def test_a_text_that_stands_out_precedes_pictures(world: World) -> None:
    world.fill((0.4, 0.6), (0.18, 0.24))
    right = world.add("auto", toward({0: 0.9}))
    hits = world.search("a red car", 20)
    assert hits[0].id == right and hits[0].score > 0.9
    assert all(hit.score < 0.5 for hit in hits[1:])
    assert {hit.kind for hit in hits} == {"text", "image"}


def test_many_pictures_that_match_are_no_chance() -> None:
    ordinary = np.random.default_rng(1).normal(0.2, 0.02, 200)
    (alone,) = chance_shares(np.array([0.25]), ordinary, 1000)
    many = chance_shares(np.linspace(0.26, 0.25, 50), ordinary, 1000)
    assert alone > 1 > 0.3 > many[-1]
    assert many == sorted(many)


def test_one_kind_in_a_table_does_not_hide_another(world: World) -> None:
    world.reads["visual"] = ("text", "image")
    features = world.tables["visual"]
    world.fill((0.4, 0.6), (0.18, 0.24))
    right = world.add("car", toward({0: 0.33}), kind="image")
    texts = [
        Record(f"00000000-0000-0000-0000-{n:012}", "d:#x", "v", n, "x", {}, {}, toward({0: 0.7})) for n in range(150)
    ]
    world.store.upsert(features, texts)  # 150 texts with higher cosines fill any list of 100
    assert right in {hit.id for hit in world.search("a red car", 200, mode="visual")}


@pytest.mark.parametrize("fuse", ["rrf", "weighted"])
def test_few_pictures_are_compared_with_unrelated_texts(world: World, fuse: str) -> None:
    for number in range(3):
        world.add(f"photo{number}", toward({0: 0.01 * number}), kind="image")
    right = world.add("car", toward({0: 0.9}), kind="image")
    hits = world.search("a red car", 5, fuse=fuse)
    assert hits[0].id == right and hits[0].score > 0.5 > hits[1].score


# -- queries of several parts ------------------------------------------------------------------------------------


def test_parts_of_one_space_are_added_with_their_weights(world: World) -> None:
    world.vectors[id(SHAPE)], world.vectors["but in red"] = toward({1: 1.0}), toward({2: 1.0})
    names = {
        world.add("same", toward({1: 0.95}), kind="image"): "same",
        world.add("red", toward({1: 0.7, 2: 0.7}), kind="image"): "red",
        world.add("other red", toward({2: 0.95}), kind="image"): "other red",
    }
    world.fill((0.0, 0.1), (0.0, 0.1), 20)

    def first(weights: Sequence[float]) -> str:
        (query,) = parse_queries([[SHAPE, "but in red"]], weights=weights)
        return names[world.search(query, 1, mode="visual")[0].id]

    assert names[world.search(SHAPE, 1)[0].id] == "same"
    assert [first(weights) for weights in ([1, 1], [10, 1], [1, 10])] == ["red", "same", "other red"]
    together = MixedContent((SHAPE, "but in red"))  # for a model that does not read them together
    assert names[world.search(together, 1, mode="visual")[0].id] == "red"


def test_a_text_beside_a_picture_searches_words_too(world: World) -> None:
    world.vectors[id(SHAPE)] = toward({1: 1.0})
    world.fill((0.0, 0.1), (0.0, 0.1), 20)
    words = world.add("w", toward({}), text="zebra crossing")
    picture = world.add("p", toward({1: 0.9}), kind="image")
    hits = world.search([SHAPE, "zebra"], 4, explain=True)
    assert {picture, words} <= {hit.id for hit in hits}
    found = next(hit for hit in hits if hit.id == words)
    assert "bm25" in found.stages and found.score <= 0.5  # it is half of the query at most


def test_chunks_of_the_collection_are_queries_by_their_vectors(world: World) -> None:
    liked = world.add("liked", toward({3: 1.0}), kind="image")
    near = world.add("near", toward({3: 0.8}), kind="image")
    world.fill((0.0, 0.1), (0.0, 0.1), 20)
    (query,) = parse_queries([None], likes=[LikeChunks("it", (liked,), ("image",))])
    hits = world.search(query, 50)
    assert hits[0].id == near and hits[0].score > 0.5 > hits[1].score
    assert liked not in {hit.id for hit in hits}
    assert {hit.kind for hit in hits} == {"image"} and world.encoded == []


def test_a_document_is_left_out_as_a_whole(world: World) -> None:
    ids = [world.add(f"part{n}", toward({3: 0.9}), kind="page", document="d:#book", page=n) for n in range(1, 4)]
    world.fill((0.0, 0.1), (0.0, 0.1), 20)
    (query,) = parse_queries([None], likes=[LikeChunks("it", (ids[0],), ("page",), "d:#book")])
    assert not {hit.id for hit in world.search(query, 50)} & set(ids)


@pytest.mark.parametrize("kind", ["dense", "binary", "sparse", "multivector"])
def test_joined_vectors_score_as_the_weighted_sum(kind: str) -> None:
    from nearfield.corpus.search.content.query_vectors import join_vectors

    rows = RANDOM.standard_normal((5, 16)).astype(np.float32)
    table = TableSpec("t", kind if kind in ("sparse", "multivector") else "dense", 16)  # type: ignore[arg-type]
    if kind == "binary":
        table = TableSpec("t", "dense", 16, dtype="binary")
        joined = join_vectors(table, [(np.packbits(rows[0] > 0), 3.0), (np.packbits(rows[1] > 0), 1.0)])
        assert joined.tolist() == np.packbits(rows[0] > 0).tolist()  # the heavier one decides each bit
        return
    if kind == "dense":
        one, two, other = rows[0], 9 * rows[1], rows[2]
    elif kind == "sparse":
        one, two, other = ((np.flatnonzero(row > 0), row[row > 0]) for row in rows[:3])
    else:
        one, two, other = rows[:2], rows[2:3], rows[3:]
    parts = [float(exact.score(table, [part], [other])[0, 0]) for part in (one, two)]
    if kind == "sparse":
        parts = [value / float(np.linalg.norm(part[1])) for value, part in zip(parts, (one, two), strict=True)]
    if kind == "multivector":
        parts = [parts[0] / 2, parts[1]]
    joined = join_vectors(table, [(one, 1.0), (two, 3.0)])
    expected = 0.25 * parts[0] + 0.75 * parts[1]
    if kind == "dense":  # the sum has another length, which changes no order
        units = 0.25 * one / np.linalg.norm(one) + 0.75 * two / np.linalg.norm(two)
        expected /= float(np.linalg.norm(units))
    assert float(exact.score(table, [joined], [other])[0, 0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("query", "options", "message"),
    [
        (Audio(np.zeros(100, np.float32), rate=16000), {}, r"reads sounds: 'text' reads texts, 'visual' reads"),
        (SHAPE, {"mode": "text"}, r"searched by it: 'visual'"),
        (SHAPE, {"mode": "bm25"}, r"searched by it: 'visual'"),
        (SHAPE, {"rerank": "sentences"}, "the query has no text"),
        (SHAPE, {"highlight": "meaning"}, "it has none"),
        ([SHAPE, 3], {}, "is a text, Image"),
        ([SHAPE, b"x"], {}, r"give Image\(path=...\)"),
        (Path("shoe.jpg"), {}, r"give Image\(path=...\)"),
        (None, {}, "is empty: give a text"),
        ("x", {"group_by": "author"}, "document"),
        ("x", {"group_by": "document", "mmr": 0.5}, "leave it or group_by out"),
        ("x", {"group_by": "document", "others": -1}, "others"),
    ],
)
def test_queries_that_cannot_be_searched_are_refused(
    world: World, query: Any, options: dict[str, Any], message: str
) -> None:
    world.fill((0.0, 0.1), (0.0, 0.1), 3)
    with pytest.raises(InputError, match=message):
        world.search(query, 3, **options)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, float("nan")], "ab", [1.0, True], [1.0, 10**400]])
def test_wrong_weights_are_refused(weights: Any) -> None:
    with pytest.raises(InputError, match="part_weights"):
        parse_queries([[SHAPE, "red"]], weights=weights)


# -- folded results ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "page"])
def test_groups_by_document(world: World, kind: str) -> None:
    book = [
        world.add(f"b{n}", toward({0: 0.9 - n / 1000}), kind=kind, document="d:#book", page=n) for n in range(1, 61)
    ]
    other = [
        world.add(f"o{n}", toward({0: 0.5 - n / 1000}), kind=kind, document=f"d:#o{n}", page=1) for n in range(1, 4)
    ]
    mode = "text" if kind == "text" else "visual"
    hits = world.search("a red car", 3, mode=mode, group_by="document", others=2)
    assert [hit.id for hit in hits] == [book[0], other[0], other[1]]  # 59 more of the book are no documents
    assert [hit.id for hit in hits[0].others] == book[1:3] and hits[1].others == ()
    assert [hit.id for hit in world.search("a red car", 3, mode=mode)] == book[:3]


def test_text_and_picture_of_a_page_are_one_result(world: World) -> None:
    world.fill((0.4, 0.6), (0.18, 0.24))
    text = world.add("words", toward({0: 0.85}), document="d:#a.pdf", page=3, last_page=4, text="a red car drives")
    page = world.add("seen", toward({0: 0.4}), document="d:#a.pdf", kind="page", page=4)
    elsewhere = world.add("else", toward({0: 0.39}), document="d:#a.pdf", kind="page", page=7)
    hits = world.search("a red car", 5, explain=True)
    by_id = {hit.id: hit for hit in hits}
    assert not {text, page} <= by_id.keys() and elsewhere in by_id
    joined = hits[0]
    (folded,) = joined.others
    assert {joined.id, folded.id} == {text, page}
    assert {"text", "visual", "place"} <= joined.stages.keys()
    assert joined.score >= folded.score
    assert "place" not in by_id[elsewhere].stages


def test_a_picture_comes_first_in_a_search_by_itself(world: World) -> None:
    """Pages that are all alike, but for one that is a little nearer, make that one stand out more than the picture."""
    world.vectors[id(SHAPE)] = toward({0: 1.0})
    for number in range(8):
        world.add(f"page{number}", toward({0: 0.1 + number / 1000}), kind="page")
        world.add(f"photo{number}", toward({0: 0.2 + number / 10}), kind="image")
    itself, page = world.add("same", toward({0: 1.0}), kind="image"), world.add("page", toward({0: 0.4}), kind="page")
    first, second, *_ = world.search(SHAPE, 5)
    assert (first.id, first.score) == (itself, 1.0) and (second.id, second.score) == (page, 0.99)


def test_samples_are_of_the_kind(world: World) -> None:
    world.fill((0.4, 0.6), (0.18, 0.24), 10)
    searcher = world.searcher()
    scale = SurpriseScale(world.store, searcher._features, world.rows.keywords)
    assert len(scale._sample("visual", "image")) == 10
    assert scale._sample("visual", "page") == []
    assert world.rows.keywords.count_kind("image") == world.rows.keywords.count_kind("text") == 10


def test_copies_count_once_in_what_is_ordinary(world: World) -> None:
    """Without that, most of the sample would be copies of one picture, and the spread around it nothing."""
    copy = toward({0: 0.2})
    for number in range(30):
        world.add(f"copy{number}", copy, kind="image")
    for number in range(10):
        world.add(f"photo{number}", toward({0: 0.3 + number / 100}), kind="image")
    searcher = world.searcher()
    scale = SurpriseScale(world.store, searcher._features, world.rows.keywords)
    assert len(scale._sample("visual", "image")) == 11


def test_a_query_may_have_queries_in_it() -> None:
    (nested,), (flat,) = parse_queries([[["red", SHAPE], "shoe"]]), parse_queries([["red", SHAPE, "shoe"]])
    assert nested == flat and len(flat.parts) == 3
