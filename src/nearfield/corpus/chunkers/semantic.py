"""Semantic: between sentences where the subject changes, as the model's own vectors tell."""

from __future__ import annotations

from typing import Any

import numpy as np

from nearfield.corpus.chunkers import boundaries, sections
from nearfield.corpus.chunkers.boundaries import Boundary, TextScale
from nearfield.corpus.chunkers.chunker import Chunker, ChunkOutline
from nearfield.corpus.document import Document
from nearfield.errors import InputError

Array = np.ndarray[Any, np.dtype[Any]]
#: Sentences on either side of a seam that are compared.
_WINDOW = 3
#: The share of seams, those with the greatest change, that are cut at unless too little would be left.
_BREAKS = 0.1
#: Sentences embedded at once.
_AT_ONCE = 1024


class SemanticChunker(Chunker):
    """Compares what stands before each end of a sentence with what stands after it, and cuts where they differ most.

    The method is that of Kamradt's semantic splitter (2023), bounded by the chunk's size. All sentences are embedded,
    so that indexing takes about twice as long.
    """

    def outline(self, document: Document, scale: TextScale) -> ChunkOutline:
        """Return the seams between sentences, the dearer the less the subject changes there."""
        found: list[Boundary] = []
        for part in sections.flat_sections(document):
            found += [Boundary(part.start, part.cost), *sections.inside(part, scale, self.language)]
        places = self.units(scale, found, self.size)
        change = self._changes(scale, [seam.at for seam in places])
        rank = np.argsort(np.argsort(change, kind="stable"), kind="stable") / max(1, len(change) - 1)
        return ChunkOutline([_weighed(seam, float(share)) for seam, share in zip(places[1:], rank, strict=True)])

    def _changes(self, scale: TextScale, starts: list[int]) -> Array:
        """Return the cosine distance [starts - 1] of the windows before and after each start but the first."""
        if self.embed is None:
            raise InputError("The semantic chunker compares sentences by the collection's model, and got none.")
        if len(starts) < 2:
            return np.zeros(0)
        texts = [scale.text[low:high].strip() for low, high in zip(starts, [*starts[1:], None], strict=True)]
        vectors = np.concatenate(
            [np.asarray(self.embed(texts[at : at + _AT_ONCE])) for at in range(0, len(texts), _AT_ONCE)]
        )
        weights = np.array([scale(low, high) for low, high in zip(starts, [*starts[1:], len(scale.text)], strict=True)])
        return _distances(vectors * weights[:, None])


def _distances(vectors: Array) -> Array:
    sums = np.concatenate([np.zeros((1, vectors.shape[1])), np.cumsum(vectors, 0, dtype=np.float64)])
    middle = np.arange(1, len(vectors))
    left = sums[middle] - sums[np.maximum(middle - _WINDOW, 0)]
    right = sums[np.minimum(middle + _WINDOW, len(vectors))] - sums[middle]
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return 1 - (left * right).sum(1) / np.maximum(norms, 1e-12)


def _weighed(seam: Boundary, share: float) -> Boundary:
    """Return a seam that costs nothing where the change is greatest, and as much as a line where it is least."""
    if seam.cost > boundaries.SENTENCE:
        return seam
    return Boundary(seam.at, 0.0 if share >= 1 - _BREAKS else boundaries.LINE * (1 - share))
