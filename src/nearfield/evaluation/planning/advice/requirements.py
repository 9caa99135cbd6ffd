"""A user's requirements on a model, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nearfield.catalog.languages.codes import language_code
from nearfield.errors import InputError, nearest
from nearfield.evaluation.planning.advice.purposes import PURPOSES, Purpose

KINDS = ("dense", "sparse", "multivector", "scores")
#: All languages have to work equally well, or most of them.
COVERAGES = ("all", "most")
#: Share of the bulk speed that is available to single queries, which arrive at random times.
HEADROOM = 0.5
#: Texts that a reranker scores for a query, and the fewer that are tried where these are too many.
RERANKED, FEWER_RERANKED = 50, (20, 10)


@dataclass(frozen=True)
class Requirements:
    """Requirements on a model. A model that fails one of them is not proposed.

    Args:
        purpose: one of ``PURPOSES``.
        languages: ISO 639-1 codes of the texts; those of queries for pictures, sounds and code.
        coverage: "all" ranks by the language that works least well, "most" by their mean.
        tokens: tokens of a text (of a chunk, if documents are split), with prompt and special tokens.
        texts: number of texts, pictures or sounds.
        queries_per_second: queries of ``query_tokens`` tokens per second.
        memory: bytes for model and vectors, which are shortened or quantised if they do not fit otherwise; None: no
            limit.
        commercial: whether the licence must allow commercial use.
        licences: accepted licences; empty: any.
        kind: dense, sparse, multivector or scores (rerankers); None: what is usual for the purpose.
        index_hours: maximum time to embed all texts; None: no limit.
        reranked: texts that a reranker scores for a query.

    Raises:
        InputError: a value is invalid.
    """

    purpose: str = "retrieval"
    languages: tuple[str, ...] = ("en",)
    coverage: str = "all"
    tokens: int = 256
    texts: int = 100_000
    queries_per_second: float = 1.0
    query_tokens: int = 16
    memory: int | None = None
    commercial: bool = True
    licences: tuple[str, ...] = ()
    kind: str | None = None
    index_hours: float | None = 48.0
    reranked: int = RERANKED

    def __post_init__(self) -> None:
        _require_one_of("purpose", self.purpose, tuple(PURPOSES))
        _require_one_of("coverage", self.coverage, COVERAGES)
        if self.kind is not None:
            _require_one_of("kind", self.kind, KINDS)
            _require_kind_for_purpose(self.aim, self.kind)
        if not self.languages:
            raise InputError("At least one language is needed, such as en.", param="languages")
        codes = dict.fromkeys(language_code(code, param="languages") for code in self.languages)
        object.__setattr__(self, "languages", tuple(codes))
        for name, minimum in _MINIMA.items():
            value = getattr(self, name)
            if value is not None and not minimum <= value < math.inf:
                raise InputError(f"{name} must be at least {minimum}, not {value}.", param=name)

    @property
    def aim(self) -> Purpose:
        """The purpose with what belongs to it."""
        return PURPOSES[self.purpose]

    @property
    def output(self) -> str:
        """The kind of output that is wanted."""
        return self.kind or self.aim.kinds[0]

    @property
    def query_length(self) -> int:
        """Tokens that a model reads at once for a query; a reranker reads query and text together."""
        return self.tokens + self.query_tokens if self.output == "scores" else self.query_tokens

    @property
    def vectors(self) -> int:
        """The number of vectors: one a text, or one a token."""
        return self.texts * (self.tokens if self.output == "multivector" else 1)


_MINIMA = {
    "tokens": 1,
    "texts": 1,
    "queries_per_second": 0,
    "query_tokens": 1,
    "memory": 1,
    "index_hours": 0,
    "reranked": 1,
}


def _require_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"Unknown {name} {value!r}. {nearest(value, known)}", param=name)


def _require_kind_for_purpose(purpose: Purpose, kind: str) -> None:
    if kind not in purpose.kinds:
        fitting = " or ".join(purpose.kinds)
        raise InputError(f"{purpose.name} ({purpose.summary}) needs {fitting}, not {kind}.", param="kind")
