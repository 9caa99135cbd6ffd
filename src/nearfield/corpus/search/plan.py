"""Search planning: validate search options against a collection's features and build a ``SearchPlan``."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from nearfield.argument_checks import require_count, require_mapping, require_optional_texts, require_texts
from nearfield.arrays import Array
from nearfield.corpus.document import TEXT
from nearfield.corpus.extractors.media.kinds import MEDIA_FIELDS, NOUNS
from nearfield.corpus.search import fusion
from nearfield.corpus.search.content.query import ContentQuery
from nearfield.corpus.search.content.readers import read_share, require_readers
from nearfield.errors import InputError, nearest
from nearfield.stores import Kind, TableSpec, Vector
from nearfield.stores.filters import All, Compare, Either, FieldType, Filter, Not, parse_filter

MODES = ("auto", "dense", "sparse", "bm25", "multivector", "hybrid", "two-stage")
#: Values of ``rerank`` besides the names of cross-encoders.
RERANKS = ("multivector", "sentences", "maxsim")
HIGHLIGHTS = ("words", "meaning")
FUSIONS: Mapping[str, Callable[..., dict[str, float]]] = {"rrf": fusion.reciprocal, "weighted": fusion.weighted}
#: The name of the keyword ranking.
BM25 = "bm25"
MAX_RESULTS = 1000
#: Candidates of one ranking.
MAX_CANDIDATES = 10 * MAX_RESULTS
#: Candidates: of each fused ranking; for each result, of the first of two stages; for each result, to choose by MMR.
FUSED, FIRST, VARIED = 100, 10, 4
#: What results are grouped by, and the results of a group besides the best one that are returned.
GROUPS, OTHERS = ("document",), 3
#: Candidates that are reranked: sentences cost as much to encode as pairs, and gain little further down.
RERANKED, RERANKED_SENTENCES = 50, 20
#: The line of a collection's definition that makes a mode possible.
_ADD = {
    "dense": 'features.dense = {model = "all-MiniLM-L6-v2"}',
    "sparse": 'features.sparse = {kind = "sparse", model = "..."}',
    "multivector": 'features.tokens = {kind = "multivector", model = "..."}',
    "short or binary": 'features.short = {of = "dense", dtype = "binary"}',
}


@dataclass(frozen=True)
class Searchable:
    """A feature that can be searched.

    ``encode_queries`` adds the model's query prompt and returns vectors in the form of ``Record.vector``; if its result
    has a fingerprint, it must be this one. ``of`` names the feature of which this one is a truncated or quantised form,
    and ``shape`` converts that feature's vectors [n, dimensions], so that no query is encoded twice.
    ``encode_documents`` encodes texts as documents, in the same form, for sentences. ``unread_script`` returns the
    script of a text that the model cannot read. ``note`` says what is lost where queries reach the vectors through a
    bridge. ``reads`` are the kinds of chunks with vectors, and ``reads_queries`` says whether the model reads texts.
    ``modalities`` are all that it reads; ``encode_media`` encodes queries that are no texts, and ``fuses`` says whether
    it reads content of several parts together.
    """

    table: TableSpec
    encode_queries: Callable[[Sequence[str]], Sequence[Vector]]
    model: str = ""
    fingerprint: str = ""
    of: str | None = None
    shape: Callable[[Array], Array] | None = None
    encode_documents: Callable[[Sequence[str]], Sequence[Array]] | None = None
    unread_script: Callable[[str], str | None] | None = None
    note: str = ""
    reads: tuple[str, ...] = (TEXT,)
    reads_queries: bool = True
    modalities: tuple[str, ...] = (TEXT,)
    encode_media: Callable[[Sequence[Any]], Sequence[Vector]] | None = None
    fuses: bool = False

    @property
    def media(self) -> tuple[str, ...]:
        """The kinds that it reads besides text."""
        return tuple(kind for kind in self.reads if kind != TEXT)


@dataclass(frozen=True)
class SearchOptions:
    """The options of a search as the caller wrote them: see ``Searcher.search_many``."""

    k: int
    mode: str = "auto"
    where: object = None
    rerank: str | None = None
    rerank_depth: int | None = None
    mmr: float | None = None
    highlight: bool | str = False
    explain: bool = False
    exact: bool = False
    weights: Mapping[str, float] | None = None
    fuse: str = "weighted"
    depth: int | None = None
    min_score: float | None = None
    group_by: str | None = None
    others: int = OTHERS


def known_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the keywords of a search, if all of them are options.

    Raises:
        TypeError: one of them is none; the message names the nearest option.
    """
    known = [*(field.name for field in fields(SearchOptions) if field.name != "k"), "like", "part_weights"]
    for name in options:
        if name not in known:
            raise TypeError(f"A search has no option {name!r}. {nearest(name, known)}")
    return options


