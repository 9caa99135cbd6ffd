"""Rankings of chunks of several kinds: each kind is scored from 0 to 1, and then they are merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nearfield.corpus.document import TEXT
from nearfield.corpus.search import fusion
from nearfield.corpus.search.candidates import Ranking, SearchCandidate, merge_rankings, record_stage
from nearfield.corpus.search.content.query import ContentQuery
from nearfield.corpus.search.content.readers import read_modalities, read_share, text_share
from nearfield.corpus.search.content.surprise import SurpriseScale
from nearfield.corpus.search.plan import BM25, Searchable, SearchPlan
from nearfield.corpus.search.relevance import RelevanceScale, falling
from nearfield.stores import Vector
from nearfield.stores.filters import All, Compare, Filter, Not, equals

_KIND = "kind"
#: The stage in which kinds are compared.
KINDS_STAGE = "kinds"
_DIGITS = 3


def of_kind(where: Filter | None, kind: str, feature: Searchable) -> Filter | None:
    """Return the filter for chunks of one kind in the table of a feature; the filter itself if it has no others."""
    if feature.reads == (kind,) or _KIND not in feature.table.fields:
        return where
    part: Filter = Not(Compare(_KIND, "exists", True)) if kind == TEXT else equals(_KIND, kind)
    return part if where is None else All((where, part))


def rankings_of(plan: SearchPlan, kind: str, features: Mapping[str, Searchable]) -> list[str]:
    """Return the rankings of a plan that have chunks of a kind."""
    names = plan.rankings if kind == TEXT else [name for name in plan.rankings if name != BM25]
    return [name for name in names if name == BM25 or kind in features[name].reads]


class KindScales:
    """Scores of candidates of each kind from 0 to 1, by what each feature reads of a query."""

    def __init__(self, features: Mapping[str, Searchable], relevance: RelevanceScale, surprise: SurpriseScale) -> None:
        self._features, self._relevance, self._surprise = features, relevance, surprise

    def fuse(
        self,
        plan: SearchPlan,
        kind: str,
        queries: Sequence[ContentQuery],
        vectors: Mapping[str, Sequence[Vector]],
        by_name: Mapping[str, list[Ranking]],
    ) -> list[Ranking]:
        """Return one ranking for each query of media that several features rank: by ranks, or by scores of one scale.

        Args:
            plan: the plan; ``fuse`` is rrf or weighted.
            kind: that of all candidates.
            queries: the queries.
            vectors: the queries' vectors by feature.
            by_name: the rankings of each query by feature.
        """
        names = list(by_name)
        if len(names) == 1:
            return by_name[names[0]]
        by_feature: dict[str, list[list[float]]] = {}
        if plan.fuse == "weighted":
            by_feature = {name: self._by_feature(name, kind, queries, vectors[name], by_name[name]) for name in names}
        fused = []
        for number in range(len(queries)):
            rankings = {name: by_name[name][number] for name in names}
            if plan.fuse == "weighted":
                scores = _weighted_mean(plan, {name: rows[number] for name, rows in by_feature.items()}, rankings)
            else:
                scores = fusion.reciprocal(
                    {name: [one.id for one in ranking] for name, ranking in rankings.items()}, weights=plan.weights
                )
            fused.append(merge_rankings(list(rankings.values()), scores))
        return fused

    def score(
        self,
        plan: SearchPlan,
        kind: str,
        queries: Sequence[ContentQuery],
        vectors: Mapping[str, Sequence[Vector]],
        rankings: list[Ranking],
    ) -> None:
        """Set the scores of candidates of one kind; they fall in the order of each ranking."""
        names = rankings_of(plan, kind, self._features)
        scored = [
            self._by_feature(name, kind, queries, vectors[name], rankings)
            for name in self._compared(names, kind, queries)
        ]
        if kind == TEXT and (texts := self._texts(names, queries)):
            scored.append(self._by_text(replace(plan, rankings=tuple(texts)), queries, vectors, rankings))
        for number, ranking in enumerate(rankings):
            best = [max(scores) for scores in zip(*(rows[number] for rows in scored), strict=True)]
            for candidate, score in zip(ranking, falling(best or [0.0] * len(ranking)), strict=True):
                candidate.score = score

    def _texts(self, names: Sequence[str], queries: Sequence[ContentQuery]) -> list[str]:
        """Return the rankings that compare texts with texts; all queries of a batch have parts alike."""
        return [name for name in names if self._compares_texts(name, queries[0])]

    def _compares_texts(self, name: str, query: ContentQuery) -> bool:
        return name == BM25 or read_modalities(self._features[name], query) == {TEXT}

    def _compared(self, names: Sequence[str], kind: str, queries: Sequence[ContentQuery]) -> list[str]:
        """Return the features whose scores have no scale but that of random chunks."""
        return [
            name for name in names if name != BM25 and not (kind == TEXT and self._compares_texts(name, queries[0]))
        ]

    def _by_feature(
        self, name: str, kind: str, queries: Sequence[ContentQuery], vectors: Sequence[Vector], rankings: list[Ranking]
    ) -> list[list[float]]:
        feature = self._features[name]
        are_texts = read_modalities(feature, queries[0]) == {TEXT} and not queries[0].likes
        scores = self._surprise.scores(name, kind, vectors, rankings, are_texts=are_texts)
        return [[self._share(name, query) * score for score in row] for query, row in zip(queries, scores, strict=True)]

    def _by_text(
        self,
        plan: SearchPlan,
        queries: Sequence[ContentQuery],
        vectors: Mapping[str, Sequence[Vector]],
        rankings: list[Ranking],
    ) -> list[list[float]]:
        rows = self._relevance.scores(plan, [query.text for query in queries], vectors, rankings)
        shares = [max(self._share(name, query) for name in plan.rankings) for query in queries]
        return [[share * score for score in row] for share, row in zip(shares, rows, strict=True)]

    def _share(self, name: str, query: ContentQuery) -> float:
        """Return the share of a query that a ranking reads, or 0 if its model does not know the letters of a text."""
        if name == BM25:
            return text_share(query)
        if query.modalities == {TEXT} and self._relevance.is_unread(name, query.text):
            return 0.0
        return read_share(self._features[name], query)


def _weighted_mean(
    plan: SearchPlan, scores: Mapping[str, Sequence[float]], rankings: Mapping[str, Ranking]
) -> dict[str, float]:
    """Return the weighted mean of scores that are on one scale; a candidate that a ranking lacks counts 0 in it."""
    total = sum(plan.weights[name] for name in scores)
    fused: dict[str, float] = {}
    for name, row in scores.items():
        for candidate, score in zip(rankings[name], row, strict=True):
            fused[candidate.id] = fused.get(candidate.id, 0.0) + plan.weights[name] / total * score
    return fused


def merge_kinds(rankings: Sequence[Ranking]) -> Ranking:
    """Return the candidates of all kinds, ranked by their scores; equal ones by their ranks in their kinds."""
    placed = [(-one.score, place, one.id, one) for ranking in rankings for place, one in enumerate(ranking)]
    merged: list[SearchCandidate] = [one for *_, one in sorted(placed, key=lambda entry: entry[:3])]
    return record_stage(KINDS_STAGE, merged)


def round_scores(ranking: Ranking) -> Ranking:
    """Round the scores of results: more digits would depend on what is encoded in the same batch."""
    for candidate in ranking:
        candidate.score = round(candidate.score, _DIGITS)
    return ranking
