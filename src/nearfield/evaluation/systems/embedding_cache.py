"""A cache of full vectors, shared by variants that differ only in dimensions, dtype or search options."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nearfield.arrays import Array
from nearfield.vectors.dense import Vectors

#: Default size in bytes: a million vectors of 384 dimensions take 1.5 GB.
MAX_BYTES = 2 << 30


class EmbeddingCache:
    """Caches float32 rows by space and text, up to a number of bytes; a full cache accepts nothing more.

    A space identifies everything that changes full vectors: model, prompt, precision, maximum length.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._rows: dict[tuple[str, str], tuple[Array, bool]] = {}
        #: Number of texts that were encoded, and that were in the cache.
        self.encoded, self.saved = 0, 0

    def encode(self, space: str, texts: Sequence[str], run: Callable[[list[str]], Vectors]) -> tuple[Array, int]:
        """Return rows [n, dimensions] and the number of truncated texts; encode only new texts."""
        new = [text for text in dict.fromkeys(texts) if (space, text) not in self._rows]
        fresh = self._encode(run, new) if new else {}
        self.encoded, self.saved = self.encoded + len(new), self.saved + len(texts) - len(new)
        entries = [fresh[text] if text in fresh else self._rows[space, text] for text in texts]
        for text, entry in fresh.items():
            if self._bytes < self._max_bytes:
                self._rows[space, text] = entry
                self._bytes += entry[0].nbytes
        rows = np.stack([row for row, _ in entries]) if entries else run([]).data
        return rows, sum(truncated for _, truncated in entries)

    def _encode(self, run: Callable[[list[str]], Vectors], texts: list[str]) -> dict[str, tuple[Array, bool]]:
        vectors = run(texts)
        dropped = np.zeros(len(texts), int) if vectors.dropped is None else vectors.dropped
        return {text: (row.copy(), bool(count)) for text, row, count in zip(texts, vectors.data, dropped, strict=True)}
