"""Highlighting: the sentences of a text that match a query best, by BM25 or by cosine."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from nearfield.corpus.manifest.keyword_index import KeywordIndex
from nearfield.errors import MissingExtra

Place = tuple[int, int]
#: Maximum number of highlighted sentences in a text.
MAX_SENTENCES = 3
#: Minimum share of the best sentence's score: of BM25, and of cosines.
BM25_SHARE, COSINE_SHARE = 0.5, 0.9
_CHUNKS = "CREATE TABLE chunks(rowid INTEGER PRIMARY KEY, text TEXT, context TEXT)"


def sentences(text: str, language: str = "en") -> list[Place]:
    """Return the places of a text's sentences, in characters, without surrounding space; empty lines end them too.

    Raises:
        MissingExtra: the library for sentences is not installed.
    """
    try:
        import sentencex
    except ModuleNotFoundError as error:
        raise MissingExtra("Splitting sentences needs 'sentencex': pip install 'nearfield[corpus]'") from error
    places: list[Place] = []
    for boundary in sentencex.get_sentence_boundaries(language.partition("-")[0], text):
        start, end = boundary["start_index"], boundary["end_index"]
        part = text[start:end]
        start, end = start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())
        if start < end:
            places.append((start, end))
    return places


def by_words(query: str, texts: Sequence[str], language: str = "en") -> list[tuple[Place, ...]]:
    """Return, for each text, the sentences that share most words with the query, the best first; often none.

    They are scored by BM25, like chunks: a word that is rare in the sentences of all these texts counts most.
    """
    places = [(number, place) for number, text in enumerate(texts) for place in sentences(text, language)]
    rows = [(row, texts[number][start:end]) for row, (number, (start, end)) in enumerate(places)]
    scores: list[dict[Place, float]] = [{} for _ in texts]
    for row, score in _bm25(query, rows, language):
        number, place = places[row]
        scores[number][place] = score
    return [best_places(text_scores) for text_scores in scores]


def best_places(scores: Mapping[Place, float], share: float = BM25_SHARE) -> tuple[Place, ...]:
    """Return the places of the highest scores, the earlier of equal ones first, down to a share of the highest."""
    ordered = sorted(scores, key=lambda place: (-scores[place], place))[:MAX_SENTENCES]
    return tuple(place for place in ordered if scores[place] >= share * scores[ordered[0]])


def _bm25(query: str, rows: Sequence[tuple[int, str]], language: str) -> list[tuple[int, float]]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.execute(_CHUNKS)
        connection.executemany("INSERT INTO chunks VALUES (?, ?, '')", rows)
        index = KeywordIndex(connection, language=language)
        index.create()
        return index.search(query, len(rows))
    finally:
        connection.close()
