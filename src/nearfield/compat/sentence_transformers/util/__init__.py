"""``sentence_transformers.util``: similarity, search, clusters, quantisation and mining, with the same signatures.

Functions take arrays, ``Vectors``, tensors (sparse ones too) and lists. What is a tensor there is a tensor here if
torch is installed, else an array; torch is imported when a function that returns tensors is called, or gets one.
Vectors of two different known spaces are refused (SpaceMismatch).
"""

from __future__ import annotations

from nearfield.compat.arguments import BATCHES, USED, ArgumentTable, Effect
from nearfield.compat.sentence_transformers.util.hard_negatives import mine_hard_negatives
from nearfield.compat.sentence_transformers.util.quantization import (
    quantize_embeddings,
    semantic_search_faiss,
    semantic_search_usearch,
)
from nearfield.compat.sentence_transformers.util.retrieval import (
    community_detection,
    information_retrieval,
    paraphrase_mining,
    paraphrase_mining_embeddings,
    semantic_search,
)
from nearfield.compat.sentence_transformers.util.script_support import LoggingHandler, http_get
from nearfield.compat.sentence_transformers.util.similarity import (
    SimilarityFunction,
    cos_sim,
    dot_score,
    euclidean_sim,
    manhattan_sim,
    maxsim,
    maxsim_pairwise,
    mean_maxsim,
    mean_maxsim_pairwise,
    pairwise_angle_sim,
    pairwise_cos_sim,
    pairwise_dot_score,
    pairwise_euclidean_sim,
    pairwise_manhattan_sim,
    pytorch_cos_sim,
)
from nearfield.compat.sentence_transformers.util.tensor import (
    batch_to_device,
    normalize_embeddings,
    select_max_active_dims,
    truncate_embeddings,
)

_BLOCKS = Effect("used", "An upper bound: memory decides too.")
_MAXSIM = {
    **dict.fromkeys(("a", "b", "a_mask", "b_mask", "length_normalize"), USED),
    "chunk_elements": Effect("ignored", "Memory is bounded."),
    "device": Effect("ignored", "The CPU computes; the scores are on the documents' device."),
}
_SIDES = dict.fromkeys(("a", "b"), USED)
_INDEX = dict.fromkeys(
    (
        "query_embeddings",
        "corpus_embeddings",
        "corpus_index",
        "corpus_precision",
        "top_k",
        "ranges",
        "calibration_embeddings",
        "rescore",
        "rescore_multiplier",
        "exact",
        "output_index",
    ),
    USED,
)
_MINING = {
    **dict.fromkeys(("max_pairs", "top_k", "score_function"), USED),
    **dict.fromkeys(("query_chunk_size", "corpus_chunk_size"), _BLOCKS),
}
ARGUMENTS: ArgumentTable = {
    **dict.fromkeys(("cos_sim", "pytorch_cos_sim", "dot_score", "euclidean_sim", "manhattan_sim"), _SIDES),
    **dict.fromkeys(("pairwise_cos_sim", "pairwise_dot_score", "pairwise_euclidean_sim"), _SIDES),
    "pairwise_manhattan_sim": _SIDES,
    "pairwise_angle_sim": dict.fromkeys(("x", "y"), USED),
    **dict.fromkeys(("maxsim", "maxsim_pairwise", "mean_maxsim", "mean_maxsim_pairwise"), _MAXSIM),
    "normalize_embeddings": {"embeddings": USED},
    "truncate_embeddings": {"embeddings": USED, "truncate_dim": USED},
    "select_max_active_dims": {"embeddings": USED, "max_active_dims": USED},
    "batch_to_device": {"batch": USED, "target_device": USED},
    "semantic_search": {
        **dict.fromkeys(("query_embeddings", "corpus_embeddings", "top_k", "score_function"), USED),
        **dict.fromkeys(("query_chunk_size", "corpus_chunk_size"), _BLOCKS),
    },
    "paraphrase_mining": {
        **dict.fromkeys(("model", "sentences", "show_progress_bar", "truncate_dim", "prompt_name", "prompt"), USED),
        "batch_size": BATCHES,
        **_MINING,
    },
    "paraphrase_mining_embeddings": {"embeddings": USED, **_MINING},
    "community_detection": {
        **dict.fromkeys(("embeddings", "threshold", "min_community_size", "show_progress_bar"), USED),
        "batch_size": _BLOCKS,
    },
    "quantize_embeddings": dict.fromkeys(("embeddings", "precision", "ranges", "calibration_embeddings"), USED),
    "semantic_search_faiss": _INDEX,
    "semantic_search_usearch": _INDEX,
    "mine_hard_negatives": {
        **dict.fromkeys(("dataset", "model", "anchor_column_name", "positive_column_name", "corpus"), USED),
        **dict.fromkeys(("cross_encoder", "range_min", "range_max", "max_score", "min_score"), USED),
        **dict.fromkeys(("absolute_margin", "relative_margin", "num_negatives", "sampling_strategy"), USED),
        **dict.fromkeys(("query_prompt_name", "query_prompt", "corpus_prompt_name", "corpus_prompt"), USED),
        **dict.fromkeys(("include_positives", "output_format", "output_scores", "verbose", "cache_folder"), USED),
        **dict.fromkeys(("as_triplets", "margin"), USED),
        "batch_size": BATCHES,
        "faiss_batch_size": _BLOCKS,
        "use_faiss": Effect("used", "Compares by dot product. The search is exact, and needs no faiss."),
        "use_multi_process": Effect("ignored", "The engine is parallel."),
    },
    "http_get": {"url": USED, "path": USED},
}

__all__ = [
    "ARGUMENTS",
    "LoggingHandler",
    "SimilarityFunction",
    "batch_to_device",
    "community_detection",
    "cos_sim",
    "dot_score",
    "euclidean_sim",
    "http_get",
    "information_retrieval",
    "manhattan_sim",
    "maxsim",
    "maxsim_pairwise",
    "mean_maxsim",
    "mean_maxsim_pairwise",
    "mine_hard_negatives",
    "normalize_embeddings",
    "pairwise_angle_sim",
    "pairwise_cos_sim",
    "pairwise_dot_score",
    "pairwise_euclidean_sim",
    "pairwise_manhattan_sim",
    "paraphrase_mining",
    "paraphrase_mining_embeddings",
    "pytorch_cos_sim",
    "quantize_embeddings",
    "select_max_active_dims",
    "semantic_search",
    "semantic_search_faiss",
    "semantic_search_usearch",
    "truncate_embeddings",
]
