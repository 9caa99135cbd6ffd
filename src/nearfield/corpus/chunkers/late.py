"""Late: sentence by sentence, each chunk's vector made with its surroundings in view (Günther et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nearfield.corpus.chunkers.chunker import DEFAULT_SIZE, Embed
from nearfield.corpus.chunkers.sentence import SentenceChunker
from nearfield.corpus.chunkers.token_counter import TokenCounter
from nearfield.corpus.document import Span


class LateChunker(SentenceChunker):
    """Cuts as ``sentence`` does, without overlap, for ``Encoder.encode_late`` (arXiv:2409.04701): see ``runs``."""

    late = True

    def __init__(
        self,
        ruler: TokenCounter,
        size: int = DEFAULT_SIZE,
        overlap: int = 0,
        embed: Embed | None = None,
        language: str | None = None,
    ) -> None:
        # Each chunk sees its neighbours anyway, and chunks that are encoded as one text cannot repeat any of it.
        super().__init__(ruler, size, 0, embed, language)


@dataclass(frozen=True)
class Run:
    """Consecutive spans, from ``first`` up to ``stop``, and their texts, which join to the text they were cut from."""

    first: int
    stop: int
    texts: tuple[str, ...]


def runs(text: str, spans: Sequence[Span], ruler: TokenCounter, room: int | None = None) -> list[Run]:
    """Group a document's spans into as few runs as the model can read at once, of about the same length.

    The white space between two spans goes with the later one. ``room`` is the tokens of a run at most, where that is
    less than the model reads.
    """
    most = min(room or ruler.length, ruler.length)
    found: list[Run] = []
    for first, stop in _groups([span.tokens for span in spans], most):
        found += _fitting(text, spans, first, stop, ruler, most)
    return found


def _groups(counts: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Cut counts into groups of at most ``most``, then even them out, as long as there are no more of them."""
    fewest = _filled(counts, most)
    for bound in (round(most * share / 16) for share in range(1, 16)):
        even = _filled(counts, bound)
        if len(even) == len(fewest) and all(sum(counts[low:high]) <= most for low, high in even):
            return even
    return fewest


def _filled(counts: Sequence[int], most: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    used = most + 1
    for number, count in enumerate(counts):
        if used + count > most:
            found.append((number, number + 1))
            used = 0
        else:
            found[-1] = (found[-1][0], number + 1)
        used += count
    return found


def _fitting(text: str, spans: Sequence[Span], first: int, stop: int, ruler: TokenCounter, most: int) -> list[Run]:
    """Make a run, or two where the tokenizer counts more in the whole than in its parts."""
    starts = [spans[first].start, *(span.end for span in spans[first : stop - 1])]
    texts = tuple(text[start : span.end] for start, span in zip(starts, spans[first:stop], strict=True))
    if stop - first == 1 or ruler.count("".join(texts)) <= most:
        return [Run(first, stop, texts)]
    middle = (first + stop) // 2
    return [run for part in ((first, middle), (middle, stop)) for run in _fitting(text, spans, *part, ruler, most)]
