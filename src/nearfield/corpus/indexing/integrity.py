"""Verify a collection: compare its manifest with the store, and stored vectors with vectors computed again."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from nearfield.arrays import Array
from nearfield.corpus.document import TEXT
from nearfield.corpus.features import Feature, table_from_dict
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.search.reranking import record_text
from nearfield.stores import Store, TableSpec
from nearfield.stores.filters import one_of

#: Minimum cosine of a stored vector and the same vector computed again: other hardware rounds differently.
_MIN_COSINE = 0.999


def verify(manifest: Manifest, store: Store, features: Mapping[str, Feature], *, sample: int) -> dict[str, Any]:
    """Compare each live vector table with the manifest, and ``sample`` of its vectors with the model's.

    A table has the chunks of the kinds that its feature reads. Vectors of texts are computed again, not those of media.
    """
    rows = manifest.rows("SELECT id, version, coalesce(json_extract(payload, '$.kind'), ?) FROM chunks", (TEXT,))
    all_chunks = {key: (version, kind) for key, version, kind in rows}
    tables: dict[str, int] = {}
    problems: dict[str, list[str]] = {"missing": [], "foreign": [], "unlike": [], "outdated": []}
    for name, record in manifest.live_tables().items():
        table = table_from_dict(record.described)
        stored = {row.id: row.version for part in store.scan(table) for row in part}
        tables[name] = len(stored)
        reads = cast(Sequence[str], record.space.get("reads", (TEXT,)))
        chunks = {key: version for key, (version, kind) in all_chunks.items() if kind in reads}
        problems["missing"] += [f"{name}: {key}" for key in chunks if stored.get(key) != chunks[key]]
        problems["foreign"] += [f"{name}: {key}" for key in stored if key not in chunks]
        feature = features.get(name)
        if feature is not None and record.space != feature.space():
            problems["outdated"].append(name)
        elif feature is not None and sample:
            shared = sorted(key for key in chunks.keys() & stored.keys() if all_chunks[key][1] == TEXT)
            chosen = random.Random(0).sample(shared, min(sample, len(shared)))
            problems["unlike"] += [f"{name}: {key}" for key in _differing(store, table, feature, chosen)]
    return {"chunks": len(all_chunks), "tables": tables, **problems, "whole": not any(problems.values())}


def _differing(store: Store, table: TableSpec, feature: Feature, ids: Sequence[str]) -> list[str]:
    """Return the ids of records whose vectors differ from the model's. Only dense vectors are compared."""
    if not ids or feature.kind != "dense":
        return []
    records = [record for part in store.scan(table, one_of("id", ids), vectors=True) for record in part]
    current = feature.encode_documents([record_text(record) for record in records])
    return [
        record.id
        for record, vector in zip(records, current, strict=True)
        if _cosine(np.asarray(record.vector), np.asarray(vector)) < _MIN_COSINE
    ]


def _cosine(left: Array, right: Array) -> float:
    if left.dtype == np.uint8:  # binary: values close to zero may change their sign
        return 1.0 - float(np.unpackbits(np.bitwise_xor(left, right)).mean()) / 10
    left, right = left.astype(np.float64), right.astype(np.float64)
    return float(left @ right / max(np.linalg.norm(left) * np.linalg.norm(right), 1e-12))
