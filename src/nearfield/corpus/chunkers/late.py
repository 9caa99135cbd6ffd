"""Late chunking: sentence chunks whose vectors are computed with their surroundings in view (Günther et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nearfield.corpus.chunkers.chunker import DEFAULT_SIZE, Embed
from nearfield.corpus.chunkers.sentence import SentenceChunker
from nearfield.corpus.chunkers.token_counter import TokenCounter
from nearfield.corpus.document import Span


class LateChunker(SentenceChunker):
    """Splits like ``sentence``, without overlap, for ``Encoder.encode_late`` (arXiv:2409.04701): see ``group_runs``."""

    late = True

    def __init__(
        self,
        counter: TokenCounter,
        size: int = DEFAULT_SIZE,
        overlap: int = 0,
        embed: Embed | None = None,
        language: str | None = None,
    ) -> None:
        # Each chunk sees its neighbours anyway, and chunks that are encoded as one text cannot repeat any of it.
        super().__init__(counter, size, 0, embed, language)


@dataclass(frozen=True)
class Run:
    """Consecutive spans, from ``first`` up to ``stop``, and their texts, which join to the document's text."""

    first: int
    stop: int
    texts: tuple[str, ...]


def group_runs(text: str, spans: Sequence[Span], counter: TokenCounter, max_tokens: int | None = None) -> list[Run]:
    """Group a document's spans into as few runs as the model can read at once, of about the same length.

    The white space between two spans belongs to the later one. ``max_tokens`` limits a run, if that is less than the
    model reads.
    """
    limit = min(max_tokens or counter.length, counter.length)
    runs: list[Run] = []
    for first, stop in _groups([span.tokens for span in spans], limit):
        runs += _fit(text, spans, first, stop, counter, limit)
    return runs


def _groups(counts: Sequence[int], limit: int) -> list[tuple[int, int]]:
    """Group counts up to ``limit``, then even the groups out as long as their number stays the same."""
    fewest = _fill(counts, limit)
    for bound in (round(limit * share / 16) for share in range(1, 16)):
        even = _fill(counts, bound)
        if len(even) == len(fewest) and all(sum(counts[low:high]) <= limit for low, high in even):
            return even
    return fewest


def _fill(counts: Sequence[int], limit: int) -> list[tuple[int, int]]:
    groups: list[tuple[int, int]] = []
    used = limit + 1
    for number, count in enumerate(counts):
        if used + count > limit:
            groups.append((number, number + 1))
            used = 0
        else:
            groups[-1] = (groups[-1][0], number + 1)
        used += count
    return groups


def _fit(text: str, spans: Sequence[Span], first: int, stop: int, counter: TokenCounter, limit: int) -> list[Run]:
    """Return one run, or two if the tokenizer counts more in the whole than in its parts."""
    starts = [spans[first].start, *(span.end for span in spans[first : stop - 1])]
    texts = tuple(text[start : span.end] for start, span in zip(starts, spans[first:stop], strict=True))
    if stop - first == 1 or counter.count("".join(texts)) <= limit:
        return [Run(first, stop, texts)]
    middle = (first + stop) // 2
    return [run for part in ((first, middle), (middle, stop)) for run in _fit(text, spans, *part, counter, limit)]
