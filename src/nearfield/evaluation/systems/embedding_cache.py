"""Memo: whole vectors of texts that were encoded before, for variants that differ only in what follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nearfield.arrays import Array
from nearfield.vectors.dense import Vectors

#: Bytes of vectors that a memo keeps where nothing else is said: a million of 384 dimensions take 1.5 GB.
MOST = 2 << 30


class EmbeddingCache:
    """Keeps float32 rows by space and text, up to a number of bytes; from then on nothing more is kept.

    A space is whatever changes vectors before they are cut and quantised: model, prompt, precision, longest input.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._held = 0
        self._rows: dict[tuple[str, str], tuple[Array, bool]] = {}
        #: Texts that were encoded, and texts that need not be.
        self.encoded, self.saved = 0, 0

    def encode(self, space: str, texts: Sequence[str], run: Callable[[list[str]], Vectors]) -> tuple[Array, int]:
        """Return rows [n, dimensions] of texts, encoding those that are new, and how many of the texts were cut."""
        new = [text for text in dict.fromkeys(texts) if (space, text) not in self._rows]
        fresh = self._encode(run, new) if new else {}
        self.encoded, self.saved = self.encoded + len(new), self.saved + len(texts) - len(new)
        found = [fresh[text] if text in fresh else self._rows[space, text] for text in texts]
        for text, told in fresh.items():
            if self._held < self._most:
                self._rows[space, text] = told
                self._held += told[0].nbytes
        rows = np.stack([row for row, _ in found]) if found else run([]).data
        return rows, sum(cut for _, cut in found)

    def _encode(self, run: Callable[[list[str]], Vectors], texts: list[str]) -> dict[str, tuple[Array, bool]]:
        vectors = run(texts)
        cut = np.zeros(len(texts), int) if vectors.dropped is None else vectors.dropped
        return {text: (row.copy(), bool(gone)) for text, row, gone in zip(texts, vectors.data, cut, strict=True)}
