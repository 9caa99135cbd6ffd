"""Chunkers: one file, one way to cut a document into chunks.

A newcomer says where a document may be cut and how well (``outline``); the rest is common: parts that are too long are
cut further, seams are chosen so that chunks are full and of like size, and each chunk is counted by the model's own
tokenizer.
"""

from __future__ import annotations

import bisect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.corpus.chunkers import boundaries as seams
from nearfield.corpus.chunkers import optimal_split
from nearfield.corpus.chunkers.boundaries import Boundary, TextScale
from nearfield.corpus.chunkers.token_counter import TokenCounter
from nearfield.corpus.document import Document, Span
from nearfield.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

Array = np.ndarray[Any, np.dtype[Any]]

#: Gives the vectors of texts [n, dimensions], of unit length.
Embed = Callable[[Sequence[str]], Array]
DEFAULT_SIZE, DEFAULT_OVERLAP = 128, 19
#: The least that a chunk may be made to hold, in tokens.
LEAST_SIZE = 8
#: Headings are cut to this many characters: what is longer is none.
_LONGEST_HEADING = 200
_MARKS = re.compile(r"^\s*#{1,6}\s+|\s+#+\s*$|\n\s*(?:=+|-+)\s*$")


@dataclass(frozen=True)
class ChunkOutline:
    """Where a document may be cut, and the names above each place.

    ``paths`` hold for whatever begins after their position, up to the next; None takes the document's headings.
    """

    seams: Sequence[Boundary]
    paths: Sequence[tuple[int, tuple[str, ...]]] | None = None


