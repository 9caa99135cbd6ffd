"""Parts of long documents: they equal the same parts of what is read as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.manifest.chunk_page import count_chunks, read_chunks, read_part
from nearfield.corpus.search.hit import PlacedChunk
from nearfield.encoder import Encoder

SHARED = "The cat sat on the mat and the dog looked at the blue world for a long time today. " * 3
DOCUMENTS = [
    {"id": name, "title": name, "text": f"{begin}\n\n{SHARED}\n\n{middle * 12}\n\n{SHARED} {begin}\n\n\n\n{middle}"}
    for name, begin, middle in (
        ("one", "A red hat. Hello world!", "Search the query, find the cat. "),
        ("two", "Dogs ran.", "Ein Satz mit Umlauten: für \U0001f600 Öl. "),
    )
]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory, tiny: Encoder) -> Collection:
    home = tmp_path_factory.mktemp("collections")
    config = {"features": {"dense": {"model": "tiny"}}, "chunks": {"tokens": 24, "overlap": 6}}
    made = Collection.create("parts", config, home=home, encoder_of=lambda _: tiny)
    made.put([*DOCUMENTS, {"id": "copy", "text": DOCUMENTS[0]["text"]}])
    return made


@pytest.mark.parametrize("name", ["one", "two", "copy"])
def test_parts_equal_those_of_the_whole(collection: Collection, name: str) -> None:
    document, manifest = collection.document(name).id, collection.manifest
    text, chunks = collection.text(name), collection.chunks(name)
    assert len(chunks) > 10 and len(text) > 500
    assert count_chunks(manifest, document) == len(chunks)
    for first, limit in ((0, 4), (3, 5), (len(chunks) - 2, 50), (len(chunks) + 5, 3)):
        page = [PlacedChunk.from_record(chunk) for chunk in read_chunks(manifest, document, first, limit)]
        assert page == chunks[first : first + limit]
    for start in range(0, len(text) + 40, 17):
        for length in (0, 1, 30, 10**6):
            part = read_part(manifest, document, start, start + length)
            assert part.text == text[start : start + length], (start, length)
            assert (part.start, part.total) == (min(start, len(text)), len(text))


def test_near_duplicates_are_among_them(collection: Collection) -> None:
    rows = collection.manifest.rows("SELECT count(*) FROM duplicates")
    assert rows[0][0] > 5


def test_a_document_without_chunks_has_no_text(collection: Collection, tmp_path: Path) -> None:
    part = read_part(collection.manifest, "none", 3, 10)
    assert (part.start, part.text, part.total) == (0, "", 0)
    assert not read_chunks(collection.manifest, "none", 0, 10)
