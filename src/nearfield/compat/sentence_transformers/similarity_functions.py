"""``sentence_transformers.similarity_functions``: the older place of ``util.SimilarityFunction``."""

from __future__ import annotations

from nearfield.compat.sentence_transformers.util.similarity import SimilarityFunction

__all__ = ["SimilarityFunction"]
