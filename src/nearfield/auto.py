"""Load: a model as what it is, for callers who serve whatever they are given."""

from __future__ import annotations

from typing import Any

from nearfield.encoder import Encoder
from nearfield.inference.loaded_model import OtherKind
from nearfield.reranker import Classifier, Reranker


def load(model: str, *, truncate_dim: int | None = None, **options: Any) -> Encoder | Reranker | Classifier:
    """Load a model as an Encoder where it gives vectors, as a Reranker where it gives one score, else as a Classifier.

    Args:
        model: full id, short name or alias of the catalogue, id on the Hub, or path of a folder.
        truncate_dim: dimensions of vectors when a call does not say.
        options: as for ``Loaded``.

    Raises:
        ModelNotFound, SourceUnavailable: there is no such model, or its files cannot be had.
        ModelRefused: its files cannot be loaded exactly.
    """
    try:
        return Encoder(model, truncate_dim=truncate_dim, **options)
    except OtherKind as refused:  # found from its settings alone, before anything costly
        several = refused.labels > 1
    return Classifier(model, **options) if several else Reranker(model, **options)
