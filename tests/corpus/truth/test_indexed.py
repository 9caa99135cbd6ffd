"""What a collection can find of the corpus with truth: no word is lost between a file and its chunks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.sources.files import FileSource
from nearfield.testing import write_tiny_model
from tests.corpus.truth.catalogue import truth_files
from tests.corpus.truth.model import TruthFile
from tests.corpus.truth.score import words
from tests.corpus.truth.special.text import CLAUSE, CONTRACTS
from tools.formats import GOOD, measure

pytestmark = [pytest.mark.process, pytest.mark.slow]

_FILES = {file.name: file for file in truth_files()}
#: Tables of rows, which a folder may list as documents of a row each.
_TABLES = ("csv", "tsv", "ndjson")


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """A collection of all files of the corpus, and of five contracts with the same clause."""
    place = tmp_path_factory.mktemp("truth")
    folder = place / "files"
    folder.mkdir()
    for name, file in _FILES.items():
        (folder / name).write_bytes(file.build())
    config: dict[str, Any] = {"features": {"dense": {"model": str(write_tiny_model(place / "model"))}}}
    with Collection.create("truth", config | {"store": f"memory:{place}"}, home=place / "home") as created:
        created.index([FileSource(str(folder))])
        yield created


def _document(collection: Collection, name: str) -> str | None:
    documents = collection.documents(limit=10_000)
    return next((info.id for info in documents if info.id.endswith(f"#{name}") and info.state == "done"), None)


@pytest.mark.parametrize("file", [pytest.param(file, id=name) for name, file in _FILES.items()])
def test_words_that_an_extractor_keeps_are_in_the_chunks(collection: Collection, file: TruthFile) -> None:
    result = measure(file)
    if result.document is None or file.suffix in _TABLES:
        pytest.skip("not read, or a table")
    document = _document(collection, file.name)
    assert document is not None
    expected = Counter(words(" ".join(file.pieces))) & Counter(words(result.document.text))
    kept = expected & Counter(words(collection.text(document)))
    missing = expected - kept
    assert sum(kept.values()) >= GOOD * sum(expected.values()), missing


def test_a_clause_of_many_documents_is_found_with_all_its_places(collection: Collection) -> None:
    (hit,) = collection.search(CLAUSE, 1, mode="bm25")
    assert "six weeks" in hit.text
    places = {hit.document, *(place.document for place in hit.also)}
    assert {place.rpartition("#")[2] for place in places} == {name for name, _, _ in CONTRACTS}


def test_balances_at_edges_of_pages_are_found(collection: Collection) -> None:
    for balance in ("5,020.10", "3,977.42"):
        hits = collection.search(f"closing balance {balance}", 3, mode="bm25")
        assert any(balance in hit.text for hit in hits)
