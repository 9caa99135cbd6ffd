"""Bytes of vectors per document: by formula for dense vectors, measured on a sample for others."""

from __future__ import annotations

import numpy as np

from nearfield.evaluation.datasets import sampling
from nearfield.evaluation.datasets.dataset import Dataset
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.planning.index_size import BITS
from nearfield.evaluation.systems import EmbeddingSystem, System, Variant
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.sparse import SparseVectors

#: Documents whose sparse vectors or multi-vectors are measured.
SAMPLE_SIZE = 64


def bytes_per_document(system: System, variant: Variant, dataset: Dataset) -> JsonDict:
    """Return the storage of a variant's vectors, after it was evaluated on the data set.

    The result has ``bytes_per_vector`` (None if vectors differ), ``vectors_per_document`` and ``bytes_per_document``,
    without index, text and keyword index.
    """
    count = len(sampling.texts_of(dataset.rows)[0])
    chunks = getattr(system, "chunk_count", 0) / count or 1.0
    if variant.output == "bm25" and not variant.rerank:
        return {"bytes_per_vector": None, "vectors_per_document": 0.0, "bytes_per_document": 0.0}
    if variant.output in ("sparse", "multivector"):
        size = _mean_bytes(system, dataset)
        return {"bytes_per_vector": None, "vectors_per_document": chunks, "bytes_per_document": size}
    width = _dimensions(system, variant)
    if width is None:
        return {"bytes_per_vector": None, "vectors_per_document": chunks, "bytes_per_document": None}
    size = width * BITS[variant.dtype] / 8
    return {"bytes_per_vector": size, "vectors_per_document": chunks, "bytes_per_document": size * chunks}


def _dimensions(system: System, variant: Variant) -> int | None:
    """Return the dimensions of dense vectors: of the variant, of the model's facts, or of an encoded text."""
    dimensions = variant.dimensions or (system.to_dict().get("dimensions") if hasattr(system, "to_dict") else None)
    if dimensions is None and isinstance(system, EmbeddingSystem):
        dimensions = np.asarray(system.encode(["hello world"], role="document")).shape[1]
    return None if dimensions is None else int(dimensions)


def _mean_bytes(system: System, dataset: Dataset) -> float | None:
    """Return the mean size of some documents' sparse vectors or multi-vectors."""
    if not isinstance(system, EmbeddingSystem):
        return None
    chosen, _ = sampling.sample(dataset, SAMPLE_SIZE, 0)
    vectors = system.encode(chosen, role="document")
    if isinstance(vectors, SparseVectors):
        return float(vectors.indices.astype(np.int32).nbytes + vectors.values.nbytes) / len(chosen)
    return float(vectors.data.nbytes) / len(chosen) if isinstance(vectors, MultiVectors) else None
