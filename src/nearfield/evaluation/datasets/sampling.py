"""Texts: those of a data set, by what they are there."""

from __future__ import annotations

import random
from collections.abc import Sequence

from nearfield.evaluation.datasets.dataset import (
    Bitext,
    Candidates,
    Classification,
    Clustering,
    Dataset,
    PairRows,
    Retrieval,
    Rows,
)


def texts_of(rows: Rows) -> tuple[list[str], list[str]]:
    """Return documents and queries; where two sides are alike, the one and the other."""
    if isinstance(rows, Retrieval):
        return list(rows.documents.values()), list(rows.queries.values())
    if isinstance(rows, (PairRows, Bitext)):
        return list(rows.first), list(rows.second)
    if isinstance(rows, Classification):
        return list(rows.train.texts), list(rows.test.texts)
    if isinstance(rows, Clustering):
        texts = [text for each in rows.sets for text in each.texts]
        return texts, texts
    return _candidates(rows.samples), [each.query for each in rows.samples]


def _candidates(samples: Sequence[Candidates]) -> list[str]:
    return list(dict.fromkeys(text for each in samples for text in (*each.positive, *each.negative)))


def sample(dataset: Dataset, documents: int, queries: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Return some of a data set's documents and queries, the same ones for the same seed."""
    found = texts_of(dataset.rows)
    drawn = random.Random(seed)
    return tuple(  # type: ignore[return-value]
        drawn.sample(side, most) if len(side) > most else list(side)
        for side, most in zip(found, (documents, queries), strict=True)
    )
