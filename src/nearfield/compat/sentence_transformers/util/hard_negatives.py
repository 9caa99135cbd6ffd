"""Mining of hard negatives: texts near to a query that are not among its positives (`mine_hard_negatives`)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nearfield.argument_checks import require_count
from nearfield.arrays import Array
from nearfield.compat.sentence_transformers.util.mining_report import print_report
from nearfield.compat.sentence_transformers.util.mining_table import (
    FORMATS,
    MinedRows,
    NegativeCandidates,
    QueryPairs,
    build_rows,
    read_pairs,
)
from nearfield.compat.sentence_transformers.util.negative_selection import MiningOptions, remove_candidates, select
from nearfield.compat.sentence_transformers.util.similarity import SimilarityFunction, dot_score
from nearfield.compat.sentence_transformers.util.tensor import as_array
from nearfield.compat.sentence_transformers.util.top_matches import find_top_matches
from nearfield.encoder import Encoder
from nearfield.errors import InputError, nearest
from nearfield.reranker import Reranker

#: Pairs of a query and a candidate that a cross-encoder gets in one call.
_PAIRS_PER_CALL = 65_536

_log = logging.getLogger(__name__)


def mine_hard_negatives(
    dataset: Any,
    model: Any,
    anchor_column_name: str | None = None,
    positive_column_name: str | None = None,
    corpus: list[str] | None = None,
    cross_encoder: Any | None = None,
    range_min: int = 0,
    range_max: int | None = None,
    max_score: float | None = None,
    min_score: float | None = None,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    num_negatives: int = 3,
    sampling_strategy: Literal["random", "top"] = "top",
    query_prompt_name: str | None = None,
    query_prompt: str | None = None,
    corpus_prompt_name: str | None = None,
    corpus_prompt: str | None = None,
    include_positives: bool = False,
    output_format: Literal["triplet", "n-tuple", "labeled-pair", "labeled-list"] = "triplet",
    output_scores: bool = False,
    batch_size: int = 32,
    faiss_batch_size: int = 16384,
    use_faiss: bool = False,
    use_multi_process: list[str] | bool = False,
    verbose: bool = True,
    cache_folder: str | None = None,
    as_triplets: bool | None = None,
    margin: float | None = None,
) -> Any:
    """Return queries with their positives and with hard negatives, for training elsewhere.

    Args:
        dataset: pairs of a query and a positive: a ``datasets.Dataset``, a data frame, a mapping of columns, or a list
            of pairs.
        model: a ``SentenceTransformer`` or a ``nearfield.Encoder``.
        anchor_column_name: the column of queries; by default the first.
        positive_column_name: the column of positives; by default the second.
        corpus: further texts to take negatives from.
        cross_encoder: a ``CrossEncoder`` or ``nearfield.Reranker`` that scores candidates in place of the model, if a
            margin, ``max_score`` or ``min_score`` is set.
        range_min: how many of the best candidates are left out.
        range_max: how many of the best candidates are considered.
        max_score: candidates with a higher score are left out.
        min_score: candidates with a lower score are left out.
        absolute_margin: candidates are left out unless their score is that much below the query's lowest positive's.
        relative_margin: the same, as a share of that positive's score.
        num_negatives: negatives of each query.
        sampling_strategy: "top" takes the best candidates, "random" any of them.
        query_prompt_name, query_prompt, corpus_prompt_name, corpus_prompt: prompts, as for ``encode``.
        include_positives: whether positives stay among the candidates; the format is then "n-tuple".
        output_format: "triplet" (a row for each negative), "n-tuple" (a column for each), "labeled-pair" (a row for
            each text, with a label) or "labeled-list" (lists of texts and labels).
        output_scores: whether to add scores; in place of labels.
        batch_size: for a cross-encoder of another library.
        faiss_batch_size: queries that are compared at once; fewer are, if memory asks for it.
        use_faiss: whether vectors are compared by dot product; the search is exact either way, and needs no faiss.
        use_multi_process: has no effect: the engine is parallel.
        verbose: whether to print counts.
        cache_folder: a folder for the vectors, which a second call reads.
        as_triplets: older name of the formats "triplet" and "n-tuple".
        margin: older name of ``absolute_margin``.

    Returns:
        What ``dataset`` was: a ``Dataset`` or a data frame; for other inputs a dictionary of columns.

    Raises:
        InputError: an argument does not fit, or the dataset is empty.
    """
    del use_multi_process
    pairs = read_pairs(dataset, anchor_column_name, positive_column_name, corpus)
    require_count("faiss_batch_size", faiss_batch_size)
    chosen_format, with_scores = _resolve_format(output_format, output_scores, as_triplets, include_positives)
    options = MiningOptions(
        range_min=range_min,
        range_max=range_max,
        max_score=max_score,
        min_score=min_score,
        absolute_margin=absolute_margin if margin is None else margin,
        relative_margin=relative_margin,
        num_negatives=num_negatives,
        sampling_strategy=sampling_strategy,
        include_positives=include_positives,
    ).resolve(pairs.max_rows, cross_encoder is not None)
    encode = _CachedEncoding(model, batch_size, verbose, cache_folder)
    queries = encode("query", pairs.queries, query_prompt_name, query_prompt)
    documents = encode("corpus", pairs.corpus, corpus_prompt_name, corpus_prompt)
    candidates = _find_candidates(model, pairs, queries, documents, options, use_faiss, faiss_batch_size)
    if cross_encoder is not None and options.filters:
        candidates = _score_again(cross_encoder, pairs, candidates, batch_size)
    removed = remove_candidates(candidates, pairs, options)
    mined = build_rows(pairs, select(candidates, options), chosen_format, with_scores)
    if verbose:
        print_report(mined, candidates.positive_scores, options, removed)
    return _like_input(dataset, mined)


def _resolve_format(
    output_format: str, output_scores: bool, as_triplets: bool | None, include_positives: bool
) -> tuple[str, bool]:
    """Return the format, and whether scores are added, from newer and older arguments."""
    if as_triplets is not None:
        output_format = "triplet" if as_triplets else "n-tuple"
        _log.warning("as_triplets is an older argument: use output_format=%r.", output_format)
    if output_format == "n-tuple-scores":
        output_format, output_scores = "n-tuple", True
    if output_format not in FORMATS:
        raise InputError(f"Unknown output_format {output_format!r}. {nearest(output_format, FORMATS)}")
    if include_positives and output_format != "n-tuple":
        _log.warning('include_positives=True gives the format "n-tuple", in which the order of the texts stays.')
        output_format = "n-tuple"
    return output_format, output_scores


class _CachedEncoding:
    """Encodes queries and corpus, or reads their vectors from a folder."""

    def __init__(self, model: Any, batch_size: int, verbose: bool, folder: str | None) -> None:
        self._model = model
        self._batch_size = batch_size
        self._verbose = verbose
        self._folder = None if folder is None else Path(folder)

    def __call__(self, kind: str, texts: list[str], prompt_name: str | None, prompt: str | None) -> Array:
        """Return the vectors of texts: ``kind`` is query or corpus."""
        if self._folder is None:
            return self._encode(kind, texts, prompt_name, prompt)
        name = _model_name(self._model)
        if not name:
            _log.warning(
                "cache_folder has no effect: this model has no name by which its vectors could be found again."
            )
            return self._encode(kind, texts, prompt_name, prompt)
        key = repr((name, _settings(self._model), prompt, prompt_name, texts))
        file = self._folder / f"{kind}_embeddings_{hashlib.sha256(key.encode()).hexdigest()}.npy"
        if file.exists():
            return np.asarray(np.load(file, allow_pickle=False))
        vectors = self._encode(kind, texts, prompt_name, prompt)
        self._folder.mkdir(parents=True, exist_ok=True)
        np.save(file, vectors)
        return vectors

    def _encode(self, kind: str, texts: list[str], prompt_name: str | None, prompt: str | None) -> Array:
        method = self._model.encode_query if kind == "query" else self._model.encode_document
        options: dict[str, Any] = {
            "prompt_name": prompt_name,
            "prompt": prompt,
            "show_progress_bar": self._verbose or None,
        }
        if not isinstance(self._model, Encoder):
            options |= {"batch_size": self._batch_size, "convert_to_numpy": True}
        return as_array(method(texts, normalize_embeddings=True, **options))


def _model_name(model: Any) -> str:
    """Return the name under which vectors are cached: of their space, else of the model; empty if there is none."""
    name = getattr(getattr(model, "encoder", model), "fingerprint", None) or getattr(model, "name", None)
    return str(name or getattr(getattr(model, "model_card_data", None), "base_model", None) or "")


def _settings(model: Any) -> list[Any]:
    """Return the settings of a model with which its vectors change."""
    names = ("prompts", "default_prompt_name", "max_length", "max_seq_length", "truncate_dim", "max_active_dims")
    return [getattr(model, name, None) for name in names]


def _find_candidates(
    model: Any,
    pairs: QueryPairs,
    queries: Array,
    documents: Array,
    options: MiningOptions,
    by_dot: bool,
    query_rows: int,
) -> NegativeCandidates:
    """Return the nearest texts of each query, and the scores of the positives."""
    compare_all, compare_rows = _score_functions(model)
    count = options.last + pairs.max_rows
    matches = find_top_matches(queries, documents, count, dot_score if by_dot else compare_all, query_rows)
    ids = np.where(matches.filled, matches.ids, -1)
    positive_scores = as_array(compare_rows(queries[pairs.owners], documents[pairs.positives]))
    return NegativeCandidates(ids, matches.scores.astype(positive_scores.dtype), positive_scores)


def _score_functions(model: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the model's function that compares all with all, and the one that compares row by row."""
    name = model.recipe.similarity if isinstance(model, Encoder) else getattr(model, "similarity_fn_name", None)
    if name is None:
        return model.similarity, model.similarity_pairwise
    function = SimilarityFunction(name)
    return SimilarityFunction.to_similarity_fn(function), SimilarityFunction.to_similarity_pairwise_fn(function)


