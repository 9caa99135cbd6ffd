"""A user's requirements on a model, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import cast

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
        queries_per_second: queries of ``query_tokens`` tokens per second; purposes without queries ignore it.
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
        _require_names("languages", self.languages)
        _require_names("licences", self.licences)
        if not self.languages:
            raise InputError("At least one language is needed, such as en.", param="languages")
        codes = dict.fromkeys(language_code(code, param="languages") for code in self.languages)
        object.__setattr__(self, "languages", tuple(codes))
        for name, minimum in _MINIMA.items():
            _require_number(name, getattr(self, name), minimum)

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


_MINIMA = {
    "tokens": 1,
    "texts": 1,
    "queries_per_second": 0,
    "query_tokens": 1,
    "memory": 1,
    "index_hours": 0,
    "reranked": 1,
}


#: What has to be a whole number, and the amount that no number may reach: sums with it stay finite.
_WHOLE = ("tokens", "texts", "query_tokens", "memory", "reranked")
_OPTIONAL = ("memory", "index_hours")
_LIMIT = 1e18


def _require_number(name: str, value: object, minimum: int) -> None:
    if value is None and name in _OPTIONAL:
        return
    kind, label = (Integral, "a whole number") if name in _WHOLE else (Real, "a number")
    if not isinstance(value, Real) or not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{name} must be {label}, not {value!r}.", param=name)
    if value >= cast(Real, _LIMIT):  # Its digits may be too many to print.
        raise InputError(f"{name} must be at least {minimum} and below {_LIMIT:g}.", param=name)
    if not value >= cast(Real, minimum):
        raise InputError(f"{name} must be at least {minimum}, not {value}.", param=name)


def _require_names(name: str, value: object) -> None:
    """Refuse a text, whose letters would be the names, and what is no text in a sequence."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(one, str) for one in value):
        raise InputError(f"{name} must be a sequence of texts, such as a tuple or list, not {value!r}.", param=name)


def _require_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"Unknown {name} {value!r}. {nearest(value, known)}", param=name)


def _require_kind_for_purpose(purpose: Purpose, kind: str) -> None:
    if kind not in purpose.kinds:
        fitting = " or ".join(purpose.kinds)
        raise InputError(f"{purpose.name} ({purpose.summary}) needs {fitting}, not {kind}.", param="kind")
