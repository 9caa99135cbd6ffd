"""What a collection can find of the corpus with truth: no word is lost between a file and its chunks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.sources.files import FileSource
from nearfield.testing import write_tiny_model
from tests.corpus.truth.catalogue import truth_files
from tests.corpus.truth.model import TruthFile
from tests.corpus.truth.questions import question_files
from tests.corpus.truth.score import words
from tests.corpus.truth.special.text import CLAUSE, CONTRACTS
from tools.formats import GOOD, measure

pytestmark = [pytest.mark.process, pytest.mark.slow]

#: Words of a text above which a second file with it is left out: the collection would store it once.
_LONG = 8


def _different_files() -> Iterator[TruthFile]:
    """Yield files of the corpus without those that repeat texts of others, but for the contracts."""
    seen: set[str] = set()
    repeats = {name for name, _, _ in CONTRACTS}
    for file in (*(file for _, file in question_files()), *truth_files()):
        texts = {text for text in file.pieces if len(words(text)) >= _LONG}
        if file.name in repeats or not texts & seen:
            yield file
        seen |= texts


_FILES = {file.name: file for file in _different_files()}


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """A collection of all files of the corpus, and of five contracts with the same clause."""
    place = tmp_path_factory.mktemp("truth")
    folder = place / "files"
    folder.mkdir()
    for name, file in _FILES.items():
        (folder / name).write_bytes(file.build())
    config: dict[str, Any] = {"features": {"dense": {"model": str(write_tiny_model(place / "model", length=512))}}}
    with Collection.create("truth", config | {"store": f"memory:{place}"}, home=place / "home") as created:
        created.index([FileSource(str(folder))])
        yield created


def _text(collection: Collection, name: str) -> str:
    """Return the text of all documents of a file, such as the members of an archive."""
    documents = [info for info in collection.documents(limit=10_000) if info.state != "failed"]
    ids = [info.id for info in documents if re.match(rf"{re.escape(name)}(?!\.?\w)", info.key)]
    assert ids
    return "\n".join(map(collection.text, ids))


@pytest.mark.parametrize("file", [pytest.param(file, id=name) for name, file in _FILES.items()])
def test_words_that_an_extractor_keeps_are_in_the_chunks(collection: Collection, file: TruthFile) -> None:
    result = measure(file)
    if result.document is None:
        pytest.skip(f"not read: {result.error}")
    # Headings are labels of chunks; a short one may be no chunk.
    blocks = [block for block in result.document.blocks if block.kind == "heading"]
    headings = {*file.headings, *(result.document.text[block.start : block.end] for block in blocks)}
    pieces = [piece for piece in file.pieces if piece not in headings]
    expected = Counter(words(" ".join(pieces))) & Counter(words(result.document.text))
    kept = expected & Counter(words(_text(collection, file.name)))
    assert sum(kept.values()) >= GOOD * sum(expected.values()), expected - kept


def test_a_clause_of_many_documents_is_found_with_all_its_places(collection: Collection) -> None:
    for part in ("either party may end this contract", "six weeks to the end of a quarter"):
        (hit,) = collection.search(part, 1, mode="bm25")
        assert set(words(part)) & set(words(hit.text)) & set(words(CLAUSE))
        places = {hit.document, *(place.document for place in hit.also)}
        assert {place.rpartition("#")[2] for place in places} == {name for name, _, _ in CONTRACTS}, hit


def test_balances_at_edges_of_pages_are_found(collection: Collection) -> None:
    for balance in ("5,020.10", "3,977.42"):
        hits = collection.search(f"closing balance {balance}", 3, mode="bm25")
        assert any(balance in hit.text for hit in hits)
