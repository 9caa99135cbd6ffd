"""Tokenise texts that are far longer than the model reads, in pieces and in bounded memory.

A piece is tokenised together with its neighbours' edges, so that the ids are those of the whole text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from nearfield.checkpoint.tokenizer.truncation import UntruncatedIds, too_long

#: Characters of a piece of a long text: at least, for each token of the limit, at most.
_MIN_PIECE, _PIECE_PER_TOKEN, _MAX_PIECE = 2**16, 64, 2**19
#: Characters given to the tokenizer in one call: it takes some 150 bytes for each.
_CHARACTERS_PER_CALL = 2**20
#: Characters on either side of a split that are tokenised together, to see what the split changed.
_SPLIT_CONTEXT = 512

#: Tokenises texts: ``tokenizers.Tokenizer.encode_batch`` or its fast form.
EncodeBatch = Callable[..., Sequence[Any]]


def piece_size(limit: int) -> int:
    """Return the number of characters from which on a text is tokenised in pieces, and of each piece."""
    return min(max(_MIN_PIECE, _PIECE_PER_TOKEN * limit), _MAX_PIECE)


def batches(inputs: list[str], size: int | None = None) -> Iterator[list[str]]:
    """Group texts by their characters; a text longer than ``size`` is a group by itself."""
    size = _MAX_PIECE if size is None else size
    batch: list[str] = []
    free = _CHARACTERS_PER_CALL
    for text in inputs:
        if batch and (len(text) > free or len(text) > size or len(batch[0]) > size):
            yield batch
            batch, free = [], _CHARACTERS_PER_CALL
        batch.append(text)
        free -= len(text)
    if batch:
        yield batch


def encode_in_pieces(encode: EncodeBatch, text: str, limit: int, refused_as: int | None) -> UntruncatedIds:
    """Tokenise a long text piece by piece, without special tokens; keep its first and last ``limit`` ids.

    ``refused_as`` is the text's index where a text with more than ``limit`` ids is refused: reading ends there.

    Raises:
        InputTooLong: ``refused_as`` is set and the text is too long.
    """
    size = piece_size(limit)
    ends = _EndIds(limit)
    previous: list[int] = []
    spans = _spans(text, size)
    while group := list(islice(spans, max(1, _CHARACTERS_PER_CALL // size))):
        for ids, repair in _encode_pieces(encode, text, group):
            repair.apply(previous, ids)
            ends.add(previous)
            previous = ids
        if refused_as is not None and ends.count > limit:
            raise too_long(f"more than {limit}", limit, refused_as)
    ends.add(previous)
    return UntruncatedIds([*ends.first, *ends.last], ends.count - len(ends.first) - len(ends.last))


class _EndIds:
    """The first and the last ids of a long text, ``limit`` of each, and the count of all."""

    def __init__(self, limit: int) -> None:
        self.count = 0
        self.first: list[int] = []
        self.last: deque[int] = deque(maxlen=limit)
        self._limit = limit

    def add(self, ids: list[int]) -> None:
        """Append the ids that come next."""
        self.count += len(ids)
        free = self._limit - len(self.first)
        self.first += ids[:free]
        self.last.extend(ids[free:])


@dataclass(slots=True)
class _SplitRepair:
    """What a split changed: ids at the ``end`` of one piece and the ``start`` of the next, and the ids to put there."""

    end: list[int]
    replacement: list[int]
    start: list[int]

    @classmethod
    def from_ids(cls, left: list[int], right: list[int], joined: list[int]) -> _SplitRepair:
        """Compare the ids of both sides of a split with those of the text across it."""
        if left + right == joined:
            return cls([], [], [])
        head = _common_length(left, joined)
        tail = _common_length(right[::-1], joined[head:][::-1])
        return cls(left[head:], joined[head : len(joined) - tail], right[: len(right) - tail])

    def apply(self, before: list[int], after: list[int]) -> None:
        """Undo the split in place, if the pieces end and start with the ids that were compared."""
        size = len(before) - len(self.end)
        if before[size:] == self.end and after[: len(self.start)] == self.start:
            before[size:] = self.replacement
            del after[: len(self.start)]


def _encode_pieces(
    encode: EncodeBatch, text: str, spans: Sequence[tuple[int, int]]
) -> Iterator[tuple[list[int], _SplitRepair]]:
    """Yield the ids of each piece and the repair of the split before it."""
    texts = [text[start:end] for start, end in spans]
    for start, _ in spans:
        low, high = max(0, start - _SPLIT_CONTEXT), start + _SPLIT_CONTEXT
        texts += [text[low:start], text[start:high], text[low:high]]
    encodings = encode(texts, add_special_tokens=False)
    for index in range(len(spans)):
        first = len(spans) + 3 * index
        left, right, joined = (encoding.ids for encoding in encodings[first : first + 3])
        yield encodings[index].ids, _SplitRepair.from_ids(left, right, joined)


def _common_length(one: list[int], other: list[int]) -> int:
    """Return how many ids are the same from the start on."""
    pairs = zip(one, other, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _spans(text: str, size: int) -> Iterator[tuple[int, int]]:
    """Split a text into pieces of at most ``size`` characters: before a space or a line's end where there is one."""
    start = 0
    while start < len(text):
        low, high = start + size // 2, start + size
        space = max(text.rfind(" ", low, high), text.rfind("\n", low, high)) if high < len(text) else -1
        end = space if space > 0 else high
        yield start, end
        start = end
