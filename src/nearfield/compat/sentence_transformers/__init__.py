"""Classes and functions of sentence-transformers: ``from nearfield.compat.sentence_transformers import ...``."""

from __future__ import annotations

from nearfield.compat.sentence_transformers import util
from nearfield.compat.sentence_transformers.cross_encoder import CrossEncoder
from nearfield.compat.sentence_transformers.multivector import MultiVectorEncoder
from nearfield.compat.sentence_transformers.sparse import SparseEncoder

__all__ = ["CrossEncoder", "MultiVectorEncoder", "SparseEncoder", "util"]
