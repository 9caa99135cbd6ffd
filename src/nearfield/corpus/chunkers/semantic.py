"""Semantic chunker: splits between sentences where the subject changes, according to the model's own vectors."""

from __future__ import annotations

import numpy as np

from nearfield.arrays import Array
from nearfield.corpus.chunkers import boundaries, sections
from nearfield.corpus.chunkers.boundaries import Boundary, TextScale
from nearfield.corpus.chunkers.chunker import Chunker, ChunkOutline
from nearfield.corpus.document import Document
from nearfield.errors import InputError

#: Sentences on either side of a boundary that are compared.
_WINDOW = 3
#: The share of boundaries, those with the greatest change, that cost nothing.
_BREAKS = 0.1
_SENTENCES_PER_CALL = 1024


class SemanticChunker(Chunker):
    """Compares the sentences before each end of a sentence with those after it, and splits where they differ most.

    The method is that of Kamradt's semantic splitter (2023), limited by the chunk's size. All sentences are embedded,
    so that indexing takes about twice as long.
    """

    def outline(self, document: Document, scale: TextScale) -> ChunkOutline:
        """Return the boundaries between sentences; the less the subject changes, the more they cost."""
        candidates: list[Boundary] = []
        for section in sections.flat_sections(document):
            candidates.append(Boundary(section.start, section.cost))
            candidates += sections.inner_boundaries(section, scale, self.language)
        units = self.units(scale, candidates, self.size)
        change = self._changes(scale, [boundary.at for boundary in units])
        rank = np.argsort(np.argsort(change, kind="stable"), kind="stable") / max(1, len(change) - 1)
        return ChunkOutline([_weigh(boundary, float(share)) for boundary, share in zip(units[1:], rank, strict=True)])

    def _changes(self, scale: TextScale, starts: list[int]) -> Array:
        """Return the cosine distance [starts - 1] of the windows before and after each start but the first."""
        if self.embed is None:
            raise InputError("The semantic chunker needs the collection's model to compare sentences.")
        if len(starts) < 2:
            return np.zeros(0)
        ends = [*starts[1:], len(scale.text)]
        texts = [scale.text[low:high].strip() for low, high in zip(starts, ends, strict=True)]
        parts = (texts[at : at + _SENTENCES_PER_CALL] for at in range(0, len(texts), _SENTENCES_PER_CALL))
        vectors = np.concatenate([np.asarray(self.embed(part)) for part in parts])
        weights = np.array([scale(low, high) for low, high in zip(starts, ends, strict=True)])
        return _distances(vectors * weights[:, None])


def _distances(vectors: Array) -> Array:
    sums = np.concatenate([np.zeros((1, vectors.shape[1])), np.cumsum(vectors, 0, dtype=np.float64)])
    middle = np.arange(1, len(vectors))
    left = sums[middle] - sums[np.maximum(middle - _WINDOW, 0)]
    right = sums[np.minimum(middle + _WINDOW, len(vectors))] - sums[middle]
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.asarray(1 - (left * right).sum(1) / np.maximum(norms, 1e-12))


def _weigh(boundary: Boundary, share: float) -> Boundary:
    """Return a boundary that costs nothing where the change is greatest, and as much as a line where it is least."""
    if boundary.cost > boundaries.SENTENCE:
        return boundary
    return Boundary(boundary.at, 0.0 if share >= 1 - _BREAKS else boundaries.LINE * (1 - share))
