"""Synthetic: a retrieval set of one's own collection, without a judge: known items, asked for by headings and titles.

A heading says what stands below it, so that it can stand for a query whose answer is known (known-item search;
Azzopardi & de Rijke 2006). It is an easy query, in the document's own words: such a set orders models roughly, and its
figures are no measure of what people will find. It says so wherever it is shown.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from nearfield.corpus.collection import Collection
from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Dataset, Retrieval

Level = Literal["passage", "document"]
LEVELS: tuple[Level, ...] = ("passage", "document")
#: Queries at most, where nothing else is said.
QUERIES = 500
#: Words that a query has at least; a single one is put after the document's title.
LEAST_WORDS = 2
_PAGE = 500
_MARKS = re.compile(r"^\s*#{1,6}\s+|\s+#+\s*$|^\s*(?:\d+[.)]?)+\s+")
_FILE = re.compile(r"^\S+\.\w{1,5}$")


@dataclass
class _HeldPassages:
    """A document of a collection: its passages, and the headings that each stands under or holds."""

    key: str
    title: str
    passages: dict[str, str] = field(default_factory=dict)
    under: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def known_items(collection: Collection, *, level: Level = "passage", queries: int = QUERIES, seed: int = 0) -> Dataset:
    """Make a retrieval set of a collection, whose queries are its headings and titles.

    What a heading stands above is relevant for it, and the heading itself is taken out of the text, for else it would
    stand there word for word. A heading of several documents, or of one word, goes with its document's title; one that
    still says nothing is left out.

    Args:
        collection: that is open.
        level: what is to be found: ``passage`` (a chunk of the collection) or ``document`` (all of its text, which a
            variant with a chunker then cuts).
        queries: how many at most; a sample where there are more.
        seed: of that sample.

    Raises:
        InputError: the level is unknown, or the collection has no headings and titles to ask for.
    """
    if level not in LEVELS:
        raise InputError(f"Known items are found by {' or '.join(LEVELS)}, not by {level!r}.", param="level")
    held = list(_documents(collection))
    asked = _asked(held)
    if not asked:
        raise InputError(
            f"Collection {collection.name!r} has no headings or titles of {LEAST_WORDS} words to make queries of.",
            param="collection",
        )
    chosen = sorted(asked) if len(asked) <= queries else sorted(random.Random(seed).sample(sorted(asked), queries))
    texts = _texts(held, level)
    relevant: dict[str, dict[str, int]] = {}
    for query in chosen:
        document, passages = asked[query]
        found = [document.key] if level == "document" else passages
        grades = {key: 1 for key in found if texts.get(key, "").strip()}
        if grades:
            relevant[_id(query)] = grades
    rows = Retrieval(texts, {_id(query): query for query in chosen if _id(query) in relevant}, relevant)
    told = (
        f"Synthetic: headings and titles of collection {collection.name!r} as queries for known {level}s; not judged."
    )
    return Dataset(f"{collection.name} (synthetic)", "retrieval", rows, synthetic=told)


def _documents(collection: Collection) -> Iterator[_HeldPassages]:
    after: str | None = None
    while page := collection.documents(limit=_PAGE, after=after):
        for info in page:
            made = _HeldPassages(info.id, _plain(info.title))
            for chunk in collection.manifest.chunks(info.id):
                made.passages[chunk.id] = chunk.text
                path = [_plain(each) for each in chunk.payload.get("headings", ())]
                if path:
                    made.under[path[-1]].append(chunk.id)
            yield _with_inner(made)
        after = page[-1].id


def _with_inner(held: _HeldPassages) -> _HeldPassages:
    """Add to each heading the passage that it stands in: its section begins there."""
    for key, text in held.passages.items():
        for line in text.splitlines():
            name = _plain(line)
            if name in held.under and key not in held.under[name]:
                held.under[name].insert(0, key)
    return held


def _asked(held: Sequence[_HeldPassages]) -> dict[str, tuple[_HeldPassages, list[str]]]:
    """Return queries with their document and passages, each query of one document alone."""
    found: dict[str, list[tuple[_HeldPassages, list[str]]]] = defaultdict(list)
    plain = [(name, each, keys) for each in held for name, keys in each.under.items()]
    spread: dict[str, set[str]] = defaultdict(set)
    for name, each, _ in plain:
        spread[name.casefold()].add(each.key)
    for name, each, keys in plain:
        alone = len(spread[name.casefold()]) == 1 and len(name.split()) >= LEAST_WORDS
        query = name if alone else f"{each.title}: {name}" if each.title and each.title != name else ""
        if _telling(query):
            found[query].append((each, keys))
    for each in held:
        if _telling(each.title) and each.title not in each.under:
            found[each.title].append((each, list(each.passages)))
    return {query: places[0] for query, places in found.items() if len(places) == 1}


def _telling(query: str) -> bool:
    """Return whether a query says something: two words or more with letters, and no file's name."""
    words = [word for word in query.split() if sum(letter.isalpha() for letter in word) > 1]
    return len(words) >= LEAST_WORDS and not _FILE.match(query)


def _texts(held: Sequence[_HeldPassages], level: Level) -> dict[str, str]:
    """Return what is to be found, without the lines that are queries."""
    found: dict[str, str] = {}
    for each in held:
        names = {*each.under, each.title}
        passages = {key: _without(text, names) for key, text in each.passages.items()}
        found |= {each.key: "\n\n".join(passages.values())} if level == "document" else passages
    return {key: text for key, text in found.items() if text.strip()}


def _without(text: str, names: set[str]) -> str:
    kept = [line for line in text.splitlines() if _plain(line) not in names]
    return "\n".join(kept).strip()


def _plain(line: str) -> str:
    """Return a heading's name, without marks and numbers."""
    return " ".join(_MARKS.sub("", line).split())


def _id(query: str) -> str:
    return "q" + hashlib.sha256(query.encode()).hexdigest()[:12]
