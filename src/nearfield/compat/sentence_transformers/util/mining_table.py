"""The tables of `mine_hard_negatives`: pairs of queries and positives as they come in, and rows in four formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.compat.inputs import check_pairs, iterate_pairs
from nearfield.errors import InputError
from nearfield.text_inputs import check_texts, many_texts

FORMATS = ("triplet", "n-tuple", "labeled-pair", "labeled-list")


@dataclass(frozen=True)
class QueryPairs:
    """Queries and corpus without repetitions; the pairs of each query follow each other.

    Pair i is the query ``owners[i]`` with the text ``positives[i]`` of the corpus; the first pair of query q is
    ``starts[q]``. ``rows`` and ``max_rows`` count rows of the dataset: all, and the most of one query.
    """

    names: tuple[str, str]
    queries: list[str]
    corpus: list[str]
    owners: Array
    positives: Array
    starts: Array
    rows: int
    max_rows: int


@dataclass(frozen=True)
class NegativeCandidates:
    """Texts of the corpus for each query, ``ids`` and ``scores`` [queries, k], and the scores of all pairs."""

    ids: Array
    scores: Array
    positive_scores: Array


@dataclass(frozen=True)
class MinedRows:
    """The columns of the result, and numbers for the report."""

    columns: dict[str, list[Any]]
    rows: int
    max_rows: int
    negative_scores: Array
    differences: Array


def read_pairs(dataset: Any, anchor: str | None, positive: str | None, corpus: list[str] | None) -> QueryPairs:
    """Return the pairs of a dataset.

    Raises:
        InputError: it is empty, has fewer than two columns, or something in them or in the corpus is no text.
    """
    columns = _columns(dataset)
    names = list(columns)
    if anchor not in columns or positive not in columns:
        # An unknown name counts for none, as in sentence-transformers.
        first, second, *_ = [*names, None, None]
        anchor = anchor if anchor in columns else first
        positive = positive if positive in columns else second
    if anchor is None or positive is None:
        raise InputError("The dataset must have two columns, of queries and of positives.", param="dataset")
    rows = list(zip(columns[anchor], columns[positive], strict=True))
    if not rows:
        raise InputError("The dataset is empty: it needs at least one pair.", param="dataset")
    for name, texts in zip((anchor, positive), zip(*rows, strict=True), strict=True):
        check_texts(texts, "dataset", f"{name}: row")
    return _number_pairs((anchor, positive), rows, [] if corpus is None else many_texts(corpus, "corpus"))


def _columns(dataset: Any) -> Mapping[str, list[str]]:
    names = getattr(dataset, "column_names", None)
    names = getattr(dataset, "columns", None) if names is None else names
    if names is not None:
        return {name: list(dataset[name]) for name in names}
    if isinstance(dataset, Mapping):
        return {name: list(column) for name, column in dataset.items()}
    rows = list(iterate_pairs(dataset, "dataset"))
    if rows and isinstance(rows[0], Mapping):
        return {name: [row[name] for row in rows] for name in rows[0]}
    check_pairs(rows, "dataset")
    return {"anchor": [row[0] for row in rows], "positive": [row[1] for row in rows]}


def _number_pairs(names: tuple[str, str], rows: list[tuple[str, str]], corpus: list[str]) -> QueryPairs:
    texts = list(dict.fromkeys([*corpus, *(positive for _, positive in rows)]))
    numbers = {text: number for number, text in enumerate(texts)}
    counts: dict[str, int] = {}
    positives: dict[str, dict[int, None]] = {}
    for query, positive in rows:
        counts[query] = counts.get(query, 0) + 1
        positives.setdefault(query, {})[numbers[positive]] = None
    lengths = np.array([len(own) for own in positives.values()])
    return QueryPairs(
        names=names,
        queries=list(positives),
        corpus=texts,
        owners=np.repeat(np.arange(len(lengths)), lengths),
        positives=np.array([number for own in positives.values() for number in own]),
        starts=np.cumsum(lengths) - lengths,
        rows=len(rows),
        max_rows=max(counts.values()),
    )


def build_rows(pairs: QueryPairs, negatives: NegativeCandidates, output_format: str, with_scores: bool) -> MinedRows:
    """Return the result's columns in one of ``FORMATS``."""
    ids, scores = negatives.ids[pairs.owners], negatives.scores[pairs.owners]
    valid = scores != -np.inf
    build = {"triplet": _triplets, "n-tuple": _tuples, "labeled-list": _labeled_lists, "labeled-pair": _labeled_pairs}
    columns = build[output_format](pairs, negatives, with_scores)
    if output_format == "n-tuple":
        valid &= valid.all(1, keepdims=True)
    differences = negatives.positive_scores[:, None] - scores
    max_rows = {
        "triplet": ids.size,
        "labeled-pair": negatives.ids.size + pairs.rows,
    }.get(output_format, len(ids))
    rows = len(columns[pairs.names[0]])
    return MinedRows(columns, rows, max_rows, scores[valid], differences[valid])


