"""Inputs: what callers give to be encoded, told apart, cut into windows, and over-long texts into pieces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.errors import InputError

Text = str | Sequence[int]
#: Texts in the first window of a long job and in the largest: the first keeps lanes from waiting for the tokenizer.
FIRST_WINDOW, LARGEST_WINDOW = 128, 4096
#: Characters at which a window closes, whatever its count, so that memory stays bounded.
WINDOW_CHARACTERS = 4_000_000
#: Sentences tokenised at once.
_AT_ONCE = 1024
#: Where a sentence may end: after its mark and the white space that follows, or after a line.
_SENTENCE = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])|\n+")


def parse_inputs(texts: Any) -> tuple[bool, Iterable[Any], int | None]:
    """Return whether it is one input, the inputs, and their number where known.

    Raises:
        InputError: it is neither a text, nor a list of texts or token ids.
    """
    if isinstance(texts, str):
        return True, [texts], 1
    if isinstance(texts, (bytes, dict)) or not isinstance(texts, Iterable):
        raise InputError(f"Give a text, a list of texts or token ids, not {type(texts).__name__}.", param="input")
    if not isinstance(texts, Sequence) and not isinstance(texts, np.ndarray):
        return False, texts, None
    if len(texts) and all(isinstance(item, (int, np.integer)) and not isinstance(item, bool) for item in texts):
        return True, [list(texts)], 1
    return False, texts, len(texts)


def windows(inputs: Iterable[Text], largest: int) -> Iterator[list[Text]]:
    """Cut into windows that grow from small to ``largest``, each bounded in characters too."""
    if largest < 1:
        raise InputError(f"window must be at least 1, not {largest}.", param="window")
    size, stream = min(FIRST_WINDOW, largest), iter(inputs)
    while window := list(_until(islice(stream, size), WINDOW_CHARACTERS)):
        yield window
        size = min(size * 2, largest)


def _until(inputs: Iterator[Text], characters: int) -> Iterator[Text]:
    for item in inputs:
        yield item
        characters -= len(item) if isinstance(item, (str, list, tuple, np.ndarray)) else 0
        if characters <= 0:
            return


def split_long_text(text: str, tokenizer: Tokenizer, room: int) -> list[str]:
    """Cut a text into pieces of at most ``room`` tokens, at sentence ends where that is possible.

    A sentence that is longer is cut at token boundaries. Nothing is lost: the pieces join to the text, but for the
    white space between sentences.
    """
    found: list[list[str]] = []
    used = room
    for part, size in _parts(text, tokenizer, room):
        if used + size > room:
            found.append([])
            used = 0
        found[-1].append(part)
        used += size
    return [" ".join(parts) for parts in found]


def _parts(text: str, tokenizer: Tokenizer, room: int) -> Iterator[tuple[str, int]]:
    """Yield sentences, and parts of those that are too long, with their numbers of tokens."""
    sentences = [part for part in _SENTENCE.split(text) if part.strip()] or [text]
    for start in range(0, len(sentences), _AT_ONCE):
        group = sentences[start : start + _AT_ONCE]
        encodings: Any = tokenizer.backend.encode_batch(group, add_special_tokens=False)
        for sentence, encoding in zip(group, encodings, strict=True):
            size = len(encoding.ids)
            yield from _hard(sentence, encoding, room) if size > room else [(sentence, size)]


def _hard(sentence: str, encoding: Any, room: int) -> list[tuple[str, int]]:
    """Cut a sentence by the places of its tokens."""
    starts = [encoding.offsets[at][0] for at in range(0, len(encoding.ids), room)]
    ends = [*starts[1:], len(sentence)]
    counts = [min(room, len(encoding.ids) - at) for at in range(0, len(encoding.ids), room)]
    return [(sentence[start:end], count) for start, end, count in zip(starts, ends, counts, strict=True)]


def chunk_token_spans(
    tokenizer: Tokenizer, chunks: Sequence[str], prompt: str
) -> tuple[list[int], list[tuple[int, int]]]:
    """Tokenise consecutive chunks as one text; return its ids, and the first and last place of each chunk's tokens.

    A token that reaches over a border belongs to the chunk in which it begins; special tokens and prompt to none.

    Raises:
        InputError: a chunk has no token of its own.
    """
    encoding = tokenizer.backend.encode(prompt + "".join(chunks), add_special_tokens=False)
    ends = np.cumsum([len(prompt), *map(len, chunks)])
    starts = np.array([start for start, _ in encoding.offsets] or [0])
    # A token's leading space may lie before the border: what counts is where its text begins.
    places = np.searchsorted(starts, ends, "left") + len(tokenizer.prefix)
    found = list(zip(places[:-1].tolist(), places[1:].tolist(), strict=True))
    empty = next((number for number, (start, stop) in enumerate(found) if start >= stop), None)
    if empty is not None:
        raise InputError(
            f"Chunk {empty} has no token of its own: {chunks[empty][:40]!r}. Join it to another.", param="input"
        )
    return [*tokenizer.prefix, *encoding.ids, *tokenizer.suffix], found
