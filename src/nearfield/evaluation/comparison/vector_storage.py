"""Storage: the bytes that a variant's vectors take by document: counted where they differ, else by formula."""

from __future__ import annotations

from typing import Any

import numpy as np

from nearfield.evaluation.datasets import sampling
from nearfield.evaluation.datasets.dataset import Dataset
from nearfield.evaluation.planning.index_size import BITS
from nearfield.evaluation.systems.variant import Variant
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.sparse import SparseVectors

#: Documents whose vectors are counted where each takes another number of bytes.
SAMPLE = 64


def bytes_per_document(subject: Any, variant: Variant, dataset: Dataset) -> dict[str, Any]:
    """Return what a variant stores of a data set, after it was measured there.

    ``bytes_per_vector`` (None where they differ), ``vectors_per_document`` and ``bytes_per_document``: those of vectors
    alone, without index, text, or the words of a keyword index.
    """
    count = len(sampling.texts_of(dataset.rows)[0])
    pieces = getattr(subject, "pieces", 0) / count or 1.0
    if variant.output == "bm25" and not variant.rerank:
        return {"bytes_per_vector": None, "vectors_per_document": 0.0, "bytes_per_document": 0.0}
    if variant.output in ("sparse", "multivector"):
        each = _counted(subject, dataset)
        return {"bytes_per_vector": None, "vectors_per_document": pieces, "bytes_per_document": each}
    width = _dimensions(subject, variant)
    if width is None:
        return {"bytes_per_vector": None, "vectors_per_document": pieces, "bytes_per_document": None}
    each = width * BITS[variant.dtype] / 8
    return {"bytes_per_vector": each, "vectors_per_document": pieces, "bytes_per_document": each * pieces}


def _dimensions(subject: Any, variant: Variant) -> int | None:
    """Return the dimensions of dense vectors: those asked for, those told, or those of one that is encoded."""
    told = variant.dimensions or (subject.told().get("dimensions") if hasattr(subject, "told") else None)
    if told is None and hasattr(subject, "encode"):
        told = np.asarray(subject.encode(["hello world"], role="document")).shape[1]
    return None if told is None else int(told)


def _counted(subject: Any, dataset: Dataset) -> float | None:
    """Return the mean bytes of some documents' sparse or multi-vectors."""
    if not hasattr(subject, "encode"):
        return None
    chosen, _ = sampling.sample(dataset, SAMPLE, 0)
    found = subject.encode(chosen, role="document")
    if isinstance(found, SparseVectors):
        return float(found.indices.astype(np.int32).nbytes + found.values.nbytes) / len(chosen)
    return float(found.data.nbytes) / len(chosen) if isinstance(found, MultiVectors) else None
