"""Vectors of texts by role, encoded once and measured many times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.evaluation.systems import Role
from nearfield.vectors.vector_map import VectorMap


def encode_full(
    encoder: Encoder, texts: Sequence[str], role: str, *, progress: bool | None = False
) -> tuple[Array, str]:
    """Return the whole vectors of texts, float32 [n, dimensions], and their fingerprint.

    Raises:
        InputError: the model gives no dense vectors, or a vector has values that are no numbers.
    """
    encoder.require("dense")
    options: dict[str, Any] = {"truncate_dim": encoder.dimensions, "show_progress_bar": progress, "outputs": "dense"}
    vectors = encoder.encode(list(texts), role=role, **options)["dense"]
    rows = np.asarray(vectors.data, np.float32)
    bad = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(bad):
        raise InputError(f"{encoder.name} gives values that are no numbers for {texts[int(bad[0])]!r:.120}.")
    return rows, vectors.fingerprint


@dataclass(frozen=True)
class VectorSystem:
    """An evaluation system of vectors that were computed before; other texts are refused.

    Args:
        name: as shown.
        queries: vectors by text of the role ``query``.
        documents: vectors by text of the role ``document``.
        query_map: moves the vectors of queries.
    """

    name: str
    queries: Mapping[str, Array]
    documents: Mapping[str, Array]
    query_map: VectorMap | None = None

    @property
    def identity(self) -> str:
        """The name and the map."""
        return f"{self.name} {self.query_map.digest if self.query_map else ''}"

    def with_map(self, query_map: VectorMap) -> VectorSystem:
        """Return the system with its queries moved."""
        return replace(self, name=f"{self.name} + map", query_map=query_map)

    def encode(self, texts: Sequence[str], *, role: Role) -> Array:
        """Return the stored vectors [n, dimensions]."""
        stored = self.queries if role == "query" else self.documents
        rows = np.stack([stored[text] for text in texts])
        return self.query_map.apply(rows) if self.query_map is not None and role == "query" else rows

    def similarity(self, a: Array, b: Array) -> Array:
        """Return cosines."""
        return unit(a) @ unit(b).T

    def close(self) -> None:
        """Nothing is open."""


def unit(rows: Array) -> Array:
    """Return rows scaled to unit length; rows of zeros stay."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths == 0, 1, lengths))


def by_text(encoder: Encoder, texts: Sequence[str], role: str, *, progress: bool | None = False) -> dict[str, Array]:
    """Return the vectors of different texts."""
    different = list(dict.fromkeys(texts))
    rows, _ = encode_full(encoder, different, role, progress=progress)
    return dict(zip(different, rows, strict=True))
