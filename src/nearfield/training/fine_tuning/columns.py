"""Columns that a trainer reads, from rows of training; and which rows may not share a batch.

In a batch, the documents of other rows are negatives. A row must therefore not meet a document that is relevant for its
query, an equal text, or another text of its class: such a *false negative* teaches the opposite of the data.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Labelled, PairRows, Retrieval
from nearfield.training.training_data import TrainingData


@dataclass(frozen=True)
class TrainColumns:
    """Rows as columns of texts.

    Args:
        texts: texts by column, in the order in which a loss reads them.
        roles: the role of each column: query, document or symmetric.
        labels: a number or a list of numbers for each row, if the loss reads one.
        contents: for each row, ids of what it brings into a batch.
        excluded: for each row, ids of what it must not meet in a batch.
        left_out: how many rows were not used, by reason.
    """

    texts: Mapping[str, Sequence[object]]
    roles: Mapping[str, str]
    labels: Sequence[object] = ()
    contents: Sequence[frozenset[str]] = ()
    excluded: Sequence[frozenset[str]] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.texts.values())))


def build_columns(data: TrainingData, loss: str, *, negatives: int, pairs_per_class: int, seed: int) -> TrainColumns:
    """Return the columns of a loss (see ``losses``).

    Raises:
        InputError: no row is left.
    """
    rows = data.rows
    if isinstance(rows, Labelled):
        columns = _class_pairs(rows, pairs_per_class, seed)
    elif isinstance(rows, PairRows):
        columns = _scored_pairs(rows, "document" if loss == "bce" else "symmetric")
    elif loss in ("margin-mse", "kl"):
        columns = _taught_rows(rows, data.teacher_scores, negatives or 1)
    elif loss == "bce":
        columns = _judged_pairs(rows, negatives, seed)
    elif loss == "lambda":
        columns = _judged_lists(rows, negatives, seed)
    else:
        columns = _ranking_rows(rows, negatives, seed)
    if not len(columns):
        reasons = ", ".join(f"{count} {reason}" for reason, count in columns.left_out.items())
        raise InputError(f"{data.name}: no row is left to train on ({reasons}).", param="data")
    return columns


def _ranking_rows(rows: Retrieval, negatives: int, seed: int) -> TrainColumns:
    """One row for each query and relevant document, with negatives if there are judged ones."""
    pairs = [(query, key) for query in rows.relevant for key in _positives(rows, query)]
    judged = any(grade <= 0 for grades in rows.relevant.values() for grade in grades.values())
    picker = _NegativePicker(rows, negatives if judged else 0, seed)
    picked = [picker.pick(query, number) for number, (query, _) in enumerate(pairs)]
    texts = _columns(rows, pairs, picked)
    roles = {name: "query" if name == "anchor" else "document" for name in texts}
    contents = [
        frozenset((f"q:{rows.queries[query]}", *(f"d:{rows.documents[key]}" for key in (positive, *others))))
        for (query, positive), others in zip(pairs, picked, strict=True)
    ]
    excluded = [_answers_of(rows, query) for query, _ in pairs]
    return TrainColumns(texts, roles, contents=contents, excluded=excluded)


def _columns(
    rows: Retrieval, pairs: Sequence[tuple[str, str]], picked: Sequence[Sequence[str]]
) -> dict[str, Sequence[object]]:
    texts: dict[str, Sequence[object]] = {
        "anchor": [rows.queries[query] for query, _ in pairs],
        "positive": [rows.documents[key] for _, key in pairs],
    }
    for at in range(len(picked[0]) if picked else 0):
        texts[f"negative_{at + 1}"] = [rows.documents[keys[at]] for keys in picked]
    return texts


def _answers_of(rows: Retrieval, query: str) -> frozenset[str]:
    """Return the query's text, and the texts of all its relevant documents, as ids."""
    documents = (f"d:{rows.documents[key]}" for key in _positives(rows, query))
    return frozenset((f"q:{rows.queries[query]}", *documents))


def _positives(rows: Retrieval, query: str) -> list[str]:
    return [key for key, grade in rows.relevant[query].items() if grade > 0]


class _NegativePicker:
    """Picks negatives of a query: judged ones first, then unjudged documents at random."""

    def __init__(self, rows: Retrieval, count: int, seed: int) -> None:
        self._rows, self._count, self._seed = rows, count, seed
        self._keys = list(rows.documents)

    def pick(self, query: str, number: int) -> list[str]:
        """Return ``count`` documents, the same for the same query, row number and seed."""
        grades = self._rows.relevant[query]
        judged = [key for key, grade in grades.items() if grade <= 0]
        draw = random.Random(f"{self._seed} {query} {number}")
        draw.shuffle(judged)
        chosen = judged[: self._count]
        missing = self._count - len(chosen)
        if missing:
            drawn = draw.sample(self._keys, min(len(self._keys), missing + len(grades)))
            chosen += [key for key in drawn if key not in grades][:missing]
        return chosen + chosen[:1] * (self._count - len(chosen))


