"""Read the start or the end of a text that is far longer than the model reads, with the ids of the whole text.

The part that is read grows until it has enough tokens beyond the 512 characters next to the cut: those before them are
the tokens of the whole text, since a token depends on the characters near it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

#: Characters of a text that is tokenised whole: at least, for each token of the limit, at most.
_MIN_WHOLE, _WHOLE_PER_TOKEN, _MAX_WHOLE = 2**16, 64, 2**19
#: Characters given to the tokenizer in one call: it takes some 150 bytes for each.
_CHARACTERS_PER_CALL = 2**20
#: Characters next to a cut whose tokens the cut may have changed, and tokens that it may add to theirs.
_CUT_CONTEXT, _CUT_TOKENS = 512, 16
#: Characters that are read at either end of a text, at most: a megabyte without a token, or of one word, is no prose.
_MAX_READ = 2**20

#: Tokenises texts: ``encode_batch`` of a tokenizer or its fast form.
EncodeBatch = Callable[..., Sequence[Any]]


def whole_size(limit: int) -> int:
    """Return the number of characters up to which a text is tokenised whole."""
    return min(max(_MIN_WHOLE, _WHOLE_PER_TOKEN * limit), _MAX_WHOLE)


def characters_read(characters: int, count: int, limit: int) -> int:
    """Return how many characters of a text were read to get ``count`` ids of at most ``limit``."""
    whole = whole_size(limit)
    return min(characters, whole if count >= limit else _MAX_READ)


def batches(inputs: Sequence[str], size: int | None = None) -> Iterator[list[str]]:
    """Group texts by their characters; a text longer than ``size`` is a group by itself."""
    size = _MAX_WHOLE if size is None else size
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


def read_start(encode: EncodeBatch, text: str, max_tokens: int) -> tuple[Any, int]:
    """Tokenise the start of a text, without special tokens; return the encoding, and the characters that were read.

    Unless all of the text is read, or a megabyte of it, the encoding has more than ``max_tokens`` tokens.
    """
    for size in _sizes(len(text), max_tokens):
        encoding, near_cut = encode([text[:size], text[size - _CUT_CONTEXT : size]], add_special_tokens=False)
        if len(encoding.ids) - len(near_cut.ids) - _CUT_TOKENS > max_tokens:
            return encoding, size
    if len(text) > _MAX_READ:
        return encoding, size
    return encode([text], add_special_tokens=False)[0], len(text)


def read_end(encode: EncodeBatch, text: str, max_tokens: int) -> list[int]:
    """Return the ids of the end of a text, without special tokens: its last ``max_tokens`` unless it has fewer."""
    for size in _sizes(len(text), max_tokens):
        start = len(text) - size
        encoding, near_cut = encode([text[start:], text[start : start + _CUT_CONTEXT]], add_special_tokens=False)
        if len(encoding.ids) - len(near_cut.ids) - _CUT_TOKENS > max_tokens:
            break
    else:
        if len(text) <= _MAX_READ:
            encoding = encode([text], add_special_tokens=False)[0]
    ids: list[int] = encoding.ids[-max_tokens:]
    return ids


def estimate_count(count: int, read: int, characters: int) -> int:
    """Return the estimated number of tokens of a text, from those of the part that was read."""
    return count if read >= characters else max(count + 1, count * characters // read)


def _sizes(characters: int, max_tokens: int) -> Iterator[int]:
    """Yield numbers of characters to try, each four times the one before, and less than all of them."""
    size = whole_size(max_tokens)
    while size < characters and size < _MAX_READ:
        yield size
        size *= 4
    if characters > _MAX_READ:
        yield _MAX_READ
