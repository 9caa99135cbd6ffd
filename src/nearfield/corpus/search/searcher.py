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
from nearfield.corpus.search.hit import SearchHit
from nearfield.corpus.search.media_filters import for_table
from nearfield.corpus.search.plan import BM25, FUSIONS, Searchable, SearchOptions, SearchPlan, SearchPlanner
from nearfield.corpus.search.relevance import RelevanceScale
from nearfield.errors import InputError, SpaceMismatch
from nearfield.stores import Store, Vector
from nearfield.stores.filters import FieldType, Filter
from nearfield.text_inputs import many_texts

__all__ = ["Searchable", "Searcher"]

LOG = logging.getLogger("nearfield")

#: Queries whose candidates are in memory at the same time.
_QUERIES_PER_BATCH = 256


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
        self._logged: set[str] = set()
        self._store, self._features, self._keywords = store, dict(features), keywords
        self._load_reranker, self._language = load_reranker, language
        self._planner = SearchPlanner(
            self._features, fields, keywords=keywords is not None, rerankers=load_reranker is not None
        )

    def search(self, query: str, k: int = 10, **options: Any) -> list[SearchHit]:
        """Search for one query; arguments, results and errors as for ``search_many``."""
        return self.search_many([query], k, **options)[0]

    def search_many(
        self,
        queries: Sequence[str],
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
    ) -> list[list[SearchHit]]:
        """Return the ``k`` best chunks for each query, the best first.

        Args:
            queries: texts, encoded together.
            k: 1 to 1,000.
            mode: dense, sparse, bm25, multivector, or a feature's name: that alone; hybrid: the dense feature and the
                sparse one (BM25 if there is none), fused; two-stage: a short or binary form of a dense feature, then
                the whole vectors of its candidates; auto: hybrid if possible, else the first that is.
            where: a filter, as described in ``stores.filters``.
            rerank: a cross-encoder's name; multivector: MaxSim by stored vectors; sentences: by the nearest sentence of
                each chunk; maxsim: multivector if there is such a feature, else sentences.
            rerank_depth: candidates that are reranked, 1 to 1,000 [50; by sentences 20].
            mmr: 0 to 1: choose results that do not repeat each other; 1 is for relevance alone.
            highlight: words (or True): the sentences that share most words with the query; meaning: the nearest ones.
            explain: return the score and rank of each stage in ``SearchHit.stages``.
            exact: compare with every vector, without the database's own index.
            weights: of each fused ranking, by its feature's name or ``bm25``; 1 if left out.
            fuse: weighted (the mean of scores scaled to 0 to 1) or rrf (by ranks alone).
            depth: candidates of each fused ranking [100], or of the first of two stages [10 for each result].
            min_score: leave out results with a lower score, 0 to 1.

        Raises:
            InputError: a query is empty, an option is unknown or out of range, or the collection lacks a feature that
                it needs.
            SpaceMismatch: queries were encoded in another space than the collection.
        """
        plan = self._planner.plan(
            SearchOptions(
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
            )
        )
        for note in plan.notes:
            if note not in self._logged:
                self._logged.add(note)
                LOG.warning("%s", note)
        if plan.where is not None and self._stored_filter is not None:
            plan = replace(plan, where=self._stored_filter(plan.where))
        texts = _checked(queries)
        vectors = self._encode(plan, texts)
        hits: list[list[SearchHit]] = []
        for start in range(0, len(texts), _QUERIES_PER_BATCH):
            part = slice(start, start + _QUERIES_PER_BATCH)
            hits += self._run(_QueryBatch(plan, texts[part], {name: rows[part] for name, rows in vectors.items()}))
        return hits

    def _encode(self, plan: SearchPlan, texts: list[str]) -> dict[str, list[Vector]]:
        """Return the queries' vectors by feature; a truncated or quantised form is computed from the whole vectors."""
        vectors: dict[str, list[Vector]] = {}
        for name in sorted(plan.features if texts else (), key=lambda name: self._features[name].of is not None):
            feature = self._features[name]
            if feature.of in vectors and feature.shape is not None:
                vectors[name] = list(feature.shape(np.stack(vectors[feature.of])))
            else:
                vectors[name] = _rows(name, feature, feature.encode_queries(texts))
        return vectors

    def _run(self, batch: _QueryBatch) -> list[list[SearchHit]]:
        plan = batch.plan
        sentences = self._sentence_vectors(plan)
        found_by = [self._candidates(name, batch) for name in plan.rankings]
        rankings = found_by[0] if len(found_by) == 1 else [_fuse(plan, row) for row in zip(*found_by, strict=True)]
        if plan.rescored:
            rankings = self._rescore_whole(plan.rescored, batch, rankings)
        rankings = [ranking[: plan.pool] for ranking in rankings]
        if plan.rerank:
            rankings = self._rerank(plan.rerank, batch, rankings, sentences)
        if plan.mmr is not None:
            rankings = self._diversify(plan.mmr, batch, rankings)
        rankings = [ranking[: plan.k] for ranking in rankings]
        if self._relevance is not None:
            scores = self._relevance.scores(plan, batch.texts, batch.vectors, rankings)
            for ranking, row in zip(rankings, scores, strict=True):
                for candidate, score in zip(ranking, row, strict=True):
                    candidate.score = score
        if plan.min_score is not None:
            least = plan.min_score
            rankings = [[candidate for candidate in ranking if candidate.score >= least] for ranking in rankings]
        highlights = self._highlights(batch, rankings, sentences)
        note = next((self._features[name].note for name in plan.features if self._features[name].note), "")
        to_hit = partial(SearchCandidate.to_hit, explain=plan.explain, bridge=note)
        return [[to_hit(*pair) for pair in zip(*row, strict=True)] for row in zip(rankings, highlights, strict=True)]

    # -- stages ------------------------------------------------------------------------------------------------

    def _candidates(self, name: str, batch: _QueryBatch) -> list[Ranking]:
        """Return the candidates of one ranking for each query: by BM25, or by the vectors of a feature."""
        plan = batch.plan
        if name == BM25:
            return [self._bm25(plan, text) for text in batch.texts]
        table, vectors = self._features[name].table, batch.vectors[name]
        where = for_table(plan.where, table.fields)
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
    """Queries that are answered together: their plan, texts, and vectors by feature."""

    def __init__(self, plan: SearchPlan, texts: list[str], vectors: Mapping[str, list[Vector]]) -> None:
        self.plan, self.texts, self.vectors = plan, texts, vectors


def _checked(queries: Sequence[str]) -> list[str]:
    texts = many_texts(queries, "queries", "Query")
    for number, query in enumerate(texts):
        if not query.strip():
            raise InputError(f"Query {number} is empty.", param="query")
    return texts


def _rows(name: str, feature: Searchable, encoded: Sequence[Vector]) -> list[Vector]:
    """Return the queries' vectors one by one, if they are in the feature's space."""
    fingerprint = getattr(encoded, "fingerprint", feature.fingerprint)
    if feature.fingerprint and fingerprint != feature.fingerprint:
        raise SpaceMismatch(
            f"Feature {name!r} has vectors of {feature.fingerprint}, and the query's vector is of {fingerprint}: they "
            "cannot be compared. Index again, or search with the model that the collection was indexed with."
        )
    return list(encoded)


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
