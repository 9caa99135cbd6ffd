"""The base class of chunkers: from a document's candidate boundaries to chunks of at most ``size`` tokens.

A chunker names candidate boundaries and their costs (``outline``). The base class splits sections that are too long,
chooses boundaries so that chunks are full and of similar size, and counts each chunk with the model's own tokenizer.
"""

from __future__ import annotations

import bisect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from nearfield.arrays import Array
from nearfield.corpus.chunkers import boundaries, optimal_split
from nearfield.corpus.chunkers.boundaries import Boundary, TextScale
from nearfield.corpus.chunkers.time_spans import times_between
from nearfield.corpus.chunkers.token_counter import TokenCounter
from nearfield.corpus.document import Document, Span
from nearfield.errors import InputError

#: Returns the vectors of texts [n, dimensions], of unit length.
Embed = Callable[[Sequence[str]], Array]
#: Default tokens of a chunk and of its overlap, chosen by ``python -m benchmarks --only chunking``.
DEFAULT_SIZE, DEFAULT_OVERLAP = 128, 19
#: Minimum size of a chunk, in tokens.
MIN_SIZE = 8
#: A chunk: start, end, tokens.
_CountedSpan = tuple[int, int, int]


@dataclass(frozen=True)
class ChunkOutline:
    """The candidate boundaries of a document, and the headings above each position.

    Each of ``paths`` applies from its position to the next one; None stands for the document's own headings.
    """

    boundaries: Sequence[Boundary]
    paths: Sequence[tuple[int, tuple[str, ...]]] | None = None


class Chunker(ABC):
    """Splits documents into spans of at most ``size`` tokens that repeat up to ``overlap`` tokens of the span before.

    Args:
        counter: counts tokens like the collection's model.
        size: maximum tokens of a chunk, without special tokens, prompt and context.
        overlap: maximum tokens of whole sentences that a chunk repeats of the one before.
        embed: returns the model's vectors, for chunkers that compare meaning.
        language: a code such as ``en`` or ``de``, by which abbreviations differ from ends of sentences.

    Raises:
        InputError: the sizes do not fit together or do not fit the model.
    """

    #: Whether consecutive chunks are embedded together (see ``late.group_runs``).
    late: bool = False
    #: How a section that is too long is split further: see ``boundaries.refine``.
    levels: Sequence[boundaries.Level] = boundaries.PROSE

    def __init__(
        self,
        counter: TokenCounter,
        size: int = DEFAULT_SIZE,
        overlap: int = DEFAULT_OVERLAP,
        embed: Embed | None = None,
        language: str | None = None,
    ) -> None:
        if not MIN_SIZE <= size <= counter.length:
            raise InputError(
                f"Chunks of {size} tokens: choose {MIN_SIZE} to {counter.length}, which the model reads.",
                param="tokens",
            )
        if not 0 <= overlap <= size // 2:
            raise InputError(
                f"An overlap of {overlap} tokens: choose 0 to {size // 2}, half of a chunk.", param="overlap"
            )
        self.counter = counter
        self.size = size
        self.overlap = overlap
        self.embed = embed
        self.language = language or "en"

    @abstractmethod
    def outline(self, document: Document, scale: TextScale) -> ChunkOutline:
        """Return the candidate boundaries, in any order; ``scale`` weighs parts of the text."""

    def split(self, document: Document) -> list[Span]:
        """Return the spans of the chunks, in order; together they contain all of the text but white space.

        Each starts and ends with a character that is not white space, and has 1 to ``size`` tokens. Words are split
        only if they are longer than a chunk. A document without a token has no spans.
        """
        scale = TextScale(document.text, self.counter.measure(document.text))
        outline = self.outline(document, scale)
        spans = self._counted_spans(scale, outline.boundaries)
        return _with_headings(document, spans, outline.paths)

    def choose(self, scale: TextScale, candidates: Iterable[Boundary], size: int) -> list[tuple[int, int]]:
        """Return the start and end of chunks of at most ``size`` tokens; white space may be at their ends."""
        starts = self.units(scale, candidates, size)
        ends = np.array([boundary.at for boundary in starts] + [len(scale.text)])
        tokens = scale.offsets.before(ends)
        steps = np.maximum(np.diff(tokens), np.diff(ends) / boundaries.TOKEN_CHARACTERS)
        weights = np.concatenate([[0.0], np.cumsum(steps)]).tolist()
        chunks = optimal_split.split_optimally(weights, [boundary.cost for boundary in starts], size, self.overlap)
        return [(int(ends[first]), int(ends[last])) for first, last in chunks]

    def units(self, scale: TextScale, candidates: Iterable[Boundary], size: int) -> list[Boundary]:
        """Return the start of the text and the boundaries in order, with more inside of parts above ``size`` tokens."""
        known = _unique([Boundary(0, 0.0), *candidates], len(scale.text))
        ends = [*(boundary.at for boundary in known[1:]), len(scale.text)]
        units: list[Boundary] = []
        for boundary, end in zip(known, ends, strict=True):
            units += [boundary, *boundaries.refine(scale, boundary.at, end, size, self.levels)]
        return units

    def _counted_spans(self, scale: TextScale, candidates: Sequence[Boundary]) -> list[_CountedSpan]:
        """Choose chunks and count each alone; choose again if the tokenizer counts more than in the whole text."""
        counted = self._attempt(scale, candidates, self.size)
        excess = max((count for _, _, count in counted), default=0) - self.size
        if 0 < excess <= self.size // 8:
            counted = self._attempt(scale, candidates, self.size - excess)
        spans: list[_CountedSpan] = []
        for start, end, count in counted:
            spans += [(start, end, count)] if count <= self.size else self._halve(scale, start, end)
        return _merge_empty(spans)

    def _attempt(self, scale: TextScale, candidates: Sequence[Boundary], size: int) -> list[_CountedSpan]:
        trimmed = [_trim(scale.text, start, end) for start, end in self.choose(scale, candidates, size)]
        spans = [(start, end) for start, end in trimmed if start < end]
        counts = self.counter.counts([scale.text[start:end] for start, end in spans])
        return [(*span, count) for span, count in zip(spans, counts, strict=True)]

    def _halve(self, scale: TextScale, start: int, end: int) -> Iterator[_CountedSpan]:
        """Split in two near the middle, until each part fits."""
        start, end = _trim(scale.text, start, end)
        count = self.counter.count(scale.text[start:end])
        if count <= self.size or end - start < 2:
            yield start, end, count
            return
        middle = (start + end) // 2
        nearest = sorted(range(start + 1, end), key=lambda position: abs(position - middle))
        at = next((position for position in nearest if boundaries.starts_word(scale.text, position)), middle)
        yield from self._halve(scale, start, at)
        yield from self._halve(scale, at, end)


