"""Search: from queries to chunks: find candidates in one way or several, fuse, rerank, vary, and say why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nearfield.corpus.manifest.keyword_index import KeywordIndex
from nearfield.corpus.search import fusion, mmr
from nearfield.corpus.search import highlighting as highlight
from nearfield.corpus.search import reranking as rerank
from nearfield.corpus.search.candidates import (
    Ranking,
    SearchCandidate,
    merged,
    noted,
    ordered,
    records_of,
    rescored,
    scores_of,
)
from nearfield.corpus.search.hit import SearchHit
from nearfield.corpus.search.plan import BM25, FUSIONS, Searchable, SearchPlan, SearchPlanner
from nearfield.errors import InputError, SpaceMismatch
from nearfield.stores import Store
from nearfield.stores.filters import FieldType

__all__ = ["Searchable", "Searcher"]

Array = np.ndarray[Any, np.dtype[Any]]
#: Queries whose candidates are held at once.
_AT_ONCE = 256


class Searcher:
    """Searches the features and keywords of one collection.

    Args:
        store: where the features' tables are.
        features: by name, in order: the first of a kind is the one that a mode means.
        keywords: the index for BM25, where there is one.
        load_reranker: gives a cross-encoder by its model's name.
        language: of the texts, for sentences.
        fields: what may be filtered by; the first table's where left out.
    """

    def __init__(
        self,
        store: Store,
        features: Mapping[str, Searchable],
        keywords: KeywordIndex | None = None,
        load_reranker: Callable[[str], rerank.PairScorer] | None = None,
        *,
        language: str = "en",
        fields: Mapping[str, FieldType] | None = None,
    ) -> None:
        self._store, self._features, self._keywords = store, dict(features), keywords
        self._load_reranker, self._language = load_reranker, language
        self._ways = SearchPlanner(
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
    ) -> list[list[SearchHit]]:
        """Return the ``k`` best chunks for each query, the best first.

        Args:
            queries: texts, encoded together.
            k: 1 to 1,000.
            mode: dense, sparse, bm25, multivector, or a feature's name: that alone; hybrid: the dense feature and the
                sparse one (BM25 where there is none), fused; two-stage: a short or binary form of a dense feature, then
                the whole vectors of what it found; auto: hybrid where that can be, else what there is.
            where: a filter, as ``stores.filters`` reads it.
            rerank: a cross-encoder's name; multivector: MaxSim by stored vectors; sentences: by the nearest sentence of
                each; maxsim: multivector where there is such a feature, else sentences.
            rerank_depth: candidates that are reranked, 1 to 1,000 [50; by sentences 20].
            mmr: 0 to 1: choose results that do not repeat each other; 1 is for relevance alone.
            highlight: words (or True): the sentences that share most with the query; meaning: the nearest ones.
            explain: keep the score and rank of each stage in ``Found.stages``.
            exact: compare with every vector, past the database's own index.
            weights: of each fused ranking, by its feature's name or ``bm25``; 1 where left out.
            fuse: weighted (the mean of scores scaled to 0 to 1) or rrf (by ranks alone).
            depth: candidates of each fused ranking [100], or of the first of two stages [10 for each result].

        Raises:
            InputError: a query is empty, an option is unknown or out of range, or the collection lacks a feature that
                it needs.
            SpaceMismatch: queries were encoded in another space than the collection.
        """
        asked = self._ways.asked(
            k, mode, where, rerank, rerank_depth, mmr, highlight, explain, exact, weights, fuse, depth
        )
        texts = _checked(queries)
        vectors = self._encoded(asked, texts)
        found: list[list[SearchHit]] = []
        for start in range(0, len(texts), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            batch = _Batch(asked, texts[part], {name: rows[part] for name, rows in vectors.items()})
            found += self._answers(batch)
        return found

    def _encoded(self, asked: SearchPlan, texts: list[str]) -> dict[str, list[Any]]:
        """Encode all queries for each feature that is needed; a cut form takes those of the whole one."""
        vectors: dict[str, list[Any]] = {}
        for name in sorted(asked.features if texts else (), key=lambda each: self._features[each].of is not None):
            feature = self._features[name]
            if feature.of in vectors and feature.shape is not None:
                vectors[name] = list(feature.shape(np.stack(vectors[feature.of])))
            else:
                vectors[name] = _rows(name, feature, feature.encode_queries(texts))
        return vectors

    def _answers(self, batch: _Batch) -> list[list[SearchHit]]:
        asked = batch.asked
        sentences = self._sentences(asked)
        found = [self._leg(name, batch) for name in asked.legs]
        rankings = found[0] if len(found) == 1 else [_fused(asked, each) for each in zip(*found, strict=True)]
        if asked.rescored:
            rankings = self._whole(asked.rescored, batch, rankings)
        rankings = [ranking[: asked.pool] for ranking in rankings]
        if asked.rerank:
            rankings = self._reranked(asked.rerank, batch, rankings, sentences)
        if asked.mmr is not None:
            rankings = self._varied(asked.mmr, batch, rankings)
        rankings = [ranking[: asked.k] for ranking in rankings]
        marks = self._marks(batch, rankings, sentences)
        return [
            [each.found(places, explain=asked.explain) for each, places in zip(ranking, row, strict=True)]
            for ranking, row in zip(rankings, marks, strict=True)
        ]

    # -- stages ------------------------------------------------------------------------------------------------

    def _leg(self, name: str, batch: _Batch) -> list[Ranking]:
        asked = batch.asked
        if name == BM25:
            return [self._by_words(asked, text) for text in batch.texts]
        table, vectors = self._features[name].table, batch.vectors[name]
        hits = self._store.search(table, vectors, asked.depth, where=asked.where, exact=asked.exact)
        return [ordered(name, [SearchCandidate(hit.record, hit.score) for hit in row]) for row in hits]

    def _by_words(self, asked: SearchPlan, text: str) -> Ranking:
        if self._keywords is None:
            return []
        scores = self._keywords.search(text, asked.depth, asked.where)
        records = self._keywords.records([row for row, _ in scores])
        return ordered(BM25, [SearchCandidate(records[row], score) for row, score in scores if row in records])

    def _whole(self, name: str, batch: _Batch, rankings: list[Ranking]) -> list[Ranking]:
        """Score by whole vectors what a short or binary form found; what has none is gone, and is left out."""
        table = self._features[name].table
        scores = rerank.by_vectors(self._store, table, batch.vectors[name], records_of(rankings))
        return [rescored(name, *each) for each in zip(rankings, scores, strict=True)]

    def _sentences(self, asked: SearchPlan) -> rerank.Sentences | None:
        feature = self._features[asked.dense] if asked.dense and asked.sentences else None
        if feature is None or feature.encode_documents is None:
            return None
        return rerank.Sentences(feature.encode_documents, self._language)

    def _reranked(
        self, name: str, batch: _Batch, rankings: list[Ranking], sentences: rerank.Sentences | None
    ) -> list[Ranking]:
        asked, records = batch.asked, records_of(rankings)
        if asked.tokens:
            table = self._features[asked.tokens].table
            scores = rerank.by_vectors(self._store, table, batch.vectors[asked.tokens], records)
        elif asked.dense and sentences and name == "sentences":
            own = [scores_of(ranking) for ranking in rankings]
            scores = rerank.by_sentences(sentences, batch.vectors[asked.dense], records, own)
        else:
            scores = rerank.by_pairs(self._scorer(name), batch.texts, records)
        return [rescored("rerank", *each) for each in zip(rankings, scores, strict=True)]

    def _scorer(self, name: str) -> rerank.PairScorer:
        if self._load_reranker is None:
            raise InputError(f"No cross-encoder {name!r} can be loaded here.", param="rerank")
        return self._load_reranker(name)

    def _varied(self, balance: float, batch: _Batch, rankings: list[Ranking]) -> list[Ranking]:
        """Choose by MMR, with the last stage's scores scaled to 0 to 1 for relevance."""
        table = self._features[batch.asked.dense or ""].table
        vectors = rerank.fetched(self._store, table, (each.id for ranking in rankings for each in ranking))
        return [_chosen(ranking, vectors, table.dimensions, batch.asked.k, balance) for ranking in rankings]

    def _marks(
        self, batch: _Batch, rankings: list[Ranking], sentences: rerank.Sentences | None
    ) -> list[list[tuple[highlight.Place, ...]]]:
        asked, records = batch.asked, records_of(rankings)
        if asked.highlight is None:
            return [[() for _ in row] for row in records]
        if asked.highlight == "words" or sentences is None or asked.dense is None:
            told = zip(batch.texts, records, strict=True)
            return [highlight.by_words(text, [each.text for each in row], self._language) for text, row in told]
        scores = sentences.scores(batch.vectors[asked.dense], records)
        return [[highlight.best(each, highlight.NEAR) for each in row] for row in scores]


