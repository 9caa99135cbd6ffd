"""Fixed-size chunker: as many words as fit, without regard to sentences."""

from __future__ import annotations

from collections.abc import Iterable

from nearfield.corpus.chunkers import boundaries
from nearfield.corpus.chunkers.boundaries import Boundary, TextScale
from nearfield.corpus.chunkers.chunker import Chunker, ChunkOutline
from nearfield.corpus.document import Document

#: A last chunk below this share of the size takes words from the one before.
_SMALL = 1 / 4


class FixedChunker(Chunker):
    """Splits between words after each ``size`` tokens; the overlap is of words too."""

    def outline(self, document: Document, scale: TextScale) -> ChunkOutline:
        """Return no boundaries: each depends on the chunk before."""
        return ChunkOutline([])

    def choose(self, scale: TextScale, candidates: Iterable[Boundary], size: int) -> list[tuple[int, int]]:
        """Return full chunks one after another; the last two share the rest."""
        chunks: list[tuple[int, int]] = []
        start = stop = 0
        while stop < len(scale.text):
            reached = _stop(scale, start, size)
            # A chunk that is all overlap would add nothing.
            start, reached = (start, reached) if reached > stop else (stop, _stop(scale, stop, size))
            chunks.append((start, reached))
            stop = reached
            start = self._overlap_start(scale, start, stop)
        if len(chunks) > 1 and scale(*chunks[-1]) < size * _SMALL:
            chunks[-2:] = self._halves(scale, chunks[-2][0], size)
        return chunks

    def _overlap_start(self, scale: TextScale, start: int, stop: int) -> int:
        """Return the first start of a word from which at most the overlap is repeated."""
        if not self.overlap:
            return stop
        first = max(start + 1, scale.reach(start, max(1, round(scale(start, stop)) - self.overlap)))
        return next((at for at in range(first, stop) if boundaries.starts_word(scale.text, at)), stop)

    def _halves(self, scale: TextScale, start: int, size: int) -> list[tuple[int, int]]:
        end = len(scale.text)
        half = max(1, round(scale(start, end) + self.overlap) // 2)
        stop = next((boundary.at for boundary in boundaries.words(scale, start, end, half, size)), end)
        return [(start, stop), (self._overlap_start(scale, start, stop), end)][: 2 if stop < end else 1]


def _stop(scale: TextScale, start: int, size: int) -> int:
    """Return the end of a full chunk that starts at ``start``."""
    end = len(scale.text)
    return next((boundary.at for boundary in boundaries.words(scale, start, end, size, size)), end)
