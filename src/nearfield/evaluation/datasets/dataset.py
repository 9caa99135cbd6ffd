"""Evaluation data sets: checked rows of one task, with a digest that identifies the content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence, Sized
from dataclasses import asdict, dataclass
from functools import cached_property

from nearfield.errors import InputError
from nearfield.evaluation.json_types import JsonDict


@dataclass(frozen=True)
class Retrieval:
    """Documents and queries by their ids, and for each judged query its documents with their relevance (0: not).

    Grades are whole numbers; a document without a judgment is not relevant.
    """

    documents: Mapping[str, str]
    queries: Mapping[str, str]
    relevant: Mapping[str, Mapping[str, int]]

    def counts(self) -> dict[str, int]:
        """Return the number of documents, queries and judgments."""
        judged = sum(map(len, self.relevant.values()))
        return {"documents": len(self.documents), "queries": len(self.queries), "judgements": judged}

    def check(self) -> None:
        """Raise InputError if nothing can be measured, or a judgment names an unknown query or document."""
        _require_rows("documents", self.documents)
        _require_rows("queries", self.queries)
        for query, judged in self.relevant.items():
            if query not in self.queries:
                raise InputError(f"Query {query!r} is judged, but is not among the queries.")
            missing = next((key for key in judged if key not in self.documents), None)
            if missing is not None:
                raise InputError(f"Query {query!r} has a judgment of document {missing!r}, which does not exist.")
        if not any(grade > 0 for judged in self.relevant.values() for grade in judged.values()):
            raise InputError("No query has a relevant document: nothing can be measured.")


@dataclass(frozen=True)
class PairRows:
    """Pairs of texts with a number: their similarity (STS), or 1 (similar) and 0 (dissimilar)."""

    first: Sequence[str]
    second: Sequence[str]
    gold: Sequence[float]

    def counts(self) -> dict[str, int]:
        """Return how many pairs there are."""
        return {"pairs": len(self.gold)}

    def check(self) -> None:
        """Raise InputError if the columns differ in length, or all pairs have the same number."""
        _require_equal_lengths(first=self.first, second=self.second, gold=self.gold)
        if len(set(self.gold)) < 2:
            raise InputError(f"{len(self.gold)} pairs, all with one score or label: nothing can be measured.")


@dataclass(frozen=True)
class Labelled:
    """Texts with labels."""

    texts: Sequence[str]
    labels: Sequence[str]

    def check(self) -> None:
        """Raise InputError if there are fewer than two labels."""
        _require_equal_lengths(texts=self.texts, labels=self.labels)
        if len(set(self.labels)) < 2:
            raise InputError(f"{len(self.texts)} texts with {len(set(self.labels))} label: at least two are needed.")


@dataclass(frozen=True)
class Classification:
    """Training and test texts of a classifier."""

    train: Labelled
    test: Labelled

    def counts(self) -> dict[str, int]:
        """Return how many texts and labels there are."""
        return {"train": len(self.train.texts), "test": len(self.test.texts), "labels": len(set(self.train.labels))}

    def check(self) -> None:
        """Raise InputError if a side is empty, or the test has labels without training texts."""
        self.train.check()
        _require_rows("test texts", self.test.texts)
        _require_equal_lengths(texts=self.test.texts, labels=self.test.labels)
        unknown = sorted(set(self.test.labels) - set(self.train.labels))
        if unknown:
            raise InputError(f"The test has the label {unknown[0]!r}, of which there is no text to learn from.")


@dataclass(frozen=True)
class Clustering:
    """Sets of labelled texts, each to be clustered separately."""

    sets: Sequence[Labelled]

    def counts(self) -> dict[str, int]:
        """Return how many sets, texts and labels there are."""
        labels = {label for labelled in self.sets for label in labelled.labels}
        return {
            "sets": len(self.sets),
            "texts": sum(len(labelled.texts) for labelled in self.sets),
            "labels": len(labels),
        }

    def check(self) -> None:
        """Raise InputError if there is no set, or a set has fewer than two labels."""
        _require_rows("sets of texts", self.sets)
        for labelled in self.sets:
            labelled.check()


@dataclass(frozen=True)
class Candidates:
    """A query with relevant (positive) and irrelevant (negative) documents."""

    query: str
    positive: Sequence[str]
    negative: Sequence[str]


@dataclass(frozen=True)
class Reranking:
    """Queries with candidates to be ordered."""

    samples: Sequence[Candidates]

    def counts(self) -> dict[str, int]:
        """Return how many queries and candidates there are."""
        candidates = sum(len(sample.positive) + len(sample.negative) for sample in self.samples)
        return {"queries": len(self.samples), "candidates": candidates}

    def check(self) -> None:
        """Raise InputError if a query lacks a positive or a negative candidate."""
        _require_rows("queries", self.samples)
        for number, sample in enumerate(self.samples, 1):
            if not sample.positive or not sample.negative:
                raise InputError(f"Query {number} ({sample.query[:60]!r}) needs a positive and a negative document.")


@dataclass(frozen=True)
class Bitext:
    """Sentences and their translations, in order."""

    first: Sequence[str]
    second: Sequence[str]

    def counts(self) -> dict[str, int]:
        """Return how many pairs there are."""
        return {"pairs": len(self.first)}

    def check(self) -> None:
        """Raise InputError if the columns differ in length, or there is only one pair."""
        _require_equal_lengths(first=self.first, second=self.second)
        if len(self.first) < 2:
            raise InputError("One pair alone: there are no other sentences to choose from.")


Rows = Retrieval | PairRows | Classification | Clustering | Reranking | Bitext


@dataclass(frozen=True)
class Dataset:
    """Rows of one task.

    Args:
        name: as shown.
        task: name of a task, such as ``retrieval`` or ``sts``.
        rows: of the class that the task takes.
        synthetic: for rows without human judgments, how they were created. Reports show it next to each score.
        note: further information.
        unused_columns: columns of its files that have no role in the task.

    Raises:
        InputError: nothing can be measured on these rows.
    """

    name: str
    task: str
    rows: Rows
    synthetic: str | None = None
    note: str = ""
    unused_columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            self.rows.check()
        except InputError as error:
            raise InputError(f"Data set {self.name!r}: {error}", param=error.param) from None

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the content (task and rows, not the name) in hexadecimal."""
        content = json.dumps([self.task, asdict(self.rows)], ensure_ascii=True, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def to_dict(self) -> JsonDict:
        """Return name, task, digest and counts, as results contain them."""
        more: JsonDict = {"synthetic": self.synthetic} if self.synthetic else {}
        more |= {"note": self.note} if self.note else {}
        more |= {"unused_columns": list(self.unused_columns)} if self.unused_columns else {}
        return {"name": self.name, "task": self.task, "digest": self.digest, **self.rows.counts(), **more}


def _require_rows(what: str, rows: Sized) -> None:
    if not rows:
        raise InputError(f"There are no {what}.")


def _require_equal_lengths(**columns: Sequence[object]) -> None:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{count} of {name}" for name, count in lengths.items())
        raise InputError(f"The columns differ in length: {counts}.")
    _require_rows("rows", next(iter(columns.values())))
