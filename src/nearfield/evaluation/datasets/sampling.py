"""The texts of a data set by role, and random samples of them."""

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
    """Return documents and queries; for tasks with two equal sides, one side each."""
    if isinstance(rows, Retrieval):
        return list(rows.documents.values()), list(rows.queries.values())
    if isinstance(rows, (PairRows, Bitext)):
        return list(rows.first), list(rows.second)
    if isinstance(rows, Classification):
        return list(rows.train.texts), list(rows.test.texts)
    if isinstance(rows, Clustering):
        texts = [text for labelled in rows.sets for text in labelled.texts]
        return texts, texts
    return _candidates(rows.samples), [sample.query for sample in rows.samples]


def _candidates(samples: Sequence[Candidates]) -> list[str]:
    return list(dict.fromkeys(text for sample in samples for text in (*sample.positive, *sample.negative)))


def sample(dataset: Dataset, documents: int, queries: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Return some of a data set's documents and queries, chosen by the seed."""
    sides = texts_of(dataset.rows)
    generator = random.Random(seed)
    return tuple(  # type: ignore[return-value]
        generator.sample(side, count) if len(side) > count else list(side)
        for side, count in zip(sides, (documents, queries), strict=True)
    )
