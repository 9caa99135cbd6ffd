"""Evaluation sets from rows of training: what chooses the best step, and what tests the result.

The *dev* set is measured many times, so it is small. Classes are measured there by search: how well a text finds others
of its class (nDCG@10). That needs no classifier, and no labels of the test.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import (
    Candidates,
    Classification,
    Dataset,
    Labelled,
    PairRows,
    Reranking,
    Retrieval,
)
from nearfield.training.training_data import TrainingData

_Item = TypeVar("_Item")
#: Queries and documents of a dev set; more would take more time than they make it certain.
MAX_DEV_QUERIES, MAX_DEV_DOCUMENTS = 300, 1200
#: Texts of each class that a dev set searches.
_DEV_TEXTS_PER_CLASS = 10
#: Irrelevant documents of each query of a reranker, where no negatives are named.
_RANDOM_NEGATIVES = 10


def dev_set(held_out: TrainingData, train: TrainingData, kind: str, seed: int) -> Dataset:
    """Return the set that chooses the best step.

    Args:
        held_out: rows that are not trained on.
        train: rows that are; of labels, they are what a text searches.
        kind: the main output of the model.
        seed: of the draws.
    """
    rows = held_out.rows
    name = f"{held_out.name} (dev)"
    if isinstance(rows, Labelled):
        return Dataset(name, "retrieval", _same_class(rows, train.rows, seed))
    if isinstance(rows, PairRows):
        chosen = _pairs(rows, seed)
        return Dataset(name, _pair_task(chosen), chosen)
    if kind == "scores":
        return Dataset(name, "reranking", _candidates(rows, MAX_DEV_QUERIES, seed))
    return Dataset(name, "retrieval", _smaller(rows, seed))


def test_set(held_out: TrainingData, train: TrainingData, kind: str, seed: int) -> Dataset:
    """Return the set that tests the result once; arguments as for ``dev_set``."""
    rows = held_out.rows
    name = f"{held_out.name} (held out)"
    if isinstance(rows, Labelled):
        assert isinstance(train.rows, Labelled)  # both are of one data set
        return Dataset(name, "classification", Classification(train.rows, _known_labels(rows, train.rows)))
    if isinstance(rows, PairRows):
        return Dataset(name, _pair_task(rows), rows)
    if kind == "scores":
        return Dataset(name, "reranking", _candidates(rows, len(rows.queries), seed))
    return Dataset(name, "retrieval", rows, synthetic=held_out.synthetic)


def as_reranking(dataset: Dataset, seed: int) -> Dataset:
    """Return a retrieval set as candidates of each query, for a reranker; other sets are returned unchanged."""
    if not isinstance(dataset.rows, Retrieval):
        return dataset
    rows = _candidates(dataset.rows, len(dataset.rows.queries), seed)
    return Dataset(dataset.name, "reranking", rows, dataset.synthetic, dataset.note)


def _known_labels(rows: Labelled, train: Labelled) -> Labelled:
    known = set(train.labels)
    pairs = [(text, label) for text, label in zip(rows.texts, rows.labels, strict=True) if label in known]
    if not pairs:
        raise InputError("The texts that were held out have only labels without a text to learn from.", param="data")
    return Labelled(*(tuple(column) for column in zip(*pairs, strict=True)))


def _pair_task(rows: PairRows) -> str:
    return "pairs" if set(rows.gold) <= {0, 1} else "sts"


def _pairs(rows: PairRows, seed: int) -> PairRows:
    places = _draw(range(len(rows.gold)), MAX_DEV_DOCUMENTS, seed)
    first, second = ([column[place] for place in places] for column in (rows.first, rows.second))
    chosen = PairRows(first, second, [rows.gold[place] for place in places])
    return chosen if len(set(chosen.gold)) > 1 else rows


def _smaller(rows: Retrieval, seed: int) -> Retrieval:
    """Return some queries with all their judged documents, and other documents that they do not want."""
    judged = [query for query, grades in rows.relevant.items() if any(grade > 0 for grade in grades.values())]
    queries = _draw(judged, MAX_DEV_QUERIES, seed)
    needed = {key for query in queries for key in rows.relevant[query]}
    others = [key for key in rows.documents if key not in needed]
    drawn = needed | set(_draw(others, max(0, MAX_DEV_DOCUMENTS - len(needed)), seed))
    return Retrieval(
        {key: text for key, text in rows.documents.items() if key in drawn},
        {query: rows.queries[query] for query in queries},
        {query: rows.relevant[query] for query in queries},
    )


def _same_class(rows: Labelled, train: object, seed: int) -> Retrieval:
    """Return texts as queries for which the texts of training with the same label are relevant."""
    assert isinstance(train, Labelled)  # both are of one data set
    documents = _texts_per_class(train, seed)
    known = {label for _, label in documents}
    places = [place for place, label in enumerate(rows.labels) if label in known]
    if not places:
        raise InputError("No text of the dev part has a label that is trained on.", param="data")
    drawn = _draw(places, MAX_DEV_QUERIES, seed)
    by_label: dict[str, dict[str, int]] = defaultdict(dict)
    for number, (_, label) in enumerate(documents):
        by_label[label][f"d{number}"] = 1
    return Retrieval(
        {f"d{number}": text for number, (text, _) in enumerate(documents)},
        {f"q{place}": rows.texts[place] for place in drawn},
        {f"q{place}": by_label[rows.labels[place]] for place in drawn},
    )


def _texts_per_class(train: Labelled, seed: int) -> list[tuple[str, str]]:
    by_label: dict[str, list[str]] = defaultdict(list)
    for text, label in zip(train.texts, train.labels, strict=True):
        by_label[label].append(text)
    return [(text, label) for label, texts in by_label.items() for text in _draw(texts, _DEV_TEXTS_PER_CLASS, seed)]


def _candidates(rows: Retrieval, queries: int, seed: int) -> Reranking:
    """Return for each query its relevant documents, and its judged negatives or else random documents."""
    chosen = _draw(list(rows.relevant), queries, seed)
    samples = [sample for query in chosen if (sample := _sample(rows, query, seed)).positive and sample.negative]
    return Reranking(samples)


def _sample(rows: Retrieval, query: str, seed: int) -> Candidates:
    grades: Mapping[str, int] = rows.relevant[query]
    positive = [key for key, grade in grades.items() if grade > 0]
    negative = [key for key, grade in grades.items() if grade <= 0]
    if not negative:
        others = [key for key in rows.documents if key not in grades]
        negative = random.Random(f"{seed} {query}").sample(others, min(_RANDOM_NEGATIVES, len(others)))
    return Candidates(rows.queries[query], _texts(rows, positive), _texts(rows, negative))


def _texts(rows: Retrieval, keys: Iterable[str]) -> list[str]:
    return [rows.documents[key] for key in keys]


def _draw(items: Sequence[_Item], count: int, seed: int) -> list[_Item]:
    """Return at most ``count`` items in their order, chosen by the seed."""
    if len(items) <= count:
        return list(items)
    return [items[place] for place in sorted(random.Random(seed).sample(range(len(items)), count))]
