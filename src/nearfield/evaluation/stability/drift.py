"""Detect drift: encode a sample of a collection's chunks again and compare with the stored vectors."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.corpus.collection import Collection
from nearfield.corpus.features import Feature, table_from_dict
from nearfield.corpus.search.reranking import record_text
from nearfield.errors import InputError
from nearfield.evaluation.json_types import JsonDict, JsonMapping
from nearfield.evaluation.stability.golden_vectors import cosine
from nearfield.stores import Record
from nearfield.stores.filters import one_of

#: The minimum cosine of a reproduced vector. In binary vectors, a flipped sign of a value near 0 costs 2 / dimensions.
MIN_COSINE, MIN_COSINE_BINARY = 0.999, 0.97
#: Records that are read and encoded together.
_BATCH_SIZE = 256


def drift(collection: Collection, *, sample: int = 100, seed: int = 0) -> JsonDict:
    """Encode up to ``sample`` chunks again for each feature, and compare with the vectors in the store.

    Returns:
        ``reproduced``, and for each feature: reproduced, sampled, cosine (min, mean; None without a comparison),
        fingerprint (saved, now, same), ``changed`` (other differences of the vector space: prompts, options, dtype),
        and ``unlike``: ids with the lowest cosines.

    Raises:
        InputError: the sample is not above 0.
    """
    if sample < 1:
        raise InputError(f"A sample has at least one chunk, not {sample}.", param="sample")
    ids = [key for (key,) in collection.manifest.rows("SELECT id FROM chunks ORDER BY id")]
    chosen = random.Random(seed).sample(ids, min(sample, len(ids)))
    live = {table.feature: table for table in collection.manifest.vector_tables() if table.state == "live"}
    features = {
        name: _check_feature(collection, feature, live[name].described, live[name].space, chosen)
        for name, feature in collection.features.items()
        if name in live
    }
    return {
        "collection": collection.name,
        "chunks": len(ids),
        "features": features,
        "reproduced": all(feature["reproduced"] for feature in features.values()),
    }


def _check_feature(
    collection: Collection, feature: Feature, described: JsonMapping, space: JsonMapping, ids: Sequence[str]
) -> JsonDict:
    now, table = feature.space(), table_from_dict(described)
    changed = sorted(name for name in {*space, *now} - {"fingerprint"} if space.get(name) != now.get(name))
    cosine_of: dict[str, float] = {}
    for start in range(0, len(ids), _BATCH_SIZE):
        condition = one_of("id", list(ids[start : start + _BATCH_SIZE]))
        for records in collection.store.scan(table, condition, vectors=True):
            cosine_of |= _compare_records(feature, records)
    minimum = MIN_COSINE_BINARY if feature.config.dtype == "binary" else MIN_COSINE
    cosines = list(cosine_of.values())
    same = space.get("fingerprint") == now["fingerprint"]
    unlike = sorted((key for key in cosine_of if cosine_of[key] < minimum), key=lambda key: cosine_of[key])
    return {
        "model": feature.encoder.name,
        "reproduced": bool(same and not changed and not unlike),
        "sampled": len(cosine_of),
        "cosine": {"min": min(cosines), "mean": float(np.mean(cosines))} if cosines else None,
        "least": minimum,
        "fingerprint": {"saved": space.get("fingerprint"), "now": now["fingerprint"], "same": same},
        "changed": changed,
        "unlike": unlike,
    }


def _compare_records(feature: Feature, records: Sequence[Record]) -> dict[str, float]:
    fresh = feature.encode_documents([record_text(record) for record in records])
    bits = feature.config.dtype == "binary"
    return {
        record.id: _cosine_of_vectors(record.vector, vector, bits=bits)
        for record, vector in zip(records, fresh, strict=True)
    }


def _cosine_of_vectors(old: Any, new: Any, *, bits: bool) -> float:
    """Return the cosine of two vectors in the form of ``Record.vector``; for multi-vectors, the lowest."""
    if isinstance(old, tuple):
        size = 1 + max((int(ids.max()) for ids, _ in (old, new) if len(ids)), default=0)
        return cosine(*(_to_dense(vector, size) for vector in (old, new)))
    before, now = np.asarray(old), np.asarray(new)
    if before.shape != now.shape:
        return 0.0
    if bits:
        return 1.0 - 2.0 * float(np.unpackbits(before ^ now).mean())
    rows = zip(np.atleast_2d(before), np.atleast_2d(now), strict=True)
    return min((cosine(a.astype(np.float64), b.astype(np.float64)) for a, b in rows), default=1.0)


def _to_dense(vector: tuple[Any, Any], size: int) -> Array:
    dense = np.zeros(size)
    dense[vector[0]] = vector[1]
    return dense
