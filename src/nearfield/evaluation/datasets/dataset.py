"""Dataset: what a model is measured on: rows of one task, checked, with a digest that says whether two are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from nearfield.errors import InputError


@dataclass(frozen=True)
class Retrieval:
    """Documents and queries by their ids, and for each judged query its documents with their relevance (0: not).

    Grades are whole numbers; what is not judged counts as not relevant.
    """

    documents: Mapping[str, str]
    queries: Mapping[str, str]
    relevant: Mapping[str, Mapping[str, int]]

    def counts(self) -> dict[str, int]:
        """Return how much there is of each."""
        judged = sum(map(len, self.relevant.values()))
        return {"documents": len(self.documents), "queries": len(self.queries), "judgements": judged}

    def check(self) -> None:
        """Raise InputError where nothing could be measured, or a judgement is of what is not there."""
        _some("documents", self.documents)
        _some("queries", self.queries)
        for query, judged in self.relevant.items():
            if query not in self.queries:
                raise InputError(f"Query {query!r} is judged and is not among the queries.")
            missing = next((key for key in judged if key not in self.documents), None)
            if missing is not None:
                raise InputError(f"Query {query!r} has a judgement of document {missing!r}, which is not there.")
        if not any(grade > 0 for judged in self.relevant.values() for grade in judged.values()):
            raise InputError("No query has a relevant document: nothing can be measured.")


@dataclass(frozen=True)
class PairRows:
    """Pairs of texts with a number each: how alike they are (STS), or 1 and 0 (similar and dissimilar)."""

    first: Sequence[str]
    second: Sequence[str]
    gold: Sequence[float]

    def counts(self) -> dict[str, int]:
        """Return how many pairs there are."""
        return {"pairs": len(self.gold)}

    def check(self) -> None:
        """Raise InputError where the columns differ in length, or all pairs have one number."""
        _aligned(first=self.first, second=self.second, gold=self.gold)
        if len(set(self.gold)) < 2:
            raise InputError(f"{len(self.gold)} pairs, all with one score or label: nothing can be told apart.")


@dataclass(frozen=True)
class Labelled:
    """Texts with a label each."""

    texts: Sequence[str]
    labels: Sequence[str]

    def check(self) -> None:
        """Raise InputError where there are fewer than two labels."""
        _aligned(texts=self.texts, labels=self.labels)
        if len(set(self.labels)) < 2:
            raise InputError(f"{len(self.texts)} texts with {len(set(self.labels))} label: at least two are needed.")


@dataclass(frozen=True)
class Classification:
    """What a probe learns from, and what it is measured on."""

    train: Labelled
    test: Labelled

    def counts(self) -> dict[str, int]:
        """Return how many texts and labels there are."""
        return {"train": len(self.train.texts), "test": len(self.test.texts), "labels": len(set(self.train.labels))}

    def check(self) -> None:
        """Raise InputError where a side is empty, or the test has labels that nothing could be learnt of."""
        self.train.check()
        _some("test texts", self.test.texts)
        _aligned(texts=self.test.texts, labels=self.test.labels)
        unknown = sorted(set(self.test.labels) - set(self.train.labels))
        if unknown:
            raise InputError(f"The test has the label {unknown[0]!r}, of which there is no text to learn from.")


@dataclass(frozen=True)
class Clustering:
    """Sets of texts, each to be put into its groups anew."""

    sets: Sequence[Labelled]

    def counts(self) -> dict[str, int]:
        """Return how many sets, texts and labels there are."""
        labels = {label for each in self.sets for label in each.labels}
        return {"sets": len(self.sets), "texts": sum(len(each.texts) for each in self.sets), "labels": len(labels)}

    def check(self) -> None:
        """Raise InputError where there is no set, or one without two labels."""
        _some("sets of texts", self.sets)
        for each in self.sets:
            each.check()


@dataclass(frozen=True)
class Candidates:
    """A query with documents that answer it, and some that do not."""

    query: str
    positive: Sequence[str]
    negative: Sequence[str]


@dataclass(frozen=True)
class Reranking:
    """Queries, each with candidates of its own to be put in order."""

    samples: Sequence[Candidates]

    def counts(self) -> dict[str, int]:
        """Return how many queries and candidates there are."""
        candidates = sum(len(each.positive) + len(each.negative) for each in self.samples)
        return {"queries": len(self.samples), "candidates": candidates}

    def check(self) -> None:
        """Raise InputError where a query lacks a positive or a negative candidate."""
        _some("queries", self.samples)
        for at, each in enumerate(self.samples, 1):
            if not each.positive or not each.negative:
                raise InputError(f"Query {at} ({each.query[:60]!r}) needs a positive and a negative document.")


@dataclass(frozen=True)
class Bitext:
    """Sentences and their translations, in order."""

    first: Sequence[str]
    second: Sequence[str]

    def counts(self) -> dict[str, int]:
        """Return how many pairs there are."""
        return {"pairs": len(self.first)}

    def check(self) -> None:
        """Raise InputError where the columns differ in length, or there is one pair alone."""
        _aligned(first=self.first, second=self.second)
        if len(self.first) < 2:
            raise InputError("One pair alone: there is nothing to find its translation among.")


Rows = Retrieval | PairRows | Classification | Clustering | Reranking | Bitext


@dataclass(frozen=True)
class Dataset:
    """Rows of one task.

    Args:
        name: as shown.
        task: what is measured: a name on the shelf of tasks, such as ``retrieval`` or ``sts``.
        rows: of the kind that the task takes.
        synthetic: where nobody judged the rows: how they were made. It is shown wherever a figure is.
        note: more to know of it.

    Raises:
        InputError: nothing could be measured on these rows.
    """

    name: str
    task: str
    rows: Rows
    synthetic: str | None = None
    note: str = ""

    def __post_init__(self) -> None:
        try:
            self.rows.check()
        except InputError as error:
            raise InputError(f"Data set {self.name!r}: {error}", param=error.param) from None

    @cached_property
    def digest(self) -> str:
        """What tells its content (task and rows, not the name) from another's: sha256 in hexadecimal."""
        told = json.dumps([self.task, asdict(self.rows)], ensure_ascii=True, sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return its name, task, digest and counts, as results say them."""
        more = {"synthetic": self.synthetic} if self.synthetic else {}
        more |= {"note": self.note} if self.note else {}
        return {"name": self.name, "task": self.task, "digest": self.digest, **self.rows.counts(), **more}


def _some(what: str, rows: Any) -> None:
    if not rows:
        raise InputError(f"There are no {what}.")


def _aligned(**columns: Sequence[Any]) -> None:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{count} of {name}" for name, count in lengths.items())
        raise InputError(f"The columns differ in length: {told}.")
    _some("rows", next(iter(columns.values())))
