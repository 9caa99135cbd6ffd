"""Synthetic retrieval data sets from a collection: headings and titles are queries for the text below them.

A heading describes the text below it, so that it can serve as a query with a known answer (known-item search;
Azzopardi & de Rijke 2006). Such queries are easy, as they use the document's own words. The data set ranks models
roughly; its scores do not predict how well people find things. Reports say that it is synthetic.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from nearfield.corpus.collection import Collection
from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Dataset, Retrieval

Level = Literal["passage", "document"]
LEVELS: tuple[Level, ...] = ("passage", "document")
#: Default maximum number of queries.
MAX_QUERIES = 500
#: Minimum number of words of a query; a single word follows the document's title.
MIN_WORDS = 2
_PAGE_SIZE = 500
_MARKS = re.compile(r"^\s*#{1,6}\s+|\s+#+\s*$|^\s*(?:\d+[.)]?)+\s+")
_FILE = re.compile(r"^\S+\.\w{1,5}$")


@dataclass
class DocumentPassages:
    """The passages of a document by id, and the ids of the passages under each heading."""

    key: str
    title: str
    passages: dict[str, str] = field(default_factory=dict)
    under: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def known_items(
    collection: Collection, *, level: Level = "passage", queries: int = MAX_QUERIES, seed: int = 0
) -> Dataset:
    """Create a retrieval data set of a collection, with its headings and titles as queries.

    The text below a heading is relevant for it. The heading is removed from the text, since it would match literally.
    For the same reason a heading is left out if a text below it contains all of it in a sentence. A heading of one
    word, or of several documents, is combined with the document's title; a heading that is still not specific is left
    out.

    Args:
        collection: an open collection.
        level: unit of retrieval: ``passage`` (a chunk of the collection) or ``document`` (its whole text, which a
            variant with a chunker splits).
        queries: maximum number of queries; if there are more, a sample.
        seed: of that sample.

    Raises:
        InputError: the level is unknown, or the collection has no suitable headings and titles.
    """
    if level not in LEVELS:
        raise InputError(f"The level is {' or '.join(LEVELS)}, not {level!r}.", param="level")
    documents = list(read_passages(collection))
    candidates = _find_queries(documents)
    if not candidates:
        raise InputError(
            f"Collection {collection.name!r} has no headings or titles of {MIN_WORDS} words to use as queries.",
            param="collection",
        )
    texts = _texts(documents, level)
    keys_of = {
        query: [key for key in ([document.key] if level == "document" else passages) if key in texts]
        for query, (document, passages) in candidates.items()
    }
    chosen = sorted(query for query, keys in keys_of.items() if keys and not _is_quoted(query, keys, texts))
    if not chosen:
        raise InputError(
            f"The texts of collection {collection.name!r} contain all their headings and titles, which makes queries "
            "too easy. Have a chat model write questions: nearfield synthetic --chat-url URL.",
            param="collection",
        )
    if len(chosen) > queries:
        chosen = sorted(random.Random(seed).sample(chosen, queries))
    relevant = {_id(query): dict.fromkeys(keys_of[query], 1) for query in chosen}
    rows = Retrieval(texts, {_id(query): query for query in chosen}, relevant)
    note = (
        f"Synthetic: headings and titles of collection {collection.name!r} as queries for known {level}s; not judged."
    )
    return Dataset(f"{collection.name} (synthetic)", "retrieval", rows, synthetic=note)


def read_passages(collection: Collection) -> Iterator[DocumentPassages]:
    """Yield the documents of a collection with their passages."""
    after: str | None = None
    while page := collection.documents(limit=_PAGE_SIZE, after=after):
        for info in page:
            document = DocumentPassages(info.id, _plain(info.title))
            for chunk in collection.manifest.chunks(info.id):
                document.passages[chunk.id] = chunk.text
                path = [_plain(heading) for heading in chunk.payload.get("headings", ())]
                if path:
                    document.under[path[-1]].append(chunk.id)
            yield _add_enclosing_passages(document)
        after = page[-1].id


def _add_enclosing_passages(document: DocumentPassages) -> DocumentPassages:
    """Add to each heading the passage that contains the heading, where its section begins."""
    for key, text in document.passages.items():
        for line in text.splitlines():
            name = _plain(line)
            if name in document.under and key not in document.under[name]:
                document.under[name].insert(0, key)
    return document


def _find_queries(documents: Sequence[DocumentPassages]) -> dict[str, tuple[DocumentPassages, list[str]]]:
    """Return queries with their document and passages; each query belongs to one document only."""
    places_of: dict[str, list[tuple[DocumentPassages, list[str]]]] = defaultdict(list)
    plain = [(name, document, keys) for document in documents for name, keys in document.under.items()]
    documents_of: dict[str, set[str]] = defaultdict(set)
    for name, document, _ in plain:
        documents_of[name.casefold()].add(document.key)
    for name, document, keys in plain:
        is_specific = len(documents_of[name.casefold()]) == 1 and len(name.split()) >= MIN_WORDS
        query = (
            name if is_specific else f"{document.title}: {name}" if document.title and document.title != name else ""
        )
        if _is_specific(query):
            places_of[query].append((document, keys))
    for document in documents:
        if _is_specific(document.title) and document.title not in document.under:
            places_of[document.title].append((document, list(document.passages)))
    return {query: places[0] for query, places in places_of.items() if len(places) == 1}


def _is_specific(query: str) -> bool:
    """Return whether a query has two words with letters or more, and is not a file name."""
    words = [word for word in query.split() if sum(letter.isalpha() for letter in word) > 1]
    return len(words) >= MIN_WORDS and not _FILE.match(query)


def _texts(documents: Sequence[DocumentPassages], level: Level) -> dict[str, str]:
    """Return the texts to search, without the lines that are queries."""
    texts: dict[str, str] = {}
    for document in documents:
        names = {*document.under, document.title}
        passages = {key: _remove_lines(text, names) for key, text in document.passages.items()}
        texts |= {document.key: "\n\n".join(passages.values())} if level == "document" else passages
    return {key: text for key, text in texts.items() if text.strip()}


def _is_quoted(query: str, keys: Sequence[str], texts: Mapping[str, str]) -> bool:
    """Return whether a text contains the whole query."""
    words = query.casefold().split()
    return any(" ".join(words) in " ".join(texts[key].casefold().split()) for key in keys)


def _remove_lines(text: str, names: set[str]) -> str:
    lines = [line for line in text.splitlines() if _plain(line) not in names]
    return "\n".join(lines).strip()


def _plain(line: str) -> str:
    """Return a heading without Markdown marks and numbers."""
    return " ".join(_MARKS.sub("", line).split())


def _id(query: str) -> str:
    return "q" + hashlib.sha256(query.encode()).hexdigest()[:12]
