"""`FusedFeatures`: texts and pictures, or sounds, in one sequence of tokens, for models that read them together."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nearfield.arrays import Array
from nearfield.features import Features


@dataclass(frozen=True, slots=True, eq=False)
class MediaPart:
    """One picture, frame or sound of a sequence: the name of the tower that reads it, and what the tower reads.

    ``places`` are the places in the sequence, int32 [rows], which the tower's rows take, in order.
    """

    tower: str
    features: Features
    places: Array


@dataclass(frozen=True, slots=True, eq=False)
class FusedFeatures:
    """Token ids, with a placeholder for each row that a tower gives, and the parts that towers read.

    ``positions``, int32 [3, tokens], are time, row and column of each token, for models whose rotary positions are
    triples (M-RoPE; Wang et al. 2024, arXiv:2409.12191); None for others.
    """

    ids: Sequence[int]
    parts: tuple[MediaPart, ...]
    positions: Array | None = None

    @property
    def cost(self) -> int:
        """Number of tokens, and what the towers compute: both run for the input."""
        return len(self.ids) + sum(part.features.cost for part in self.parts)

    @property
    def rows(self) -> int:
        """Number of tokens, placeholders included."""
        return len(self.ids)

    def digest(self) -> bytes:
        """Return a digest of the ids, and of each part and its places: not one that a text alone could have."""
        digest = hashlib.sha256(b"fused")
        digest.update(np.asarray(self.ids, np.int64).tobytes())
        for part in self.parts:
            for value in (part.tower.encode(), part.features.digest(), np.asarray(part.places, np.int64).tobytes()):
                digest.update(len(value).to_bytes(8, "little") + value)
        return b"fused " + digest.digest()

    def arrays(self) -> Mapping[str, Array]:
        """Return ``ids``, int32 [tokens]; the rows of towers have a table that all inputs of a batch share."""
        return {"ids": np.asarray(self.ids, np.int32)}