def _triplets(pairs: QueryPairs, negatives: NegativeCandidates, with_scores: bool) -> dict[str, list[Any]]:
    ids, scores = negatives.ids[pairs.owners], negatives.scores[pairs.owners]
    rows, places = np.nonzero(scores != -np.inf)
    columns = _text_columns(pairs, rows)
    columns["negative"] = _texts(pairs, ids[rows, places])
    if with_scores:
        columns["scores"] = np.stack([negatives.positive_scores[rows], scores[rows, places]], 1).tolist()
    return columns


def _tuples(pairs: QueryPairs, negatives: NegativeCandidates, with_scores: bool) -> dict[str, list[Any]]:
    scores = negatives.scores[pairs.owners]
    rows = np.flatnonzero((scores != -np.inf).all(1))
    ids = negatives.ids[pairs.owners][rows]
    columns = _text_columns(pairs, rows)
    columns |= {f"negative_{place}": _texts(pairs, column) for place, column in enumerate(ids.T, 1)}
    if with_scores:
        columns["scores"] = np.concatenate([negatives.positive_scores[rows, None], scores[rows]], 1).tolist()
    return columns


def _labeled_lists(pairs: QueryPairs, negatives: NegativeCandidates, with_scores: bool) -> dict[str, list[Any]]:
    valid = negatives.scores[pairs.owners] != -np.inf
    rows = np.flatnonzero(valid.any(1))
    columns = _text_columns(pairs, rows)
    numbers = [negatives.ids[pairs.owners[row]][valid[row]] for row in rows]
    texts = zip(columns[pairs.names[1]], numbers, strict=True)
    columns[pairs.names[1]] = [[text, *_texts(pairs, own)] for text, own in texts]
    if with_scores:
        scores = zip(negatives.positive_scores[rows].tolist(), rows, strict=True)
        columns["scores"] = [[own, *negatives.scores[pairs.owners[r]][valid[r]].tolist()] for own, r in scores]
    else:
        columns["labels"] = [[1] + [0] * len(own) for own in numbers]
    return columns


def _labeled_pairs(pairs: QueryPairs, negatives: NegativeCandidates, with_scores: bool) -> dict[str, list[Any]]:
    owners, places = np.nonzero(negatives.scores != -np.inf)
    queries = np.concatenate([pairs.owners, owners])
    texts = np.concatenate([pairs.positives, negatives.ids[owners, places]])
    scores = np.concatenate([negatives.positive_scores, negatives.scores[owners, places]])
    labels = np.repeat([1, 0], [len(pairs.owners), len(owners)])
    # The positives of a query come before its negatives.
    order = np.argsort(queries, kind="stable")
    columns: dict[str, list[Any]] = {
        pairs.names[0]: [pairs.queries[number] for number in queries[order]],
        pairs.names[1]: _texts(pairs, texts[order]),
    }
    columns["score" if with_scores else "label"] = (scores if with_scores else labels)[order].tolist()
    return columns


def _text_columns(pairs: QueryPairs, rows: Array) -> dict[str, list[Any]]:
    """Return the queries and the positives of some pairs."""
    queries = [pairs.queries[number] for number in pairs.owners[rows]]
    return {pairs.names[0]: queries, pairs.names[1]: _texts(pairs, pairs.positives[rows])}


def _texts(pairs: QueryPairs, numbers: Array) -> list[str]:
    return [pairs.corpus[number] for number in numbers]
