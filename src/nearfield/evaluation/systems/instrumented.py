"""Metered: a subject with a clock and a bar: texts go to it in windows, and what they took is counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.evaluation.systems import EmbeddingSystem, Role, SearchSystem
from nearfield.progress import Progress

#: Texts encoded at once, and pairs of texts compared at once: all of a window's are compared with all.
WINDOW, PAIRS = 4096, 512
_LABELS = {"query": "Encoding queries", "document": "Encoding documents", "symmetric": "Encoding"}


class InstrumentedSystem:
    """A subject as tasks use it: ``seconds`` are those of encoding (or searching) and of everything else."""

    def __init__(self, subject: EmbeddingSystem | SearchSystem, *, progress: bool = False) -> None:
        self.subject = subject
        self._shown = progress
        self.seconds: dict[str, float] = {"encode": 0.0, "compare": 0.0}
        self.texts = 0

    @property
    def searches(self) -> bool:
        """Whether it finds documents itself."""
        return isinstance(self.subject, SearchSystem)

    @property
    def most(self) -> int | None:
        """Results at most that are worth asking a search for."""
        return self.subject.most if isinstance(self.subject, SearchSystem) else None

    def encode(self, texts: Sequence[str], role: Role, window: int = WINDOW) -> list[Any]:
        """Encode texts and return the results of each window, in order.

        Raises:
            InputError: the subject can only search.
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
            InputError: the subject gives none.
        """
        parts = self.encode(texts, role)
        if not all(isinstance(part, np.ndarray) for part in parts):
            raise InputError(f"This task needs dense vectors, and {self.subject.name} gives others.", param="output")
        return cast(Array, np.concatenate(parts))

    def similarity(self, a: Any, b: Any) -> Array:
        """Compare two windows: [len(a), len(b)]."""
        with self._clock("compare"):
            return np.asarray(cast(EmbeddingSystem, self.subject).similarity(a, b))

    def pairwise(self, first: Sequence[str], second: Sequence[str], role: Role = "symmetric") -> Array:
        """Return the similarity of each text and its partner, float64 [n]."""
        sides = [self.encode(side, role, PAIRS) for side in (first, second)]
        rows = [self.similarity(a, b).diagonal() for a, b in zip(*sides, strict=True)]
        return np.concatenate(rows).astype(np.float64)

    def search(self, documents: Mapping[str, str], queries: Mapping[str, str], k: int) -> dict[str, dict[str, float]]:
        """Let the subject find documents."""
        with self._clock("encode"):
            found = cast(SearchSystem, self.subject).search(documents, queries, k)
        self.texts += len(documents) + len(queries)
        return found

    def _encoding(self) -> Callable[..., Any]:
        if self.searches or not hasattr(self.subject, "encode"):
            raise InputError(
                f"{self.subject.name} can only search: measure it on a retrieval set, or leave out chunker, rerank and "
                "the output's hybrid or bm25.",
                param="output",
            )
        return cast(EmbeddingSystem, self.subject).encode

    @contextmanager
    def _clock(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - started
