"""Asked: what a search is asked for, checked against what a collection can be searched by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from nearfield.corpus.search import fusion
from nearfield.errors import InputError, nearest
from nearfield.stores import Kind, TableSpec
from nearfield.stores.filters import All, Compare, Either, FieldType, Filter, Not, parse

Array = np.ndarray[Any, np.dtype[Any]]
MODES = ("auto", "dense", "sparse", "bm25", "multivector", "hybrid", "two-stage")
#: What reranks beside cross-encoders, which go by their models' names.
RERANKS = ("multivector", "sentences", "maxsim")
HIGHLIGHTS = ("words", "meaning")
FUSIONS: Mapping[str, Callable[..., dict[str, float]]] = {"rrf": fusion.reciprocal, "weighted": fusion.weighted}
BM25 = "bm25"
MOST = 1000
#: Candidates of each ranking that is fused; for each result, of the first of two stages, and to choose variety from.
FUSED, FIRST, VARIED = 100, 10, 4
#: Candidates that are reranked: sentences cost as much to encode as pairs, and gain little further down.
RERANKED, RERANKED_SENTENCES = 50, 20
#: What makes a mode possible, as a line of the collection's definition.
_ADD = {
    "dense": 'features.dense = {model = "all-MiniLM-L6-v2"}',
    "sparse": 'features.sparse = {kind = "sparse", model = "..."}',
    "multivector": 'features.tokens = {kind = "multivector", model = "..."}',
    "short or binary": 'features.short = {of = "dense", dtype = "binary"}',
}


@dataclass(frozen=True)
class Searchable:
    """A feature that can be searched by.

    ``encode_queries`` puts the model's query prompt before texts and gives vectors in the form of ``Record.vector``;
    where its result has a fingerprint, that must be this one. ``of`` names the feature that this one is a cut or
    quantised form of, and ``shape`` makes its vectors of those [n, dimensions], so that no query is encoded twice.
    ``encode_documents`` encodes texts as documents, in the same form, for sentences.
    """

    table: TableSpec
    encode_queries: Callable[[Sequence[str]], Any]
    model: str = ""
    fingerprint: str = ""
    of: str | None = None
    shape: Callable[[Array], Array] | None = None
    encode_documents: Callable[[Sequence[str]], Any] | None = None


@dataclass(frozen=True)
class SearchPlan:
    """A search's options, checked.

    ``legs`` are the features, or ``bm25``, whose rankings are fused; ``rescored`` is the feature whose whole vectors
    score what the first found; ``dense`` and ``tokens`` are those that later stages need; ``pool`` is how many
    candidates they take, and ``depth`` how many the legs give.
    """

    k: int
    legs: tuple[str, ...]
    rescored: str | None
    dense: str | None
    tokens: str | None
    where: Filter | None
    rerank: str | None
    mmr: float | None
    highlight: str | None
    explain: bool
    exact: bool
    weights: Mapping[str, float]
    fuse: str
    pool: int
    depth: int

    @property
    def features(self) -> list[str]:
        """The features that queries are encoded for."""
        names = (*self.legs, self.rescored, self.dense, self.tokens)
        return list(dict.fromkeys(name for name in names if name and name != BM25))

    @property
    def sentences(self) -> bool:
        """Whether sentences are encoded."""
        return self.rerank == "sentences" or self.highlight == "meaning"


class SearchPlanner:
    """What a collection can be searched by: features, in order, keywords, cross-encoders, and fields to filter by."""

    def __init__(
        self,
        features: Mapping[str, Searchable],
        fields: Mapping[str, FieldType] | None,
        *,
        keywords: bool,
        rerankers: bool,
    ) -> None:
        self._features, self._keywords, self._rerankers = features, keywords, rerankers
        first = next(iter(features.values()), None)
        self._fields = fields if fields is not None else (first.table.fields if first else {})

    def asked(
        self,
        k: int,
        mode: str,
        where: Any,
        rerank: str | None,
        rerank_depth: int | None,
        mmr: float | None,
        highlight: bool | str,
        explain: bool,
        exact: bool,
        weights: Mapping[str, float] | None,
        fuse: str,
        depth: int | None,
    ) -> SearchPlan:
        """Check options, which are those of ``Searcher.search_many``.

        Raises:
            InputError: one is unknown or out of range, or the collection lacks what it needs.
        """
        _whole("k", k, MOST)
        legs, rescored = self._mode(mode)
        reranked, marked = self._reranked(rerank), self._marked(highlight)
        if fuse not in FUSIONS:
            raise InputError(f"Unknown fuse {fuse!r}. {nearest(fuse, FUSIONS)}", param="fuse")
        pool = k
        if reranked:
            usual = RERANKED_SENTENCES if reranked == "sentences" else RERANKED
            pool = max(k, usual if rerank_depth is None else _whole("rerank_depth", rerank_depth, MOST))
        elif mmr is not None:
            pool = max(k, min(VARIED * k, MOST))
        usual = max(FUSED, pool) if len(legs) > 1 else FIRST * pool if rescored else pool
        return SearchPlan(
            k=k,
            legs=legs,
            rescored=rescored,
            dense=self._dense(reranked, marked, mmr),
            tokens=self._named("multivector") if reranked == "multivector" else None,
            where=where if isinstance(where, (Compare, All, Either, Not)) else parse(where, self._fields),
            rerank=reranked,
            mmr=None if mmr is None else _share("mmr", mmr),
            highlight=marked,
            explain=bool(explain),
            exact=bool(exact),
            weights=_weights(weights or {}, legs),
            fuse=fuse,
            pool=pool,
            depth=usual if depth is None else max(pool, _whole("depth", depth, FIRST * MOST)),
        )

    def _mode(self, mode: str) -> tuple[tuple[str, ...], str | None]:
        """Return the rankings that a mode needs, and the feature that rescores."""
        if mode == "auto":
            mode = self._auto()
        if mode == BM25 and self._keywords:
            return (BM25,), None
        if mode == "hybrid":
            second = self._named("sparse") or (BM25 if self._keywords else None)
            return (self._first("dense", mode), second or self._first("sparse", mode)), None
        if mode == "two-stage":
            cut = next((name for name, each in self._features.items() if each.of in self._features), None)
            if cut is None:
                raise _lacking(f"Mode {mode!r}", "short or binary")
            return (cut,), self._features[cut].of
        if mode in ("dense", "sparse", "multivector"):
            return (self._first(cast(Kind, mode), f"Mode {mode!r}"),), None
        if mode in self._features:
            return (mode,), None
        if mode == BM25:
            raise InputError("Mode 'bm25' needs a keyword index, which this collection lacks.", param="mode")
        raise InputError(f"Unknown mode {mode!r}. {nearest(mode, {*MODES, *self._features})}", param="mode")

    def _auto(self) -> str:
        if self._named("dense"):
            return "hybrid" if self._keywords or self._named("sparse") else "dense"
        return BM25 if self._keywords else next(iter(self._features), "dense")

    def _named(self, kind: Kind) -> str | None:
        """Return the first whole feature of a kind."""
        found = (name for name, each in self._features.items() if each.table.kind == kind and each.of is None)
        return next(found, None)

    def _first(self, kind: Kind, wanted: str) -> str:
        found = self._named(kind)
        if found is None:
            raise _lacking(wanted, kind)
        return found

    def _reranked(self, name: str | None) -> str | None:
        if name == "maxsim":
            name = "multivector" if self._named("multivector") else "sentences"
        if name == "multivector":
            self._first("multivector", "Rerank 'multivector'")
        elif name not in (None, *RERANKS) and not self._rerankers:
            raise InputError(f"No cross-encoder {name!r} can be loaded here. {nearest(name, RERANKS)}", param="rerank")
        return name

    def _marked(self, told: bool | str) -> str | None:
        name = "words" if told is True else told or None
        if name is not None and name not in HIGHLIGHTS:
            raise InputError(f"Unknown highlight {name!r}. {nearest(name, HIGHLIGHTS)}", param="highlight")
        return name

    def _dense(self, rerank: str | None, highlight: str | None, mmr: float | None) -> str | None:
        """Return the dense feature that sentences and variety are judged by, where one is needed."""
        sentences = "Rerank 'sentences'" if rerank == "sentences" else "Highlight 'meaning'"
        if rerank == "sentences" or highlight == "meaning":
            name = self._first("dense", sentences)
            if self._features[name].encode_documents is None:
                raise InputError(f"{sentences} needs the dense feature's model, which is not at hand here.")
            return name
        return None if mmr is None else self._first("dense", "mmr")


def _whole(name: str, value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InputError(f"{name} is a whole number from 1 to {most:,}, and not {value!r}.", param=name)
    return value


def _share(name: str, value: Any, most: float = 1.0) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise InputError(f"{name} is a number from 0 to {most:g}, and not {value!r}.", param=name)
    return float(value)


def _weights(weights: Mapping[str, float], legs: Sequence[str]) -> dict[str, float]:
    for name in weights:
        if name not in legs:
            raise InputError(f"A weight for {name!r}, which is not searched. {nearest(name, legs)}", param="weights")
    told = {name: _share("weights", weights.get(name, 1.0), 1e6) for name in legs}
    if not any(told.values()):
        raise InputError("All weights are 0: one must be above.", param="weights")
    return told


def _lacking(wanted: str, feature: str) -> InputError:
    return InputError(
        f"{wanted} needs a {feature} feature, which this collection lacks. Add one to its definition, such as "
        f"{_ADD[feature]}, and index again.",
        param="mode",
    )