@dataclass(frozen=True)
class SearchPlan:
    """Validated search options, and the features that they use.

    ``rankings`` are the features, or ``bm25``, whose rankings are fused; ``rescored`` is the feature whose whole
    vectors score the candidates again; ``dense`` and ``tokens`` are the features that later stages need. ``depth`` is
    the number of candidates of each ranking, and ``pool`` the number that later stages take. Results with a score below
    ``min_score`` are left out. ``notes`` say which features are left out, and why. ``kinds`` are the kinds of chunks
    that are ranked one by one and then compared; empty where all are texts. ``others`` are returned of each group.
    """

    k: int
    rankings: tuple[str, ...]
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
    min_score: float | None = None
    notes: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    group_by: str | None = None
    others: int = OTHERS

    @property
    def features(self) -> list[str]:
        """The features that queries are encoded for."""
        names = (*self.rankings, self.rescored, self.dense, self.tokens)
        return list(dict.fromkeys(name for name in names if name and name != BM25))

    @property
    def sentences(self) -> bool:
        """Whether sentences are encoded."""
        return self.rerank == "sentences" or self.highlight == "meaning"

    def deepened(self, factor: int) -> SearchPlan | None:
        """Return the plan with more candidates, for groups that are too few; None if there can be no more."""
        if self.rerank or self.pool >= MAX_CANDIDATES:
            return None
        pool = min(self.pool * factor, MAX_CANDIDATES)
        return replace(self, pool=pool, depth=max(self.depth, pool))