def _taught_rows(rows: Retrieval, scores: Mapping[str, Mapping[str, float]], negatives: int) -> TrainColumns:
    """One row for each query with a teacher's scores: the best relevant document, and others with their scores."""
    pairs, picked, labels, short = [], [], [], 0
    for query in rows.relevant:
        known = {key: score for key, score in scores.get(query, {}).items() if key in rows.documents}
        positives = [key for key in _positives(rows, query) if key in known]
        others = sorted((key for key in known if key not in positives), key=known.__getitem__, reverse=True)
        if not positives or len(others) < negatives:
            short += 1
            continue
        best = max(positives, key=known.__getitem__)
        pairs.append((query, best))
        picked.append(others[:negatives])
        labels.append([known[key] for key in (best, *others[:negatives])])
    texts = _columns(rows, pairs, picked)
    roles = {name: "query" if name == "anchor" else "document" for name in texts}
    left_out = {f"queries without a teacher's scores of {negatives + 1} documents": short} if short else {}
    return TrainColumns(texts, roles, labels, left_out=left_out)


def _judged_pairs(rows: Retrieval, negatives: int, seed: int) -> TrainColumns:
    """One row for each query and document, with 1 if it is relevant: for a reranker."""
    texts: dict[str, list[object]] = {"query": [], "document": []}
    labels: list[object] = []
    for query, keys, marks in _judged_documents(rows, negatives, seed):
        texts["query"] += [rows.queries[query]] * len(keys)
        texts["document"] += [rows.documents[key] for key in keys]
        labels += [float(mark) for mark in marks]
    return TrainColumns(texts, {"query": "query", "document": "document"}, labels)


def _judged_lists(rows: Retrieval, negatives: int, seed: int) -> TrainColumns:
    """One row for each query, with a list of documents and a list of their grades: for a reranker."""
    texts: dict[str, list[object]] = {"query": [], "documents": []}
    labels: list[object] = []
    for query, keys, marks in _judged_documents(rows, negatives, seed):
        texts["query"].append(rows.queries[query])
        texts["documents"].append([rows.documents[key] for key in keys])
        labels.append([float(mark) for mark in marks])
    return TrainColumns(texts, {"query": "query", "documents": "document"}, labels)


def _judged_documents(rows: Retrieval, negatives: int, seed: int) -> list[tuple[str, list[str], list[int]]]:
    picker = _NegativePicker(rows, max(1, negatives), seed)
    result = []
    for number, query in enumerate(rows.relevant):
        positives = _positives(rows, query)
        others = list(dict.fromkeys(picker.pick(query, number)))
        if positives and others:
            marks = [1] * len(positives) + [0] * len(others)
            result.append((query, [*positives, *others], marks))
    return result


def _class_pairs(rows: Labelled, per_class: int, seed: int) -> TrainColumns:
    """Pairs of texts of one class: each text is an anchor once, up to ``per_class`` of each class."""
    by_label: dict[str, dict[str, None]] = defaultdict(dict)
    for text, label in zip(rows.texts, rows.labels, strict=True):
        by_label[label][text] = None
    texts: dict[str, list[object]] = {"anchor": [], "positive": []}
    keys: list[frozenset[str]] = []
    single = 0
    for label, members in by_label.items():
        shuffled = list(members)
        random.Random(f"{seed} {label}").shuffle(shuffled)
        single += len(shuffled) == 1
        for first, second in list(zip(shuffled, shuffled[1:] + shuffled[:1], strict=True))[:per_class]:
            if first != second:
                texts["anchor"].append(first)
                texts["positive"].append(second)
                keys.append(frozenset((label,)))
    left_out = {"classes with one text": single} if single else {}
    roles = {"anchor": "symmetric", "positive": "symmetric"}
    return TrainColumns(texts, roles, contents=keys, excluded=keys, left_out=left_out)


def _scored_pairs(rows: PairRows, second_role: str) -> TrainColumns:
    texts = {"first": list(rows.first), "second": list(rows.second)}
    first_role = "query" if second_role == "document" else "symmetric"
    return TrainColumns(texts, {"first": first_role, "second": second_role}, _unit_scores(rows.gold))


def _unit_scores(gold: Sequence[float]) -> list[float]:
    """Return the scores on a scale from 0 to 1, which losses of pairs expect."""
    low, high = min(gold), max(gold)
    return [(float(value) - low) / (high - low) for value in gold]
