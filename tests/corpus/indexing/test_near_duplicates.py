"""Near-duplicates: texts of the same words are stored once, and nothing that a search could find is lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.indexing.near_duplicates import NearDuplicateIndex
from nearfield.testing import write_tiny_model

INVOICE = (
    "Invoice of Acme Ltd for the delivery of parts to the plant in Lyon. The parts were delivered in good order, and "
    "were accepted by the plant. Please transfer the amount to our account at the bank of Lyon within thirty days. The "
    "parts remain our property until they are paid. The amount due is {amount}, and the delivery took place on {date}."
)


@pytest.fixture
def index() -> NearDuplicateIndex:
    duplicates = NearDuplicateIndex(sqlite3.connect(":memory:"))
    duplicates.create()
    duplicates.create()
    return duplicates


@pytest.mark.parametrize(
    "other",
    [
        "the  CAT sat\non the mat",
        "The cat sat on the mat.",
        "The cat (sat) on the mat;",
        "“The cat sat” on the mat",
        "'The cat sat' on the mat:",
    ],
)
def test_the_same_words_are_a_duplicate(index: NearDuplicateIndex, other: str) -> None:
    assert index.add("a", "one", "The cat sat on the mat") is None
    assert index.add("b", "two", other) == "a"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("1,234.50 EUR", "1,234.51 EUR", id="amount"),
        pytest.param("1,234.50", "1.234,50", id="separators"),
        pytest.param("10\u00b2 parts", "102 parts", id="exponent"),
        pytest.param("-5 degrees", "5 degrees", id="sign"),
        pytest.param("(1,200)", "1,200", id="negative-in-brackets"),
        pytest.param("3 May 2024", "3 May 2025", id="date"),
        pytest.param("signed by Ann", "signed by Anna", id="name"),
        pytest.param("must not pay", "must pay", id="negation"),
        pytest.param("paid weekly", "paid monthly", id="plain-word"),
        pytest.param("from Ann to Eve", "from Eve to Ann", id="order"),
        pytest.param("\u20ac50", "$50", id="currency"),
        pytest.param("5 mW", "5 MW", id="unit"),
        pytest.param("5%", "5\u2030", id="per-cent"),
        pytest.param("5'", '5"', id="feet"),
        pytest.param("https://a.org/x-y", "https://a.org/x_y", id="url"),
        pytest.param("call readFile()", "call readfile()", id="identifier"),
        pytest.param("x = 1", "x != 1", id="operator"),
        pytest.param("written in C++", "written in C", id="language"),
        pytest.param("[x] paid", "[ ] paid", id="box"),
        pytest.param("In Ma\u00dfen", "In Massen", id="letter"),
        pytest.param("\u4ed6\u6b20\u4e94\u767e\u5143", "\u4ed6\u6b20\u516d\u767e\u5143", id="no-spaces"),
        pytest.param(
            "\u0e23\u0e32\u0e04\u0e32 \u0e55\u0e50", "\u0e23\u0e32\u0e04\u0e32 \u0e56\u0e50", id="thai-digits"
        ),
    ],
)
@pytest.mark.parametrize("length", [0, 60])
def test_a_difference_that_a_search_could_find_is_no_duplicate(
    index: NearDuplicateIndex, one: str, other: str, length: int
) -> None:
    before = " ".join(f"word{number} and" for number in range(length))
    assert index.add("a", "one", f"{before} {one} {before}") is None
    assert index.add("b", "two", f"{before} {other} {before}") is None
    assert index.add("c", "three", f"{before}\n{other}  {before}") == "b"


def test_families_do_not_mix(index: NearDuplicateIndex) -> None:
    assert index.add("a", "one", "The cat sat.", "red") is None
    assert index.add("b", "two", "The cat sat.", "blue") is None
    assert index.add("c", "three", "The cat sat", "blue") == "b"
    assert index.remove(["two"]) == ["three"]
    assert index.add("d", "four", "The cat sat.", "blue") is None
    assert index.add("e", "four", "The cat sat.", "red") == "a"


def test_a_chunk_that_is_added_again_is_no_duplicate(index: NearDuplicateIndex) -> None:
    assert [index.add("a", "one", "A text.") for _ in range(2)] == [None, None]
    assert index.add("b", "one", "A text.") == "a"


def test_removal_returns_the_documents_with_duplicates(index: NearDuplicateIndex) -> None:
    for number, document in enumerate(("one", "one", "two", "three")):
        assert index.add(f"{document}{number}", document, f"text {number}") is None
    assert index.add("x", "four", "text 0") == "one0"
    assert index.add("y", "three", "Text 1") == "one1"
    assert index.add("z", "one", "text 0") == "one0"
    assert index.add("w", "five", "text 2") == "two2"
    assert index.remove(["two", "five"]) == []
    assert index.remove(["one"]) == ["four", "three"]
    assert index.remove(["one"]) == []
    assert index.add("new", "four", "text 0") is None
    assert index.add("newer", "three", "text 1") is None
    assert index.add("newest", "six", "text 3") == "three3"


def test_removal_leaves_no_rows(index: NearDuplicateIndex) -> None:
    for number in range(20):
        index.add(f"c{number}", f"d{number % 3}", f"text {number % 12}")
    index.remove(["d0", "d1", "d2"])
    assert [index._rows(f"SELECT count(*) FROM {table}")[0][0] for table in ("near_chunks", "near_repeats")] == [0, 0]


def test_all_is_done_in_the_callers_transaction() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    index = NearDuplicateIndex(connection)
    index.create()
    connection.execute("BEGIN")
    assert index.add("a", "one", "A text.") is None
    index.remove(["two"])
    assert connection.in_transaction
    connection.execute("ROLLBACK")
    assert index.add("b", "two", "A text.") is None


# -- collections -----------------------------------------------------------------------------------------------------


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    model = write_tiny_model(tmp_path / "tiny", length=512)
    config = {"features": {"dense": {"model": str(model)}}, "store": f"memory:{tmp_path}", "chunks": {"tokens": 440}}
    with Collection.create("bills", config, home=tmp_path / "home") as created:
        yield created


def bill(number: int) -> str:
    return INVOICE.format(amount=f"1,{number}99.50 EUR", date=f"{number} March 2024")


@pytest.mark.parametrize("query", ["1,499.50", "4 March"])
def test_each_invoice_of_a_template_is_found_by_its_own_amount_and_date(collection: Collection, query: str) -> None:
    report = collection.put([{"id": f"bill{number}", "text": bill(number)} for number in range(1, 6)])
    assert report.duplicates == 0
    assert all(document.chunks for document in collection.documents())
    (hit,) = collection.search(query, 1, mode="bm25")
    assert (hit.document, hit.also) == ("put:#bill4", ())


def test_the_same_text_under_another_heading_is_no_duplicate(collection: Collection) -> None:
    hours = "The branch opens at nine and closes at six, and it is closed on public holidays."
    cities = ("Oslo", "Bergen", "Lyon")
    collection.put([{"id": city, "text": hours, "title": f"Branch in {city}"} for city in cities])
    for city in cities:
        assert collection.search(f"hours {city}", 1, mode="bm25")[0].document == f"put:#{city}"


def test_texts_that_an_earlier_version_took_for_duplicates_are_indexed(collection: Collection, tmp_path: Path) -> None:
    collection.put([{"id": "a", "text": bill(1)}, {"id": "b", "text": bill(2)}, {"id": "c", "text": bill(2)}])
    manifest = collection.manifest
    (first,), (second,) = manifest.chunks("put:#a"), manifest.chunks("put:#b")
    with manifest.writing():  # as version 0.1 left it
        manifest.rows("UPDATE duplicates SET kept_chunk = ?", (first.id,))
        manifest.rows("UPDATE near_repeats SET kept_chunk = (SELECT number FROM near_chunks WHERE document = 'put:#a')")
        manifest.rows("DELETE FROM near_chunks WHERE chunk = ?", (second.id,))
        manifest.remove_chunks(["put:#b"])
        manifest.remove(["put:#b"])
        manifest.rows("UPDATE near_chunks SET exact = 0")
        manifest.rows("DELETE FROM meta WHERE key = 'duplicates_rule'")
        manifest.rows("DELETE FROM inline_documents WHERE key = 'b'")
    assert collection.search("1,299.50", 1, mode="bm25")[0].document == "put:#a"
    collection.index()
    assert collection.search("1,299.50", 1, mode="bm25")[0].document == "put:#c"
    assert manifest.counts()["repeats"] == 0
    collection.put([{"id": "d", "text": bill(1)}])
    assert collection.search("1,199.50", 1, mode="bm25")[0].also[0].document == "put:#d"