class SearchPlanner:
    """Plans searches of one collection by its features (in order), keyword index, cross-encoders and filter fields."""

    def __init__(
        self,
        features: Mapping[str, Searchable],
        fields: Mapping[str, FieldType] | None,
        *,
        keywords: bool,
        rerankers: bool,
    ) -> None:
        self._features, self._keywords, self._rerankers = features, keywords, rerankers
        #: The query, if it is more than texts.
        self._query: ContentQuery | None = None
        first = next(iter(features.values()), None)
        self._fields = fields if fields is not None else (first.table.fields if first else {})

    def for_query(self, query: ContentQuery) -> SearchPlanner:
        """Return a planner for queries with parts like those of this one."""
        planner = copy.copy(self)
        planner._query = None if query.modalities == {TEXT} else query
        return planner

    def plan(self, options: SearchOptions) -> SearchPlan:
        """Return the plan for these options.

        Raises:
            InputError: an option is unknown or out of range, or the collection lacks a feature that it needs.
        """
        require_texts(mode=options.mode, fuse=options.fuse)
        require_optional_texts(rerank=options.rerank, group_by=options.group_by)
        require_mapping("weights", options.weights)
        k, where = require_count("k", options.k, maximum=MAX_RESULTS), options.where
        rankings, rescored = self._mode(options.mode)
        rankings = self._read_by(rankings, options.mode)
        rerank, highlight = self._rerank(options.rerank), _highlight(options.highlight)
        if options.fuse not in FUSIONS:
            raise InputError(f"Unknown fuse {options.fuse!r}. {nearest(options.fuse, FUSIONS)}", param="fuse")
        _check_groups(options)
        self._check_texts(options, rerank, highlight)
        pool = _pool(k, rerank, options)
        default_depth = max(FUSED, pool) if len(rankings) > 1 else FIRST * pool if rescored else pool
        depth = None if options.depth is None else require_count("depth", options.depth, maximum=MAX_CANDIDATES)
        return SearchPlan(
            k=k,
            rankings=rankings,
            rescored=rescored,
            dense=self._dense(rerank, highlight, options.mmr),
            tokens=self._tokens() if rerank == "multivector" else None,
            where=self._where(where),
            rerank=rerank,
            mmr=None if options.mmr is None else _number("mmr", options.mmr),
            highlight=highlight,
            explain=bool(options.explain),
            exact=bool(options.exact),
            weights=_weights(options.weights or {}, rankings),
            fuse=options.fuse,
            pool=pool,
            depth=default_depth if depth is None else max(pool, depth),
            min_score=None if options.min_score is None else _number("min_score", options.min_score),
            notes=self._notes() if options.mode == "auto" and self._query is None else (),
            kinds=self._kinds(rankings),
            group_by=options.group_by,
            others=require_count("others", options.others, minimum=0, maximum=MAX_RESULTS),
        )

    def _kinds(self, rankings: Sequence[str]) -> tuple[str, ...]:
        """Return the kinds of chunks that the rankings have; none where all are texts."""
        read = [kind for name in rankings for kind in ((TEXT,) if name == BM25 else self._features[name].reads)]
        return tuple(dict.fromkeys(read)) if set(read) - {TEXT} else ()

    def _reads(self, name: str) -> bool:
        """Return whether a feature, or the keyword index, reads a part of the query."""
        if self._query is None:
            return name == BM25 or self._features[name].reads_queries
        return bool(self._query.text) if name == BM25 else read_share(self._features[name], self._query) > 0

    def _read_by(self, rankings: tuple[str, ...], mode: str) -> tuple[str, ...]:
        """Return the rankings that read a part of the query.

        Raises:
            InputError: no ranking reads a part.
        """
        if self._query is None:
            return rankings
        chosen = tuple(name for name in rankings if self._reads(name))
        require_readers(self._query, chosen, self._features, mode)
        return chosen

    def _check_texts(self, options: SearchOptions, rerank: str | None, highlight: str | None) -> None:
        """Refuse options that compare texts with the query's text, if it has none."""
        if self._query is None or self._query.text:
            return
        if rerank not in (None, "multivector"):
            raise InputError(
                f"Rerank {options.rerank!r} compares texts, and the query has no text: leave rerank out.",
                param="rerank",
            )
        if highlight == "meaning":
            raise InputError(
                "Highlight 'meaning' compares sentences with the query's text, and it has none.", param="highlight"
            )

    def _notes(self) -> tuple[str, ...]:
        """Return which features cannot read a text, so that a search leaves them out."""
        unread = [name for name, feature in self._features.items() if not feature.reads_queries]
        return tuple(_unread_query(name, self._features[name]) for name in unread)

    def _where(self, where: object) -> Filter | None:
        """Return a filter.

        Raises:
            InputError: it is not valid, or has a field that was declared after the documents were indexed.
        """
        parsed = where if isinstance(where, (Compare, All, Either, Not)) else parse_filter(where, self._fields)
        tables = [feature.table.fields for feature in self._features.values()]
        for name in _fields_of(parsed):
            if name in self._fields and name not in MEDIA_FIELDS and any(name not in table for table in tables):
                raise InputError(
                    f"The field {name!r} was declared after the documents were indexed: index the collection again, "
                    "with all its sources.",
                    param="where",
                )
        return parsed

    def _mode(self, mode: str) -> tuple[tuple[str, ...], str | None]:
        """Return the rankings that a mode needs, and the feature that rescores."""
        if mode == "auto":
            rankings, rescored = self._mode(self._auto())
            return (*rankings, *(name for name in self._media_rankings() if name not in rankings)), rescored
        if mode == BM25 and self._keywords:
            return (BM25,), None
        if mode == "hybrid":
            second = self._first_of("sparse") or (BM25 if self._keywords else None)
            return (self._require("dense", mode), second or self._require("sparse", mode)), None
        if mode == "two-stage":
            short = next((name for name, feature in self._features.items() if feature.of in self._features), None)
            if short is None:
                raise _missing_feature(f"Mode {mode!r}", "short or binary")
            return (short,), self._features[short].of
        if mode in ("dense", "sparse", "multivector"):
            return (self._require(cast(Kind, mode), f"Mode {mode!r}"),), None
        if mode in self._features:
            if self._query is None and not self._features[mode].reads_queries:
                raise InputError(_unread_query(mode, self._features[mode]), param="mode")
            return (mode,), None
        if mode == BM25:
            raise InputError("Mode 'bm25' needs a keyword index, which this collection lacks.", param="mode")
        raise InputError(f"Unknown mode {mode!r}. {nearest(mode, {*MODES, *self._features})}", param="mode")

    def _auto(self) -> str:
        if self._first_of("dense"):
            return "hybrid" if self._keywords or self._first_of("sparse") else "dense"
        if self._keywords:
            return BM25
        return next((name for name in self._features if self._reads(name)), "dense")

    def _media_rankings(self) -> list[str]:
        """Return the features of media that the query is compared with, without forms of others.

        A query that is more than texts is compared with texts too, by all features that read it.
        """
        items = self._features.items()
        chosen = [name for name, one in items if self._reads(name) and one.of not in self._features]
        return chosen if self._query is not None else [name for name in chosen if self._features[name].media]

    def _first_of(self, kind: Kind) -> str | None:
        """Return the first feature of a kind that is not a form of another one: one that reads text, if there is."""
        items = self._features.items()
        names = [name for name, one in items if one.table.kind == kind and one.of is None and self._reads(name)]
        return next((name for name in names if TEXT in self._features[name].reads), next(iter(names), None))

    def _require(self, kind: Kind, option: str) -> str:
        """Return the first feature of a kind, which this option needs."""
        name = self._first_of(kind)
        if name is None and self._query is not None:
            require_readers(self._query, [], self._features, option)
        if name is None:
            raise _missing_feature(option, kind)
        return name

    def _tokens(self) -> str | None:
        """Return the multivector feature that reranks texts: others have vectors of pages alone."""
        name = self._first_of("multivector")
        return name if name is not None and TEXT in self._features[name].reads else None

    def _rerank(self, name: str | None) -> str | None:
        if name == "maxsim":
            name = "multivector" if self._tokens() else "sentences"
        if name == "multivector" and self._tokens() is None:
            raise _missing_feature("Rerank 'multivector'", "multivector")
        if name not in (None, *RERANKS) and not self._rerankers:
            raise InputError(f"No cross-encoder {name!r} can be loaded here. {nearest(name, RERANKS)}", param="rerank")
        return name

    def _dense(self, rerank: str | None, highlight: str | None, mmr: float | None) -> str | None:
        """Return the dense feature for sentences and MMR, if one of these needs it."""
        option = "Rerank 'sentences'" if rerank == "sentences" else "Highlight 'meaning'"
        if rerank == "sentences" or highlight == "meaning":
            name = self._require("dense", option)
            if self._features[name].encode_documents is None:
                raise InputError(f"{option} needs the dense feature's model, which is not available here.")
            return name
        return None if mmr is None else self._require("dense", "mmr")


