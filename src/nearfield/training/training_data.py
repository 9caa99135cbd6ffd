"""Rows to learn from: queries with documents, texts with labels, or scored pairs, and where each row comes from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TypeAlias

from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Labelled, PairRows, Retrieval
from nearfield.evaluation.json_types import JsonDict

#: Ranking (a grade above 0 is a positive, 0 a negative), classes, and pairs with a score.
TrainingRows: TypeAlias = Retrieval | Labelled | PairRows

_SHAPES: dict[type, str] = {Retrieval: "ranking", Labelled: "labels", PairRows: "scores"}


@dataclass(frozen=True)
class TrainingData:
    """Rows of one shape, with the source of each and the scores of a teacher where there are any.

    Args:
        name: as shown.
        rows: ``Retrieval`` (a judgment of 0 is a negative), ``Labelled`` or ``PairRows``.
        sources: which document each row comes from. A split never separates rows of one document.
            Keys are ids of documents (ranking) or numbers of rows as strings, from "0" (labels, scores). A row that
            is not listed is its own source.
        teacher_scores: for each query id, scores of documents by a teacher; any real numbers, higher is better.
        synthetic: for rows without human judgments, how they were created.
        unused_columns: columns of its file that have no role.

    Raises:
        InputError: there is nothing to learn from these rows.
    """

    name: str
    rows: TrainingRows
    sources: Mapping[str, str] = field(default_factory=dict)
    teacher_scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    synthetic: str | None = None
    unused_columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            self.rows.check()
        except InputError as error:
            raise InputError(f"Training data {self.name!r}: {error}", param="data") from None

    @property
    def shape(self) -> str:
        """``ranking``, ``labels`` or ``scores``."""
        return _SHAPES[type(self.rows)]

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of rows, sources and teacher scores in hexadecimal; the name does not count."""
        content = [
            self.shape,
            asdict(self.rows),
            dict(self.sources),
            {k: dict(v) for k, v in self.teacher_scores.items()},
        ]
        return hashlib.sha256(json.dumps(content, ensure_ascii=True, sort_keys=True).encode()).hexdigest()

    @property
    def notes(self) -> list[str]:
        """What a user should know of the rows: which columns are not used."""
        return (
            [f"Columns without a role are not used: {', '.join(self.unused_columns)}."] if self.unused_columns else []
        )

    def source_of(self, key: str) -> str:
        """Return the source document of a row by its key (see ``sources``)."""
        return self.sources.get(key, key)

    def counts(self) -> JsonDict:
        """Return how many rows of each sort there are."""
        if isinstance(self.rows, Labelled):
            return {"texts": len(self.rows.texts), "labels": len(set(self.rows.labels))}
        return dict(self.rows.counts())
