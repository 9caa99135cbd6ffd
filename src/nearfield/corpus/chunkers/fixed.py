"""Fixed: as many words as fit, whatever they say."""

from __future__ import annotations

from collections.abc import Iterable

from nearfield.corpus.chunkers import boundaries
from nearfield.corpus.chunkers.boundaries import Boundary, TextScale
from nearfield.corpus.chunkers.chunker import Chunker, ChunkOutline
from nearfield.corpus.document import Document

#: A last chunk below this share of the size takes words from the one before.
_SMALL = 1 / 4


class FixedChunker(Chunker):
    """Cuts between words after each ``size`` tokens; ``overlap`` is in words too."""

    def outline(self, document: Document, scale: TextScale) -> ChunkOutline:
        """Return no seams: where to cut depends on the chunk before."""
        return ChunkOutline([])

    def cut(self, scale: TextScale, given: Iterable[Boundary], size: int) -> list[tuple[int, int]]:
        """Return full chunks one after another; the last two share what is left."""
        found: list[tuple[int, int]] = []
        start = stop = 0
        while stop < len(scale.text):
            reached = _stop(scale, start, size)
            # A part that is all overlap would say nothing new.
            start, reached = (start, reached) if reached > stop else (stop, _stop(scale, stop, size))
            found.append((start, reached))
            stop = reached
            start = self._back(scale, start, stop)
        if len(found) > 1 and scale(*found[-1]) < size * _SMALL:
            found[-2:] = self._halves(scale, found[-2][0], size)
        return found

    def _back(self, scale: TextScale, start: int, stop: int) -> int:
        """Return the first border from which no more than the overlap is repeated."""
        if not self.overlap:
            return stop
        least = max(start + 1, scale.reach(start, max(1, round(scale(start, stop)) - self.overlap)))
        return next((at for at in range(least, stop) if boundaries.border(scale.text, at)), stop)

    def _halves(self, scale: TextScale, start: int, size: int) -> list[tuple[int, int]]:
        end = len(scale.text)
        half = max(1, round(scale(start, end) + self.overlap) // 2)
        stop = next((seam.at for seam in boundaries.words(scale, start, end, half, size)), end)
        return [(start, stop), (self._back(scale, start, stop), end)][: 2 if stop < end else 1]


def _stop(scale: TextScale, start: int, size: int) -> int:
    """Return where a full chunk ends that begins at ``start``."""
    end = len(scale.text)
    return next((seam.at for seam in boundaries.words(scale, start, end, size, size)), end)