def _fields_of(where: Filter | None) -> Iterator[str]:
    if isinstance(where, Compare):
        yield where.field
    elif where is not None:
        for part in (where.part,) if isinstance(where, Not) else where.parts:
            yield from _fields_of(part)


def _check_groups(options: SearchOptions) -> None:
    if options.group_by is None:
        return
    if options.group_by not in GROUPS:
        raise InputError(
            f"Unknown group_by {options.group_by!r}. {nearest(options.group_by, GROUPS)}", param="group_by"
        )
    if options.mmr is not None:
        raise InputError("mmr chooses single passages: leave it or group_by out.", param="mmr")


def _highlight(option: bool | str) -> str | None:
    name = "words" if option is True else option or None
    if name is not None and name not in HIGHLIGHTS:
        raise InputError(f"Unknown highlight {name!r}. {nearest(name, HIGHLIGHTS)}", param="highlight")
    return name


def _pool(k: int, rerank: str | None, options: SearchOptions) -> int:
    """Return the number of candidates that reranking or MMR takes."""
    if rerank:
        default = RERANKED_SENTENCES if rerank == "sentences" else RERANKED
        depth = options.rerank_depth
        return max(k, default if depth is None else require_count("rerank_depth", depth, maximum=MAX_RESULTS))
    if options.group_by is not None:
        return min(FIRST * k, MAX_CANDIDATES)
    return k if options.mmr is None else max(k, min(VARIED * k, MAX_RESULTS))


def _number(name: str, value: object, maximum: float = 1.0) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= maximum:
        raise InputError(f"{name} is a number from 0 to {maximum:g}, and not {value!r:.60}.", param=name)
    return float(value)


def _weights(weights: Mapping[str, float], rankings: Sequence[str]) -> dict[str, float]:
    for name in weights:
        if name not in rankings:
            raise InputError(f"A weight for {name!r}, which is not used. {nearest(name, rankings)}", param="weights")
    checked = {name: _number("weights", weights.get(name, 1.0), 1e6) for name in rankings}
    if not any(checked.values()):
        raise InputError("All weights are 0: one must be above.", param="weights")
    return checked


def _unread_query(name: str, feature: Searchable) -> str:
    kinds = " and ".join(NOUNS[kind] for kind in feature.reads)
    return f"Feature {name!r} has vectors of {kinds}, and its model reads no texts: a text does not search it."


def _missing_feature(option: str, feature: str) -> InputError:
    return InputError(
        f"{option} needs a {feature} feature, which this collection lacks. Add one to its definition, such as "
        f"{_ADD[feature]}, and index again.",
        param="mode",
    )