def _score_again(
    cross_encoder: Any, pairs: QueryPairs, candidates: NegativeCandidates, batch_size: int
) -> NegativeCandidates:
    """Return candidates and positives with the scores of a cross-encoder."""
    valid = candidates.ids >= 0
    owners, places = np.nonzero(valid)[0], candidates.ids[valid]
    numbers = zip(np.concatenate([owners, pairs.owners]), np.concatenate([places, pairs.positives]), strict=True)
    scores = _predict(cross_encoder, [(pairs.queries[q], pairs.corpus[d]) for q, d in numbers], batch_size)
    again = np.full(valid.shape, -np.inf, scores.dtype)
    again[valid] = scores[: len(owners)]
    return replace(candidates, scores=again, positive_scores=scores[len(owners) :])


def _predict(cross_encoder: Any, texts: list[tuple[str, str]], batch_size: int) -> Array:
    parts = []
    for start in range(0, len(texts), _PAIRS_PER_CALL):
        part = texts[start : start + _PAIRS_PER_CALL]
        if isinstance(cross_encoder, Reranker):
            scores = cross_encoder.score(*map(list, zip(*part, strict=True)))
        else:
            scores = cross_encoder.predict(part, batch_size=batch_size)
        parts.append(as_array(scores))
    result = np.concatenate(parts)
    if result.ndim != 1:
        raise InputError(f"The cross-encoder gives {result.shape[1]} scores for a pair: use one with a single label.")
    return result


def _like_input(dataset: Any, mined: MinedRows) -> Any:
    """Return columns as what the dataset was."""
    if hasattr(dataset, "column_names") and hasattr(type(dataset), "from_dict"):
        return type(dataset).from_dict(mined.columns)
    if hasattr(dataset, "columns"):
        return type(dataset)(mined.columns)
    return mined.columns
