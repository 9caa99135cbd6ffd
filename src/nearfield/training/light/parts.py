"""Parts of queries with their documents: whole sources are held out, and equal texts on both sides are found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from nearfield.evaluation.datasets.dataset import Retrieval
from nearfield.training.training_data import TrainingData


def split_queries(data: TrainingData, keys: Iterable[str], share: float, seed: int) -> tuple[list[str], list[str]]:
    """Return queries in two parts (rest, held out), so that no source document belongs to both.

    Queries with documents of one source stay together, and so do sources that one query joins.
    """
    groups = _groups(data, keys)
    total = sum(map(len, groups))
    held: list[str] = []
    for number in np.random.default_rng(seed).permutation(len(groups)):
        # A group that would exceed the share by more than it lacks is left to the rest.
        if len(held) + len(groups[number]) / 2 <= share * total:
            held += groups[number]
    chosen = set(held)
    return [key for group in groups for key in group if key not in chosen], held


def _groups(data: TrainingData, keys: Iterable[str]) -> list[list[str]]:
    assert isinstance(data.rows, Retrieval)
    parents: dict[str, str] = {}
    owner: dict[str, str] = {}
    for query in keys:
        sources = [data.source_of(key) for key, grade in data.rows.relevant[query].items() if grade > 0]
        first = _root(parents, sources[0])
        owner[query] = first
        for source in sources[1:]:
            parents[_root(parents, source)] = first
    groups: dict[str, list[str]] = {}
    for query, source in owner.items():
        groups.setdefault(_root(parents, source), []).append(query)
    return list(groups.values())


def _root(parents: dict[str, str], source: str) -> str:
    while parents.setdefault(source, source) != source:
        parents[source] = source = parents[parents[source]]
    return source


def shared_texts(data: TrainingData, others: Mapping[str, str]) -> list[str]:
    """Return the texts of a test's queries that are queries of the data too, whatever their spaces and case."""
    assert isinstance(data.rows, Retrieval)
    known = {folded(text) for text in data.rows.queries.values()}
    return [text for text in others.values() if folded(text) in known]


def folded(text: str) -> str:
    """Return a text without differences of case and white space."""
    return " ".join(text.split()).casefold()
