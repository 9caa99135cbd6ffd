"""A wrapper around a system that measures time, counts texts and shows progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.evaluation.systems import Embeddings, EmbeddingSystem, Role, SearchSystem
from nearfield.progress import Progress

#: Texts in one window, and pairs in one window: all texts of a window are compared with each other.
WINDOW, PAIRS = 4096, 512
_LABELS = {"query": "Encoding queries", "document": "Encoding documents", "symmetric": "Encoding"}


class InstrumentedSystem:
    """The system that tasks use; ``seconds`` are spent on encoding (or searching) and on comparing."""

    def __init__(self, system: EmbeddingSystem | SearchSystem, *, progress: bool = False) -> None:
        self.system = system
        self._shown = progress
        self.seconds: dict[str, float] = {"encode": 0.0, "compare": 0.0}
        self.texts = 0

    @property
    def searches(self) -> bool:
        """Whether the system searches documents itself."""
        return isinstance(self.system, SearchSystem)

    @property
    def max_results(self) -> int | None:
        """The ``max_results`` of a search system; None for others."""
        return self.system.max_results if isinstance(self.system, SearchSystem) else None

    def encode(self, texts: Sequence[str], role: Role, window: int = WINDOW) -> list[Embeddings]:
        """Encode texts and return the results of each window, in order.

        Raises:
            InputError: the system only searches.
        """
        run = self._encoding()
        parts = []
        with Progress(len(texts), label=_LABELS[role], shown=self._shown) as bar:
            for start in range(0, len(texts), window):
                part = list(texts[start : start + window])
                with self._clock("encode"):
                    parts.append(run(part, role=role))
                self.texts += len(part)
                bar.advance(len(part), 0)
        return parts

    def vectors(self, texts: Sequence[str], role: Role) -> Array:
        """Encode texts to dense vectors [n, dimensions].

        Raises:
            InputError: the system has no dense vectors.
        """
        parts = self.encode(texts, role)
        dense = [part for part in parts if isinstance(part, np.ndarray)]
        if len(dense) < len(parts):
            raise InputError(f"This task needs dense vectors, and {self.system.name} returns none.", param="output")
        return np.concatenate(dense)

    def similarity(self, a: Embeddings, b: Embeddings) -> Array:
        """Compare two windows: [len(a), len(b)]."""
        with self._clock("compare"):
            return np.asarray(cast(EmbeddingSystem, self.system).similarity(a, b))

    def pairwise(self, first: Sequence[str], second: Sequence[str], role: Role = "symmetric") -> Array:
        """Return the similarity of each text and its partner, float64 [n]."""
        sides = [self.encode(side, role, PAIRS) for side in (first, second)]
        rows = [self.similarity(a, b).diagonal() for a, b in zip(*sides, strict=True)]
        return np.concatenate(rows).astype(np.float64)

    def search(self, documents: Mapping[str, str], queries: Mapping[str, str], k: int) -> dict[str, dict[str, float]]:
        """Search documents with the system."""
        with self._clock("encode"):
            rankings = cast(SearchSystem, self.system).search(documents, queries, k)
        self.texts += len(documents) + len(queries)
        return rankings

    def _encoding(self) -> Callable[..., Embeddings]:
        if self.searches or not hasattr(self.system, "encode"):
            raise InputError(
                f"{self.system.name} can only search: measure it on a retrieval set, or leave out chunker, rerank and "
                "the output's hybrid or bm25.",
                param="output",
            )
        return cast(EmbeddingSystem, self.system).encode

    @contextmanager
    def _clock(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - started
