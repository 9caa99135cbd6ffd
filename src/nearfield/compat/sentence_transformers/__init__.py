"""Classes and functions of sentence-transformers: ``from nearfield.compat.sentence_transformers import ...``."""

from __future__ import annotations

from nearfield.compat.sentence_transformers import util
from nearfield.compat.sentence_transformers.cross_encoder import CrossEncoder
from nearfield.compat.sentence_transformers.dense import SentenceTransformer
from nearfield.compat.sentence_transformers.multivector import MultiVectorEncoder
from nearfield.compat.sentence_transformers.sparse import SparseEncoder
from nearfield.compat.sentence_transformers.util import SimilarityFunction, mine_hard_negatives, quantize_embeddings

__all__ = [
    "CrossEncoder",
    "MultiVectorEncoder",
    "SentenceTransformer",
    "SimilarityFunction",
    "SparseEncoder",
    "mine_hard_negatives",
    "quantize_embeddings",
    "util",
]
