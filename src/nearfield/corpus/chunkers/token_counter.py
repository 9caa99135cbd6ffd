"""Token counter: the number and positions of a text's tokens, by the model's own tokenizer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Protocol, cast

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer

#: Characters that are tokenized in one call: the library takes some 150 bytes for each.
_CHARACTERS_PER_CALL = 2**18
_TEXTS_PER_CALL = 256


class TokenOffsets:
    """The start and end of each token of a text, in characters; int64 [tokens], in order."""

    def __init__(self, starts: Array, ends: Array) -> None:
        self.starts = starts
        self.ends = ends

    def __len__(self) -> int:
        return len(self.starts)

    def before(self, positions: int | Array) -> Array:
        """Return the number of tokens that end at or before each position.

        A token that contains the white space before it counts with the text that follows.
        """
        return np.asarray(np.searchsorted(self.ends, positions, "right"))

    def count(self, start: int, end: int) -> int:
        """Return the number of tokens from ``start`` to ``end``, which nearly equals that of this part alone."""
        return int(self.before(end) - self.before(start))


class TokenCounter:
    """Counts tokens with a model's own tokenizer.

    ``length`` is the maximum number of a text's tokens that the model reads, besides ``frame`` tokens: special tokens
    and those of its prompt.
    """

    def __init__(self, tokenizer: Tokenizer, frame: int | None = None) -> None:
        self._backend = tokenizer.backend
        used = len(tokenizer.prefix) + len(tokenizer.suffix) if frame is None else frame
        self.length = tokenizer.max_length - used
        self.digest = hashlib.sha256(f"{tokenizer.digest} {self.length}".encode()).hexdigest()

    def count(self, text: str) -> int:
        """Return the number of tokens of a text, without special ones."""
        return len(self._backend.encode(text, add_special_tokens=False).ids)

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, without special ones."""
        encode = cast("_EncodeBatch", getattr(self._backend, "encode_batch_fast", self._backend.encode_batch))
        counts: list[int] = []
        for start in range(0, len(texts), _TEXTS_PER_CALL):
            encodings = encode(list(texts[start : start + _TEXTS_PER_CALL]), add_special_tokens=False)
            counts += [len(encoding.ids) for encoding in encodings]
        return counts

    def measure(self, text: str) -> TokenOffsets:
        """Return the positions of a text's tokens. Long texts are measured in parts that end with a line or a word."""
        parts = [np.empty((0, 2), np.int64)]
        for start, part in _parts(text):
            offsets = self._backend.encode(part, add_special_tokens=False).offsets
            parts.append(np.array(offsets, np.int64).reshape(-1, 2) + start)
        pairs = np.concatenate(parts)
        pairs = pairs[pairs[:, 1] > pairs[:, 0]]
        # The binary search needs them in order, which not every tokenizer guarantees.
        return TokenOffsets(np.maximum.accumulate(pairs[:, 0]), np.maximum.accumulate(pairs[:, 1]))


class WordCounter(TokenCounter):
    """Counts words, for collections whose models read no texts: their texts are searched by keywords alone."""

    def __init__(self, length: int = 512) -> None:
        self.length = length
        self.digest = hashlib.sha256(f"words {length}".encode()).hexdigest()

    def count(self, text: str) -> int:
        """Return the number of words of a text."""
        return len(text.split())

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Return the number of words of each text."""
        return [self.count(text) for text in texts]

    def measure(self, text: str) -> TokenOffsets:
        """Return the positions of a text's words."""
        places = [match.span() for match in re.finditer(r"\S+", text)]
        pairs = np.array(places, np.int64).reshape(-1, 2)
        return TokenOffsets(pairs[:, 0], pairs[:, 1])


class _Encoding(Protocol):
    ids: list[int]


class _EncodeBatch(Protocol):
    def __call__(self, texts: list[str], *, add_special_tokens: bool) -> Sequence[_Encoding]: ...


def _parts(text: str) -> list[tuple[int, str]]:
    parts, start = [], 0
    while start < len(text):
        end = start + _CHARACTERS_PER_CALL
        if end < len(text):
            at = max(text.rfind("\n", start, end), text.rfind(" ", start, end))
            end = at if at > start else end
        parts.append((start, text[start:end]))
        start = end
    return parts
