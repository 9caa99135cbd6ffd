"""Ruler: how long a text is for a model, and where its tokens lie."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer

Array = np.ndarray[Any, np.dtype[Any]]


class TokenOffsets:
    """A text's tokens: where each begins and ends, in characters; int64 [tokens], in order."""

    def __init__(self, starts: Array, ends: Array) -> None:
        self.starts = starts
        self.ends = ends

    def __len__(self) -> int:
        return len(self.starts)

    def before(self, places: Any) -> Any:
        """Return how many tokens end at or before a place, or each of several.

        A token that holds the white space before it counts with what follows.
        """
        return np.searchsorted(self.ends, places, "right")

    def count(self, start: int, end: int) -> int:
        """Return how many tokens lie from ``start`` up to ``end``: those of that part, or very nearly."""
        return int(self.before(end) - self.before(start))


class TokenCounter:
    """Measures texts by a model's own tokenizer.

    ``length`` is what the model reads of a text beside ``frame`` special tokens and tokens of its prompt.
    """

    def __init__(self, tokenizer: Tokenizer, frame: int | None = None) -> None:
        self._backend = tokenizer.backend
        used = len(tokenizer.prefix) + len(tokenizer.suffix) if frame is None else frame
        self.length = tokenizer.max_length - used
        self.digest = hashlib.sha256(f"{tokenizer.digest} {self.length}".encode()).hexdigest()

    def count(self, text: str) -> int:
        """Return how many tokens a text has, without special ones."""
        return len(self._backend.encode(text, add_special_tokens=False).ids)

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, without special ones."""
        run = getattr(self._backend, "encode_batch_fast", self._backend.encode_batch)
        found: list[int] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            encodings: Any = run(list(texts[start : start + _TEXTS_AT_ONCE]), add_special_tokens=False)
            found += [len(encoding.ids) for encoding in encodings]
        return found

    def measure(self, text: str) -> TokenOffsets:
        """Return where the tokens of a text lie. Long texts are measured in parts, cut at ends of lines."""
        found = [np.empty((0, 2), np.int64)]
        for start, part in _parts(text):
            offsets = self._backend.encode(part, add_special_tokens=False).offsets
            found.append(np.array(offsets, np.int64).reshape(-1, 2) + start)
        both = np.concatenate(found)
        both = both[both[:, 1] > both[:, 0]]
        # A search needs them in order, which no tokenizer promises.
        return TokenOffsets(np.maximum.accumulate(both[:, 0]), np.maximum.accumulate(both[:, 1]))


#: Characters tokenised at once: the library takes some 150 bytes for each.
_AT_ONCE = 2**18
_TEXTS_AT_ONCE = 256


def _parts(text: str) -> list[tuple[int, str]]:
    parts, start = [], 0
    while start < len(text):
        end = start + _AT_ONCE
        if end < len(text):
            at = max(text.rfind("\n", start, end), text.rfind(" ", start, end))
            end = at if at > start else end
        parts.append((start, text[start:end]))
        start = end
    return parts