class _Batch:
    """Queries that are answered together: what is asked, the texts, and their vectors by feature."""

    def __init__(self, asked: SearchPlan, texts: list[str], vectors: Mapping[str, list[Any]]) -> None:
        self.asked, self.texts, self.vectors = asked, texts, vectors


def _checked(queries: Sequence[str]) -> list[str]:
    if isinstance(queries, str):
        raise InputError("queries must be a list of texts, and is one text.", param="queries")
    for at, query in enumerate(queries):
        if not isinstance(query, str):
            raise InputError(f"Query {at} is {type(query).__name__}, not text.", param="query")
        if not query.strip():
            raise InputError(f"Query {at} is empty: say what is looked for.", param="query")
    return list(queries)


def _rows(name: str, feature: Searchable, found: Any) -> list[Any]:
    """Return queries' vectors one by one, once their space is known to be the feature's."""
    told = getattr(found, "fingerprint", feature.fingerprint)
    if feature.fingerprint and told != feature.fingerprint:
        raise SpaceMismatch(
            f"Feature {name!r} holds vectors of {feature.fingerprint}, and the query is in {told}: they mean nothing "
            "to each other. Index again, or search with the model that the collection was made with."
        )
    return list(found)


def _fused(asked: SearchPlan, rankings: Sequence[Ranking]) -> Ranking:
    # Both kinds of fusion read each ranking as ids with scores, the best first.
    told = {name: scores_of(ranking) for name, ranking in zip(asked.legs, rankings, strict=True)}
    return merged(rankings, FUSIONS[asked.fuse](told, weights=asked.weights))


def _chosen(ranking: Ranking, vectors: Mapping[str, Any], width: int, k: int, balance: float) -> Ranking:
    if not ranking:
        return ranking
    relevance = fusion.scaled(scores_of(ranking))
    rows = np.stack([rerank.spread(vectors[each.id]) if each.id in vectors else np.zeros(width) for each in ranking])
    picked, values = mmr.select(np.array([relevance[each.id] for each in ranking]), rows, k, balance)
    for at, value in zip(picked, values, strict=True):
        ranking[at].score = value
    return noted("mmr", [ranking[at] for at in picked])