def _unique(candidates: Iterable[Boundary], length: int) -> list[Boundary]:
    """Return one boundary for each position inside the text, the cheapest, in order."""
    unique: dict[int, Boundary] = {}
    for boundary in sorted(candidates):
        if 0 <= boundary.at < max(length, 1):
            unique.setdefault(boundary.at, boundary)
    return list(unique.values())


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def _merge_empty(spans: Iterable[_CountedSpan]) -> list[_CountedSpan]:
    """Merge spans without a token into the one before or after: such a chunk has no meaning."""
    merged: list[_CountedSpan] = []
    waiting: int | None = None
    for start, end, count in spans:
        if count and waiting is not None:
            start, waiting = waiting, None
        if count:
            merged.append((start, end, count))
        elif merged:
            merged[-1] = (merged[-1][0], end, merged[-1][2])
        elif waiting is None:
            waiting = start
    return merged


def _with_headings(
    document: Document, spans: Iterable[_CountedSpan], paths: Sequence[tuple[int, tuple[str, ...]]] | None
) -> list[Span]:
    """Return spans with the headings above their content, the pages on which they start and end, and their times.

    ``paths`` are those of the chunker, which apply to what begins after their positions; None stands for the document's
    own headings.
    """
    paged = [block for block in document.blocks if block.page is not None]
    ends, starts = [block.end for block in paged], [block.start for block in paged]
    path_at = section_paths(document) if paths is None else partial(_path_before, paths)
    times = times_between(document)
    labelled = []
    for start, end, count in spans:
        page = paged[min(bisect.bisect_right(ends, start), len(paged) - 1)].page if paged else None
        last_page = paged[max(bisect.bisect_left(starts, end) - 1, 0)].page if paged else None
        labelled.append(Span(start, end, path_at(start, end), page, count, last_page, *times(start, end)))
    return labelled


def section_paths(
    document: Document, paths: Sequence[tuple[int, tuple[str, ...]]] | None = None
) -> Callable[[int, int], tuple[str, ...]]:
    """Return a function that returns the headings above the first content of a part of the text, from start to end.

    A part that begins with headings belongs to the last of these, and not to the section before them. ``paths`` are
    those of the whole document, if ``document`` is a window of it.
    """
    paths = document.headings() if paths is None else paths
    content = [block for block in document.blocks if block.kind != "heading"]
    ends = [block.end for block in content]

    def path(start: int, end: int) -> tuple[str, ...]:
        number = bisect.bisect_right(ends, start)
        first = content[number].start if number < len(content) else end
        return _path_before(paths, max(start, min(first, end)), end)

    return path


def _path_before(paths: Sequence[tuple[int, tuple[str, ...]]], start: int, _: int) -> tuple[str, ...]:
    """Return the path that begins before a position."""
    above = bisect.bisect_left(paths, start, key=lambda path: path[0])
    return paths[above - 1][1] if above else ()
