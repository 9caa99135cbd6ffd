"""Classes and functions of sentence-transformers: ``from nearfield.compat.sentence_transformers import ...``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from nearfield.compat.sentence_transformers import util
from nearfield.compat.sentence_transformers.cross_encoder import CrossEncoder
from nearfield.compat.sentence_transformers.dense import SentenceTransformer
from nearfield.compat.sentence_transformers.multivector import MultiVectorEncoder
from nearfield.compat.sentence_transformers.old_names import ELSEWHERE, MissingParts, missing_part
from nearfield.compat.sentence_transformers.sparse import SparseEncoder
from nearfield.compat.sentence_transformers.util import (
    LoggingHandler,
    SimilarityFunction,
    mine_hard_negatives,
    quantize_embeddings,
)

__all__ = [
    "CrossEncoder",
    "LoggingHandler",
    "MultiVectorEncoder",
    "SentenceTransformer",
    "SimilarityFunction",
    "SparseEncoder",
    "mine_hard_negatives",
    "quantize_embeddings",
    "util",
]

sys.meta_path.append(MissingParts(__name__))

if not TYPE_CHECKING:  # a checker of types is to find misspelt names

    def __getattr__(name: str) -> Any:
        """Say where a name of sentence-transformers is that is not here."""
        if name in ELSEWHERE:
            raise missing_part(__name__, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}. What it has: {', '.join(__all__)}.")
