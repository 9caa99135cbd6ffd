"""A model of sentence-transformers in memory as an evaluation system, for the figures while it is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.training.fine_tuning.base_model import BaseModel
from nearfield.training.fine_tuning.torch_training.models import TorchModel, train_library
from nearfield.vectors.dense import Vectors
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.similarity import similarity
from nearfield.vectors.sparse import SparseVectors

_BATCH, _SPACE = 32, "live:0:float32"


class LiveModel:
    """Encodes with a live model, with the prompts of the base by role: dense, sparse or multi-vectors."""

    def __init__(self, model: TorchModel, base: BaseModel) -> None:
        self.model, self.base = model, base
        self.name = self.identity = f"{base.name} in training"
        #: Weights of a sparse document, in the mean of the last call.
        self.mean_active = 0.0

    def encode(self, texts: Sequence[str], *, role: str) -> Any:
        """Return float32 [n, dimensions], SparseVectors or MultiVectors."""
        options = {"prompt": self.base.prompts[role], "batch_size": _BATCH, "show_progress_bar": False}
        if self.base.kind == "sparse":
            return self._sparse(self.model.encode(list(texts), convert_to_sparse_tensor=False, **options))
        if self.base.kind == "multivector":
            side = self.model.encode_query if role == "query" else self.model.encode_document
            rows = side(list(texts), convert_to_numpy=True, **options)
            return MultiVectors.of([np.asarray(row, np.float32) for row in rows], rows[0].shape[1], _SPACE)
        return np.asarray(self.model.encode(list(texts), **options), np.float32)

    def _sparse(self, rows: Any) -> SparseVectors:
        dense = rows.cpu().numpy()
        pairs = [(ids := np.flatnonzero(row), row[ids]) for row in dense]
        self.mean_active = float(np.mean([len(ids) for ids, _ in pairs]))
        return SparseVectors.of(pairs, dense.shape[1], _SPACE)

    def similarity(self, a: Any, b: Any) -> Array:
        """Return similarities [len(a), len(b)] by the base's measure."""
        if isinstance(a, (SparseVectors, MultiVectors)):
            return a.similarity(b)
        left, right = (Vectors(np.asarray(side, np.float32), _SPACE, side.shape[1]) for side in (a, b))
        return similarity(left, right, self.base.recipe.similarity)

    def close(self) -> None:
        """Leave the model open: the trainer has it."""


class LiveReranker:
    """Scores documents with a live cross-encoder, as a search system."""

    max_results = None

    def __init__(self, model: TorchModel, base: BaseModel) -> None:
        self.model, self.base = model, base
        self.name = self.identity = f"{base.name} in training"

    def search(self, documents: Mapping[str, str], queries: Mapping[str, str], k: int) -> dict[str, dict[str, float]]:
        """Return the scores of the ``k`` best documents for each query id."""
        run = {}
        for key, query in queries.items():
            pairs = [(query, text) for text in documents.values()]
            scores = self.model.predict(
                pairs, batch_size=_BATCH, show_progress_bar=False, activation_fn=train_library("torch").nn.Identity()
            )
            ranking = sorted(zip(documents, map(float, scores), strict=True), key=lambda row: -row[1])
            run[key] = dict(ranking[:k])
        return run

    def close(self) -> None:
        """Leave the model open: the trainer has it."""


def live_system(model: TorchModel, base: BaseModel) -> LiveModel | LiveReranker:
    """Return the evaluation system of a live model."""
    return LiveReranker(model, base) if base.kind == "scores" else LiveModel(model, base)
