"""``sentence_transformers.quantization``: the older place of functions of ``util.quantization``."""

from __future__ import annotations

from nearfield.compat.sentence_transformers.util.quantization import (
    quantize_embeddings,
    semantic_search_faiss,
    semantic_search_usearch,
)

__all__ = ["quantize_embeddings", "semantic_search_faiss", "semantic_search_usearch"]
