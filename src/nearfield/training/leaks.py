"""Leaks: rows to learn from that are also in a set to measure on, which would make a model look better than it is."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import (
    Bitext,
    Classification,
    Clustering,
    Dataset,
    Labelled,
    PairRows,
    Reranking,
    Retrieval,
)
from nearfield.training.overlap.near_copies import near_copies
from nearfield.training.overlap.normalised import normalise
from nearfield.training.overlap.rewordings import rewordings
from nearfield.training.overlap.translations import translations
from nearfield.training.splitting import row_groups, select_rows
from nearfield.training.training_data import TrainingData

#: Leaks that messages show.
_EXAMPLES = 3
#: What a leak of each kind is, for messages.
_KINDS: Mapping[str, str] = {
    "exact": "equal texts",
    "near": "nearly equal texts (Jaccard of character 5-grams >= 0.8)",
    "parallel": "translations or rewordings",
    "source": "rows of the same document",
}


@dataclass(frozen=True)
class LeakText:
    """A text that takes part in learning or measuring: its text, and the row of the data that it belongs to.

    ``row`` is the id of a query or the number of a row as a string, as ``select_rows`` takes them.
    """

    text: str
    row: str


@dataclass(frozen=True)
class Leak:
    """A row to learn from (left) that is also in a set to measure on (right).

    ``kind`` is ``exact``, ``near``, ``parallel`` (translations and rewordings) or ``source``; ``score`` the similarity
    by which it was found, from 0 to 1.
    """

    kind: str
    left_key: str
    right_key: str
    left_text: str
    right_text: str
    score: float = 1.0


#: Vectors of the texts of ``leak_texts`` of both sides, in their order; float32, of unit length.
LeakVectors: TypeAlias = tuple[Array, Array]
_Texts: TypeAlias = Sequence[LeakText]


def find_leaks(train: TrainingData, other: TrainingData | Dataset, *, vectors: LeakVectors | None = None) -> list[Leak]:
    """Return the rows to learn from that are also in another set; each pair of rows once, by its plainest kind.

    Compared are queries, positives and labelled or scored texts, all with all: a query that is a document of the test
    is a leak too. Documents without a positive judgment are not compared, since both sides may search one corpus.

    Args:
        train: rows to learn from.
        other: rows to measure on.
        vectors: of the texts of ``leak_texts(train)`` and ``leak_texts(other)``. Texts with a cosine of at least 0.98
            are one, and those of at least 0.9 that have the same numbers and most of their rare words in common.
            Without vectors, rewordings and translations are found by shared names and numbers alone.

    Raises:
        InputError: the vectors do not match the texts.
        MissingExtra: scipy is not installed.
    """
    left, right = leak_texts(train), leak_texts(other)
    leaks: dict[tuple[str, str], Leak] = {}
    for leak in _all_leaks(train, other, left, right, vectors):
        leaks.setdefault((leak.left_key, leak.right_key), leak)
    return list(leaks.values())


def leak_texts(data: TrainingData | Dataset) -> list[LeakText]:
    """Return the texts of a set that take part in learning or measuring; of several equal ones, all."""
    rows = data.rows
    if isinstance(rows, Retrieval):
        return [text for query in rows.queries for text in _ranking_texts(rows, query)]
    if isinstance(rows, Labelled):
        return _numbered(rows.texts)
    if isinstance(rows, Classification):
        return _numbered(rows.test.texts)
    if isinstance(rows, (PairRows, Bitext)):
        return [*_numbered(rows.first), *_numbered(rows.second)]
    if isinstance(rows, Clustering):
        return _numbered([text for one in rows.sets for text in one.texts])
    return _reranking_texts(rows)


def drop_leaked(train: TrainingData, leaks: Collection[Leak]) -> TrainingData:
    """Return the rows to learn from without the leaked ones.

    Raises:
        InputError: no row is left, or the rest is of one class.
    """
    leaked = {leak.left_key for leak in leaks}
    remaining = {key for group in row_groups(train) for key in group} - leaked
    if not remaining:
        raise InputError(f"Training data {train.name!r}: all rows are in the test too. Give other rows.", param="data")
    return select_rows(train, remaining)


def describe_leaks(leaks: Sequence[Leak]) -> str:
    """Return how many leaks of each kind there are, with examples, in some lines for a message."""
    lines = []
    for kind, meaning in _KINDS.items():
        of_kind = [leak for leak in leaks if leak.kind == kind]
        lines += [f"{len(of_kind)} pairs: {meaning}"] if of_kind else []
        lines += [f"  {_shorten(leak.left_text)} | {_shorten(leak.right_text)}" for leak in of_kind[:_EXAMPLES]]
    return "\n".join(lines)


# -- the texts of a set --------------------------------------------------------------------------------------------


def _ranking_texts(rows: Retrieval, query: str) -> Iterator[LeakText]:
    yield LeakText(rows.queries[query], query)
    for document, grade in rows.relevant.get(query, {}).items():
        if grade > 0:
            yield LeakText(rows.documents[document], query)


def _reranking_texts(rows: Reranking) -> list[LeakText]:
    texts = []
    for number, sample in enumerate(rows.samples):
        texts += [LeakText(text, str(number)) for text in (sample.query, *sample.positive)]
    return texts


def _numbered(texts: Sequence[str]) -> list[LeakText]:
    return [LeakText(text, str(number)) for number, text in enumerate(texts)]


# -- the kinds of leaks --------------------------------------------------------------------------------------------


def _all_leaks(
    train: TrainingData, other: TrainingData | Dataset, left: _Texts, right: _Texts, vectors: LeakVectors | None
) -> Iterator[Leak]:
    yield from _equal_texts(left, right)
    lefts, rights = _distinct(left), _distinct(right)
    left_texts, right_texts = [one.text for one in lefts], [one.text for one in rights]
    for one, two, score in near_copies(left_texts, right_texts):
        yield _leak("near", lefts[one], rights[two], score)
    if vectors is not None:
        yield from _same_vectors(left, right, vectors)
    for one, two, score in translations(left_texts, right_texts):
        yield _leak("parallel", lefts[one], rights[two], score)
    if isinstance(other, TrainingData):
        yield from _same_sources(train, other)


def _equal_texts(left: _Texts, right: _Texts) -> Iterator[Leak]:
    by_text: dict[str, list[LeakText]] = {}
    for one in right:
        by_text.setdefault(normalise(one.text), []).append(one)
    for one in left:
        # One of several equal rows of the test proves the leak.
        for two in by_text.get(normalise(one.text), [])[:1]:
            yield _leak("exact", one, two, 1.0)


def _distinct(texts: _Texts) -> list[LeakText]:
    return list({normalise(one.text): one for one in reversed(texts)}.values())[::-1]


def _same_vectors(left: _Texts, right: _Texts, vectors: LeakVectors) -> Iterator[Leak]:
    ours, theirs = vectors
    if (len(ours), len(theirs)) != (len(left), len(right)):
        raise InputError(
            f"{len(left)} and {len(right)} texts have {len(ours)} and {len(theirs)} vectors.", param="vectors"
        )
    for one, two, cosine in rewordings([row.text for row in left], [row.text for row in right], ours, theirs):
        yield _leak("parallel", left[one], right[two], cosine)


def _same_sources(train: TrainingData, other: TrainingData) -> Iterator[Leak]:
    """Yield the first row of the other set of each source that both have; only sources that the data names count."""
    rows = {source: key for key, source in reversed(list(_row_sources(other)))}
    for key, source in _row_sources(train):
        if source in rows:
            yield Leak("source", key, rows[source], source, source)


def _row_sources(data: TrainingData) -> Iterator[tuple[str, str]]:
    if not isinstance(data.rows, Retrieval):
        yield from data.sources.items()
        return
    for query, judged in data.rows.relevant.items():
        for document, grade in judged.items():
            if grade > 0 and document in data.sources:
                yield query, data.sources[document]


def _leak(kind: str, left: LeakText, right: LeakText, score: float) -> Leak:
    return Leak(kind, left.row, right.row, left.text, right.text, score)


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 70 else f"{line[:69]}…")
