"""The searcher: from queries to hits, through the stages of a search plan.

Each ranking of the plan finds candidates: the store by vectors, or the keyword index by BM25 (SQLite FTS5, in
``corpus/manifest/keyword_index.py``). The rankings are fused, reranked, diversified by MMR, and highlighted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from nearfield.corpus.document import TEXT
from nearfield.corpus.manifest.keyword_index import KeywordIndex
from nearfield.corpus.search import fusion, highlighting, reranking
from nearfield.corpus.search import mmr as maximal_marginal_relevance
from nearfield.corpus.search.candidates import (
    Ranking,
    SearchCandidate,
    merge_rankings,
    rank,
    record_stage,
    records_of,
    rescore,
    scores_of,
)
from nearfield.corpus.search.content.folding import group_documents, join_pages
from nearfield.corpus.search.content.kind_rankings import KindScales, merge_kinds, of_kind, rankings_of, round_scores
from nearfield.corpus.search.content.media_filters import for_table
from nearfield.corpus.search.content.query import ContentQuery, LikeChunks, SearchQuery, checked_texts, parse_queries
from nearfield.corpus.search.content.query_vectors import QueryVectors
from nearfield.corpus.search.content.surprise import SurpriseScale
from nearfield.corpus.search.hit import SearchHit
from nearfield.corpus.search.plan import BM25, FUSIONS, OTHERS, Searchable, SearchOptions, SearchPlan, SearchPlanner
from nearfield.corpus.search.relevance import RelevanceScale
from nearfield.errors import InputError
from nearfield.stores import Store, Vector
from nearfield.stores.filters import All, FieldType, Filter, Not, equals, one_of

__all__ = ["Searchable", "Searcher"]

LOG = logging.getLogger("nearfield")

#: Queries whose candidates are in memory at the same time.
_QUERIES_PER_BATCH = 256
#: How many times the candidates are searched again where they are of too few documents.
_DEEPER = 4


class Searcher:
    """Searches the features and keywords of one collection.

    Args:
        store: the store with the features' tables.
        features: by name, in order: the first of a kind is the one that a mode means.
        keywords: the index for BM25, if there is one.
        load_reranker: returns a cross-encoder by its model's name.
        language: of the texts, for sentences.
        fields: the fields for filters; by default those of the first table.
        relevance: the scale of scores; without it, scores are those of the last stage.
        stored_filter: returns the form of a filter that a store can apply; by default the filter itself.
    """

    def __init__(
        self,
        store: Store,
        features: Mapping[str, Searchable],
        keywords: KeywordIndex | None = None,
        load_reranker: Callable[[str], reranking.PairScorer] | None = None,
        *,
        language: str = "en",
        fields: Mapping[str, FieldType] | None = None,
        relevance: RelevanceScale | None = None,
        stored_filter: Callable[[Filter], Filter] | None = None,
    ) -> None:
        self._relevance, self._stored_filter = relevance, stored_filter
        self._scales = None
        if relevance is not None and keywords is not None:
            self._scales = KindScales(features, relevance, SurpriseScale(store, features, keywords))
        self._vectors = QueryVectors(store, features)
        self._logged: set[str] = set()
        self._store, self._features, self._keywords = store, dict(features), keywords
        self._load_reranker, self._language = load_reranker, language
        self._planner = SearchPlanner(
            self._features, fields, keywords=keywords is not None, rerankers=load_reranker is not None
        )

    def search(self, query: SearchQuery, k: int = 10, **options: Any) -> list[SearchHit]:
        """Search for one query; arguments, results and errors as for ``search_many``."""
        return self.search_many([query], k, **options)[0]

    def search_many(
        self,
        queries: Sequence[SearchQuery],
        k: int = 10,
        *,
        mode: str = "auto",
        where: Any = None,
        rerank: str | None = None,
        rerank_depth: int | None = None,
        mmr: float | None = None,
        highlight: bool | str = False,
        explain: bool = False,
        exact: bool = False,
        weights: Mapping[str, float] | None = None,
        fuse: str = "weighted",
        depth: int | None = None,
        min_score: float | None = None,
        group_by: str | None = None,
        others: int = OTHERS,
    ) -> list[list[SearchHit]]:
        """Return the ``k`` best chunks for each query, the best first.

        Args:
            queries: texts, pictures, sounds, videos, or for one query a list of several of these; encoded together.
            k: 1 to 1,000.
            mode: dense, sparse, bm25, multivector, or a feature's name: that alone; hybrid: the dense feature and the
                sparse one (BM25 if there is none), fused; two-stage: a short or binary form of a dense feature, then
                the whole vectors of its candidates; auto: hybrid if possible, else the first that is, and all features
                of media that read the query.
            where: a filter, as described in ``stores.filters``.
            rerank: a cross-encoder's name; multivector: MaxSim by stored vectors; sentences: by the nearest sentence of
                each chunk; maxsim: multivector if there is such a feature, else sentences.
            rerank_depth: candidates that are reranked, 1 to 1,000 [50; by sentences 20].
            mmr: 0 to 1: choose results that do not repeat each other; 1 is for relevance alone.
            highlight: words (or True): the sentences that share most words with the query; meaning: the nearest ones.
            explain: return the score and rank of each stage in ``SearchHit.stages``.
            exact: compare with every vector, without the database's own index.
            weights: of each fused ranking, by its feature's name or ``bm25``; 1 if left out.
            fuse: weighted (the mean of scores scaled to 0 to 1) or rrf (by ranks alone), of the rankings of one kind.
            depth: candidates of each fused ranking [100], or of the first of two stages [10 for each result].
            min_score: leave out results with a lower score, 0 to 1.
            group_by: ``document``: the best chunk of each document, ``k`` documents in all.
            others: the further chunks of each document, at most, that are in ``SearchHit.others`` [3].

        Raises:
            InputError: a query is empty, an option is unknown or out of range, or the collection lacks a feature that
                it needs, or one that reads the query.
            SpaceMismatch: queries were encoded in another space than the collection.
        """
        options = SearchOptions(
            k=k,
            mode=mode,
            where=where,
            rerank=rerank,
            rerank_depth=rerank_depth,
            mmr=mmr,
            highlight=highlight,
            explain=explain,
            exact=exact,
            weights=weights,
            fuse=fuse,
            depth=depth,
            min_score=min_score,
            group_by=group_by,
            others=others,
        )
        parsed = parse_queries(queries)
        has_parts = isinstance(parsed, (list, tuple)) and any(isinstance(query, ContentQuery) for query in parsed)
        if not has_parts:
            plan = self._plan(self._planner, options, ())
            return self._search_alike(plan, checked_texts(parsed))
        return self._search_each(options, parsed)

    def _search_each(self, options: SearchOptions, queries: Sequence[ContentQuery]) -> list[list[SearchHit]]:
        """Search for queries of several kinds; those of one kind are encoded together."""
        alike: dict[tuple[frozenset[str], tuple[LikeChunks, ...]], list[int]] = {}
        for number, query in enumerate(queries):
            alike.setdefault((query.modalities, query.likes), []).append(number)
        hits: dict[int, list[SearchHit]] = {}
        for (_, likes), numbers in alike.items():
            part = [queries[number] for number in numbers]
            plan = self._plan(self._planner.for_query(part[0]), options, likes)
            hits |= zip(numbers, self._search_alike(plan, part), strict=True)
        return [hits[number] for number in range(len(queries))]

    def _plan(self, planner: SearchPlanner, options: SearchOptions, likes: Sequence[LikeChunks]) -> SearchPlan:
        """Return the plan with the filter that the store can apply; the chunks that are the query are left out."""
        plan = planner.plan(options)
        for note in plan.notes:
            if note not in self._logged:
                self._logged.add(note)
                LOG.warning("%s", note)
        where = plan.where
        if where is not None and self._stored_filter is not None:
            where = self._stored_filter(where)
        left_out: list[Filter] = [Not(_itself(like)) for like in likes]
        return replace(plan, where=All((*left_out, *([where] if where else []))) if left_out else where)

    def _search_alike(self, plan: SearchPlan, queries: Sequence[ContentQuery]) -> list[list[SearchHit]]:
        vectors = self._vectors.compute(plan.features, queries)
        hits: list[list[SearchHit]] = []
        for start in range(0, len(queries), _QUERIES_PER_BATCH):
            part = slice(start, start + _QUERIES_PER_BATCH)
            batch = _QueryBatch(plan, queries[part], {name: rows[part] for name, rows in vectors.items()})
            hits += self._run(batch)
        return hits

    def _run(self, batch: _QueryBatch) -> list[list[SearchHit]]:
        plan = batch.plan
        sentences = self._sentence_vectors(plan)
        rankings = self._rank_kinds(batch, sentences) if plan.kinds else self._rank_texts(batch, sentences)
        if plan.min_score is not None:
            least = plan.min_score
            rankings = [[candidate for candidate in ranking if candidate.score >= least] for ranking in rankings]
        if plan.group_by is not None:
            grouped = [group_documents(ranking, plan.others)[: plan.k] for ranking in rankings]
            deeper = plan.deepened(_DEEPER)
            if deeper is not None and any(map(partial(_lacks_groups, plan), rankings, grouped)):
                return self._run(_QueryBatch(deeper, batch.queries, batch.vectors))
            rankings = grouped
        highlights = self._highlights(batch, rankings, sentences)
        note = next((self._features[name].note for name in plan.features if self._features[name].note), "")
        to_hit = partial(SearchCandidate.to_hit, explain=plan.explain, bridge=note)
        return [[to_hit(*pair) for pair in zip(*row, strict=True)] for row in zip(rankings, highlights, strict=True)]

    def _rank_texts(self, batch: _QueryBatch, sentences: reranking.SentenceVectors | None) -> list[Ranking]:
        """Return the results of each query where all chunks are texts."""
        plan = batch.plan
        found_by = [self._candidates(name, batch) for name in plan.rankings]
        rankings = found_by[0] if len(found_by) == 1 else [_fuse(plan, row) for row in zip(*found_by, strict=True)]
        if plan.rescored:
            rankings = self._rescore_whole(plan.rescored, batch, rankings)
        rankings = [ranking[: plan.pool] for ranking in rankings]
        if plan.rerank:
            rankings = self._rerank(plan.rerank, batch, rankings, sentences)
        if plan.mmr is not None:
            rankings = self._diversify(plan.mmr, batch, rankings)
        if plan.group_by is None:
            rankings = [ranking[: plan.k] for ranking in rankings]
        if self._relevance is not None:
            scores = self._relevance.scores(plan, batch.texts, batch.vectors, rankings)
            for ranking, row in zip(rankings, scores, strict=True):
                for candidate, score in zip(ranking, row, strict=True):
                    candidate.score = score
        return rankings

    def _rank_kinds(self, batch: _QueryBatch, sentences: reranking.SentenceVectors | None) -> list[Ranking]:
        """Return the results of each query where chunks are of several kinds, which are ranked one by one."""
        plan = batch.plan
        by_kind = [self._rank_kind(kind, batch, sentences) for kind in plan.kinds]
        rankings = [join_pages(merge_kinds(row)) for row in zip(*by_kind, strict=True)]
        if plan.mmr is not None:
            scores = [scores_of(ranking) for ranking in rankings]
            rankings = self._diversify(plan.mmr, batch, rankings)
            for ranking, row in zip(rankings, scores, strict=True):
                for candidate in ranking:
                    candidate.score = row[candidate.id]
        return [round_scores(ranking if plan.group_by else ranking[: plan.k]) for ranking in rankings]

    def _rank_kind(self, kind: str, batch: _QueryBatch, sentences: reranking.SentenceVectors | None) -> list[Ranking]:
        """Return the candidates of one kind for each query, with scores that can be compared with other kinds'."""
        plan = batch.plan
        names = rankings_of(plan, kind, self._features)
        by_name = {name: self._candidates(name, batch, kind) for name in names}
        if kind != TEXT and self._scales is not None:
            rankings = self._scales.fuse(plan, kind, batch.queries, batch.vectors, by_name)
        elif len(names) == 1:
            rankings = by_name[names[0]]
        else:
            part = replace(plan, rankings=tuple(names))
            rankings = [_fuse(part, row) for row in zip(*by_name.values(), strict=True)]
        if plan.rescored and kind in self._features[plan.rescored].reads:
            rankings = self._rescore_whole(plan.rescored, batch, rankings)
        rankings = [ranking[: plan.pool] for ranking in rankings]
        if plan.rerank and kind in (self._features[plan.tokens].reads if plan.tokens else (TEXT,)):
            rankings = self._rerank(plan.rerank, batch, rankings, sentences)
        if self._scales is None:
            for ranking in rankings:
                for place, candidate in enumerate(ranking, 1):
                    candidate.score = 1 / (fusion.K + place)
        else:
            self._scales.score(plan, kind, batch.queries, batch.vectors, rankings)
        return rankings

    # -- stages ------------------------------------------------------------------------------------------------

    def _candidates(self, name: str, batch: _QueryBatch, kind: str | None = None) -> list[Ranking]:
        """Return the candidates of one ranking for each query, or those of a kind: by BM25, or by vectors."""
        plan = batch.plan
        if name == BM25:
            return [self._bm25(plan, text) for text in batch.texts]
        table, vectors = self._features[name].table, batch.vectors[name]
        where = for_table(plan.where, table.fields)
        if kind is not None:
            where = of_kind(where, kind, self._features[name])
        hits = self._store.search(table, vectors, plan.depth, where=where, exact=plan.exact)
        return [rank(name, [SearchCandidate(hit.record, hit.score) for hit in row]) for row in hits]

    def _bm25(self, plan: SearchPlan, text: str) -> Ranking:
        """Run the BM25 query on the keyword index."""
        if self._keywords is None:
            return []
        scores = self._keywords.search(text, plan.depth, plan.where)
        records = self._keywords.records([row for row, _ in scores])
        return rank(BM25, [SearchCandidate(records[row], score) for row, score in scores if row in records])

    def _rescore_whole(self, name: str, batch: _QueryBatch, rankings: list[Ranking]) -> list[Ranking]:
        """Score the candidates of a short or binary form by whole vectors; those without one were deleted."""
        table = self._features[name].table
        scores = reranking.by_vectors(self._store, table, batch.vectors[name], records_of(rankings))
        return [rescore(name, *row) for row in zip(rankings, scores, strict=True)]

    def _sentence_vectors(self, plan: SearchPlan) -> reranking.SentenceVectors | None:
        feature = self._features[plan.dense] if plan.dense and plan.sentences else None
        if feature is None or feature.encode_documents is None:
            return None
        return reranking.SentenceVectors(feature.encode_documents, self._language)

    def _rerank(
        self, name: str, batch: _QueryBatch, rankings: list[Ranking], sentences: reranking.SentenceVectors | None
    ) -> list[Ranking]:
        plan, records = batch.plan, records_of(rankings)
        if plan.tokens:
            table = self._features[plan.tokens].table
            scores = reranking.by_vectors(self._store, table, batch.vectors[plan.tokens], records)
        elif plan.dense and sentences and name == "sentences":
            own = [scores_of(ranking) for ranking in rankings]
            scores = reranking.by_sentences(sentences, batch.vectors[plan.dense], records, own)
        else:
            scores = reranking.by_pairs(self._cross_encoder(name), batch.texts, records)
        return [rescore("rerank", *row) for row in zip(rankings, scores, strict=True)]

    def _cross_encoder(self, name: str) -> reranking.PairScorer:
        if self._load_reranker is None:
            raise InputError(f"No cross-encoder {name!r} can be loaded here.", param="rerank")
        return self._load_reranker(name)

    def _diversify(self, balance: float, batch: _QueryBatch, rankings: list[Ranking]) -> list[Ranking]:
        """Choose by MMR, with the last stage's scores scaled to 0 to 1 for relevance."""
        table = self._features[batch.plan.dense or ""].table
        ids = (candidate.id for ranking in rankings for candidate in ranking)
        vectors = reranking.fetch_vectors(self._store, table, ids)
        return [_choose(ranking, vectors, table.dimensions, batch.plan.k, balance) for ranking in rankings]

    def _highlights(
        self, batch: _QueryBatch, rankings: list[Ranking], sentences: reranking.SentenceVectors | None
    ) -> list[list[tuple[highlighting.Place, ...]]]:
        plan, records = batch.plan, records_of(rankings)
        if plan.highlight is None:
            return [[() for _ in row] for row in records]
        if plan.highlight == "words" or sentences is None or plan.dense is None:
            return [
                highlighting.by_words(text, [record.text for record in row], self._language)
                for text, row in zip(batch.texts, records, strict=True)
            ]
        scores = sentences.scores(batch.vectors[plan.dense], records)
        return [[highlighting.best_places(places, highlighting.COSINE_SHARE) for places in row] for row in scores]


