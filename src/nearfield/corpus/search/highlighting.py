"""Highlight: the sentences of a text, and those of them that a query is about."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from nearfield.corpus.manifest.keyword_index import KeywordIndex
from nearfield.errors import MissingExtra

Place = tuple[int, int]
#: Most sentences of one text, and the share of the best one's score that others need: of BM25, and of cosines.
MOST, SHARE, NEAR = 3, 0.5, 0.9
_CHUNKS = "CREATE TABLE chunks(rowid INTEGER PRIMARY KEY, text TEXT, context TEXT)"


def sentences(text: str, language: str = "en") -> list[Place]:
    """Return where a text's sentences lie, in characters, without the space around them; empty lines end them too.

    Raises:
        MissingExtra: the library for sentences is not installed.
    """
    try:
        import sentencex
    except ModuleNotFoundError as error:
        raise MissingExtra("Finding sentences needs 'sentencex': pip install 'nearfield[corpus]'") from error
    found: list[Place] = []
    for part in sentencex.get_sentence_boundaries(language.partition("-")[0], text):
        start, end = part["start_index"], part["end_index"]
        piece = text[start:end]
        start, end = start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
        if start < end:
            found.append((start, end))
    return found


def by_words(query: str, texts: Sequence[str], language: str = "en") -> list[tuple[Place, ...]]:
    """Return, for each text, the sentences that share most with the query, the best first; none where none does.

    They are scored by BM25, as chunks are: a word that few sentences of all these texts have counts most.
    """
    places = [(number, place) for number, text in enumerate(texts) for place in sentences(text, language)]
    rows = [(row, texts[number][start:end]) for row, (number, (start, end)) in enumerate(places)]
    scores: list[dict[Place, float]] = [{} for _ in texts]
    for row, score in _found(query, rows, language):
        number, place = places[row]
        scores[number][place] = score
    return [best(each) for each in scores]


def best(scores: Mapping[Place, float], share: float = SHARE) -> tuple[Place, ...]:
    """Return the places of the highest scores, the earlier of equal ones first, down to a share of the highest."""
    ordered = sorted(scores, key=lambda place: (-scores[place], place))[:MOST]
    return tuple(place for place in ordered if scores[place] >= share * scores[ordered[0]])


def _found(query: str, rows: Sequence[tuple[int, str]], language: str) -> list[tuple[int, float]]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.execute(_CHUNKS)
        connection.executemany("INSERT INTO chunks VALUES (?, ?, '')", rows)
        index = KeywordIndex(connection, language=language)
        index.create()
        return index.search(query, len(rows))
    finally:
        connection.close()
