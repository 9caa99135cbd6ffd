"""Drift: whether a collection's models still make the vectors that it holds: a sample is encoded anew and compared."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nearfield.corpus.collection import Collection
from nearfield.corpus.features import Feature, table_from_dict
from nearfield.corpus.search.reranking import record_text
from nearfield.errors import InputError
from nearfield.evaluation.stability.golden_vectors import cosine
from nearfield.stores import Record
from nearfield.stores.filters import one_of

#: The least cosine that counts as reproduced; a sign turns where a value is next to nothing, and counts 2 / dimensions.
LEAST, LEAST_BINARY = 0.999, 0.97
#: Records that are read and encoded at once.
_AT_ONCE = 256


def drift(collection: Collection, *, sample: int = 100, seed: int = 0) -> dict[str, Any]:
    """Encode up to ``sample`` chunks anew for each feature, and compare with what the store holds.

    Returns:
        ``reproduced``, and for each feature: reproduced, sampled, cosine (min, mean; None where nothing was compared),
        fingerprint (saved, now, same), ``changed`` (what else of its space is another: prompts, options, dtype ...),
        and ``unlike``: ids with the least cosine.

    Raises:
        InputError: the sample is none.
    """
    if sample < 1:
        raise InputError(f"A sample has at least one chunk, not {sample}.", param="sample")
    ids = [key for (key,) in collection.manifest.rows("SELECT id FROM chunks ORDER BY id")]
    chosen = random.Random(seed).sample(ids, min(sample, len(ids)))
    live = {each.feature: each for each in collection.manifest.vector_tables() if each.state == "live"}
    told = {
        name: _feature(collection, feature, live[name].described, live[name].space, chosen)
        for name, feature in collection.features.items()
        if name in live
    }
    return {
        "collection": collection.name,
        "chunks": len(ids),
        "features": told,
        "reproduced": all(each["reproduced"] for each in told.values()),
    }


def _feature(
    collection: Collection, feature: Feature, described: Mapping[str, Any], space: Mapping[str, Any], ids: Sequence[str]
) -> dict[str, Any]:
    now, table = feature.space(), table_from_dict(described)
    changed = sorted(name for name in {*space, *now} - {"fingerprint"} if space.get(name) != now.get(name))
    found: dict[str, float] = {}
    for start in range(0, len(ids), _AT_ONCE):
        asked = one_of("id", list(ids[start : start + _AT_ONCE]))
        for records in collection.store.scan(table, asked, vectors=True):
            found |= _compared(feature, records)
    least = LEAST_BINARY if feature.config.dtype == "binary" else LEAST
    cosines = list(found.values())
    same = space.get("fingerprint") == now["fingerprint"]
    unlike = sorted((key for key in found if found[key] < least), key=lambda key: found[key])
    return {
        "model": feature.encoder.name,
        "reproduced": bool(same and not changed and not unlike),
        "sampled": len(found),
        "cosine": {"min": min(cosines), "mean": float(np.mean(cosines))} if cosines else None,
        "least": least,
        "fingerprint": {"saved": space.get("fingerprint"), "now": now["fingerprint"], "same": same},
        "changed": changed,
        "unlike": unlike,
    }


def _compared(feature: Feature, records: Sequence[Record]) -> dict[str, float]:
    fresh = feature.encode_documents([record_text(record) for record in records])
    bits = feature.config.dtype == "binary"
    return {record.id: _alike(record.vector, vector, bits=bits) for record, vector in zip(records, fresh, strict=True)}


def _alike(old: Any, new: Any, *, bits: bool) -> float:
    """Return the cosine of two vectors in the form of ``Record.vector``; of a text's tokens the least."""
    if isinstance(old, tuple):
        size = 1 + max((int(ids.max()) for ids, _ in (old, new) if len(ids)), default=0)
        return cosine(*(_spread(each, size) for each in (old, new)))
    before, now = np.asarray(old), np.asarray(new)
    if before.shape != now.shape:
        return 0.0
    if bits:
        return 1.0 - 2.0 * float(np.unpackbits(before ^ now).mean())
    rows = zip(np.atleast_2d(before), np.atleast_2d(now), strict=True)
    return min((cosine(a.astype(np.float64), b.astype(np.float64)) for a, b in rows), default=1.0)


def _spread(vector: tuple[Any, Any], size: int) -> np.ndarray[Any, np.dtype[Any]]:
    found = np.zeros(size)
    found[vector[0]] = vector[1]
    return found