class _QueryBatch:
    """Queries that are answered together: their plan, and their vectors by feature."""

    def __init__(self, plan: SearchPlan, queries: Sequence[ContentQuery], vectors: Mapping[str, list[Vector]]) -> None:
        self.plan, self.queries, self.vectors = plan, queries, vectors
        self.texts = [query.text for query in queries]


def _itself(like: LikeChunks) -> Filter:
    return one_of("id", like.ids) if like.document is None else equals("document", like.document)


def _lacks_groups(plan: SearchPlan, ranking: Ranking, groups: Ranking) -> bool:
    """Return whether a query has too few documents, and there may be more candidates."""
    return len(groups) < plan.k and len(ranking) >= plan.pool


def _fuse(plan: SearchPlan, rankings: Sequence[Ranking]) -> Ranking:
    # Both kinds of fusion read each ranking as ids with scores, the best first.
    scores = {name: scores_of(ranking) for name, ranking in zip(plan.rankings, rankings, strict=True)}
    return merge_rankings(rankings, FUSIONS[plan.fuse](scores, weights=plan.weights))


def _choose(ranking: Ranking, vectors: Mapping[str, Vector], width: int, k: int, balance: float) -> Ranking:
    """Return the ``k`` candidates that MMR chooses."""
    if not ranking:
        return ranking
    relevance = fusion.scaled(scores_of(ranking))
    rows = [
        reranking.unpack(vectors[candidate.id]) if candidate.id in vectors else np.zeros(width) for candidate in ranking
    ]
    relevances = np.array([relevance[candidate.id] for candidate in ranking])
    chosen, values = maximal_marginal_relevance.select(relevances, np.stack(rows), k, balance)
    for index, value in zip(chosen, values, strict=True):
        ranking[index].score = value
    return record_stage("mmr", [ranking[index] for index in chosen])