class Chunker(ABC):
    """Cuts documents into spans of at most ``size`` tokens, repeating up to ``overlap`` tokens of the span before.

    Args:
        ruler: counts tokens as the collection's model does.
        size: tokens of a chunk at most, without special ones, prompt and context.
        overlap: tokens of whole sentences that a chunk may repeat of the one before.
        embed: the model's vectors, for chunkers that look at meaning.
        language: a code such as ``en`` or ``de``, which tells abbreviations from ends of sentences.

    Raises:
        InputError: the sizes do not fit together, or the model.
    """

    #: Whether consecutive chunks are to be embedded together (see ``late.runs``).
    late: bool = False
    #: How a part that is too long is cut further: see ``seams.refine``.
    levels: Sequence[seams.Level] = seams.PROSE

    def __init__(
        self,
        ruler: TokenCounter,
        size: int = DEFAULT_SIZE,
        overlap: int = DEFAULT_OVERLAP,
        embed: Embed | None = None,
        language: str | None = None,
    ) -> None:
        if not LEAST_SIZE <= size <= ruler.length:
            raise InputError(
                f"Chunks of {size} tokens: choose {LEAST_SIZE} to {ruler.length}, what the model reads.", param="tokens"
            )
        if not 0 <= overlap <= size // 2:
            raise InputError(
                f"An overlap of {overlap} tokens: choose 0 to {size // 2}, half of a chunk.", param="overlap"
            )
        self.ruler = ruler
        self.size = size
        self.overlap = overlap
        self.embed = embed
        self.language = language or "en"

    @abstractmethod
    def outline(self, document: Document, scale: TextScale) -> ChunkOutline:
        """Return where to cut; ``scale`` weighs parts of the text. Places need no order and may repeat."""

    def split(self, document: Document) -> list[Span]:
        """Return the spans, in order, which together hold all of the text but white space.

        Each begins and ends with a character that is none, and has 1 to ``size`` tokens. Words are cut only where they
        are longer than a chunk. A document without a token has no spans.
        """
        scale = TextScale(document.text, self.ruler.measure(document.text))
        outline = self.outline(document, scale)
        places = self._counted(scale, outline.seams)
        return _labelled(document, places, headings(document) if outline.paths is None else outline.paths)

    def cut(self, scale: TextScale, given: Iterable[Boundary], size: int) -> list[tuple[int, int]]:
        """Return from where to where chunks of at most ``size`` tokens go; white space may stand at their ends."""
        places = self.units(scale, given, size)
        ends = np.array([seam.at for seam in places] + [len(scale.text)])
        tokens = scale.measured.before(ends)
        steps = np.maximum(np.diff(tokens), np.diff(ends) / seams.TOKEN_CHARACTERS)
        weights = np.concatenate([[0.0], np.cumsum(steps)]).tolist()
        chunks = optimal_split.split_optimally(weights, [seam.cost for seam in places], size, self.overlap)
        return [(int(ends[first]), int(ends[last])) for first, last in chunks]

    def units(self, scale: TextScale, given: Iterable[Boundary], size: int) -> list[Boundary]:
        """Return the seams in order, with the text's start, and more inside of what weighs more than ``size``."""
        known = _unique([Boundary(0, 0.0), *given], len(scale.text))
        ends = [*(seam.at for seam in known[1:]), len(scale.text)]
        found: list[Boundary] = []
        for seam, end in zip(known, ends, strict=True):
            found += [seam, *seams.refine(scale, seam.at, end, size, self.levels)]
        return found

    def _counted(self, scale: TextScale, given: Sequence[Boundary]) -> list[tuple[int, int, int]]:
        """Cut, trim, and count each chunk alone; cut anew where the tokenizer counts more than in the whole text."""
        counted = self._tried(scale, given, self.size)
        excess = max((count for _, _, count in counted), default=0) - self.size
        if 0 < excess <= self.size // 8:
            counted = self._tried(scale, given, self.size - excess)
        found: list[tuple[int, int, int]] = []
        for start, end, count in counted:
            found += [(start, end, count)] if count <= self.size else self._halved(scale, start, end)
        return _joined(found)

    def _tried(self, scale: TextScale, given: Sequence[Boundary], size: int) -> list[tuple[int, int, int]]:
        trimmed = [_trimmed(scale.text, *each) for each in self.cut(scale, given, size)]
        places = [(start, end) for start, end in trimmed if start < end]
        counts = self.ruler.counts([scale.text[start:end] for start, end in places])
        return [(*place, count) for place, count in zip(places, counts, strict=True)]

    def _halved(self, scale: TextScale, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Cut in two near the middle until each part has no more tokens than may be."""
        start, end = _trimmed(scale.text, start, end)
        count = self.ruler.count(scale.text[start:end])
        if count <= self.size or end - start < 2:
            yield start, end, count
            return
        middle = (start + end) // 2
        nearest = sorted(range(start + 1, end), key=lambda at: abs(at - middle))
        at = next((place for place in nearest if seams.border(scale.text, place)), middle)
        yield from self._halved(scale, start, at)
        yield from self._halved(scale, at, end)


def headings(document: Document) -> list[tuple[int, tuple[str, ...]]]:
    """Return where headings begin, and the path from the highest one down to each."""
    found: list[tuple[int, tuple[str, ...]]] = []
    open_ones: list[tuple[int, str]] = []
    for block in document.blocks:
        if block.kind != "heading":
            continue
        name = " ".join(_MARKS.sub("", document.text[block.start : block.end]).split())[:_LONGEST_HEADING]
        open_ones = [each for each in open_ones if each[0] < block.level] + [(block.level, name)]
        found.append((block.start, tuple(name for _, name in open_ones if name)))
    return found


def _unique(given: Iterable[Boundary], length: int) -> list[Boundary]:
    """Return one seam for each place inside the text, the cheapest, in order."""
    found: dict[int, Boundary] = {}
    for seam in sorted(given):
        if 0 <= seam.at < max(length, 1):
            found.setdefault(seam.at, seam)
    return list(found.values())


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def _joined(places: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Join what has no token to what stands before or after it: a chunk of nothing has no meaning."""
    found: list[tuple[int, int, int]] = []
    waiting: int | None = None
    for start, end, count in places:
        if count and waiting is not None:
            start, waiting = waiting, None
        if count:
            found.append((start, end, count))
        elif found:
            found[-1] = (found[-1][0], end, found[-1][2])
        elif waiting is None:
            waiting = start
    return found


def _labelled(
    document: Document, places: Iterable[tuple[int, int, int]], paths: Sequence[tuple[int, tuple[str, ...]]]
) -> list[Span]:
    """Give each place the names above it, and the page on which it begins."""
    above = [at for at, _ in paths]
    paged = [block for block in document.blocks if block.page is not None]
    ends = [block.end for block in paged]
    spans = []
    for start, end, count in places:
        under = bisect.bisect_left(above, start)
        page = paged[min(bisect.bisect_right(ends, start), len(paged) - 1)].page if paged else None
        spans.append(Span(start, end, paths[under - 1][1] if under else (), page, count))
    return spans
