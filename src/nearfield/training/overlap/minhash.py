"""MinHash of character 5-grams (Broder 1997), in blocks of texts: near copies share the value of a band of hashes.

32 bands of 4 hashes: texts whose sets have a Jaccard similarity of s share no band with probability (1 - s^4)^32, which
is 5e-8 at 0.8. datasketch computes the same for one text at a time, from a list of its grams in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from nearfield.arrays import Array
from nearfield.hardware import usable_cores
from nearfield.training.overlap.normalised import normalise

#: Characters of a gram.
GRAM = 5
BANDS, _ROWS = 32, 4
#: More characters of a text are not read: the first 20,000 say enough of two texts.
_MAX_CHARACTERS = 20_000
#: Characters of a block of texts: its arrays stay in the second cache of a core.
_BLOCK_CHARACTERS = 32_768
_RANDOM = np.random.default_rng(1)
#: Random numbers: factors of the characters of a gram; of each hash, what is combined with a gram's value and its odd
#: factor; and odd factors of the hashes of a band, so that their sum stands for all of them.
_CHARACTERS = _RANDOM.integers(0, 2**64, GRAM, np.uint64) | np.uint64(1)
_MASKS = _RANDOM.integers(0, 2**32, BANDS * _ROWS, np.uint32)
_FACTORS = _RANDOM.integers(0, 2**32, BANDS * _ROWS, np.uint32) | np.uint32(1)
_BAND_FACTORS = _RANDOM.integers(0, 2**64, _ROWS, np.uint64) | np.uint64(1)


def comparable_form(text: str) -> str:
    """Return the part of a text that is compared, in its normalised form."""
    return normalise(text[:_MAX_CHARACTERS])


def band_values(texts: Sequence[str], on_block: Callable[[int], None] = lambda _: None) -> Array:
    """Return the value of each band of the texts, uint64 [n, 32]: near copies share one, others hardly ever.

    ``on_block`` is called with the number of texts of each block that is done.
    """
    bands = np.empty((len(texts), BANDS), np.uint64)
    with ThreadPoolExecutor(usable_cores(), thread_name_prefix="nearfield-minhash") as pool:
        for start, values in pool.map(lambda part: (part.start, _block_bands(texts[part])), _blocks(texts)):
            bands[start : start + len(values)] = values
            on_block(len(values))
    return bands


def _blocks(texts: Sequence[str]) -> Iterator[slice]:
    """Yield parts of about equal size, of at least one text."""
    sizes = np.minimum(np.fromiter(map(len, texts), np.int64, len(texts)), _MAX_CHARACTERS) + GRAM
    block = np.cumsum(sizes) // _BLOCK_CHARACTERS
    starts = np.flatnonzero(np.diff(block, prepend=-1)).tolist()
    return (slice(first, last) for first, last in pairwise([*starts, len(texts)]))


def _block_bands(texts: Sequence[str]) -> Array:
    values, starts = _gram_values([comparable_form(text) for text in texts])
    hashes = np.empty((len(_MASKS), len(starts)), np.uint32)
    mixed = np.empty_like(values)
    for row, mask, factor in zip(hashes, _MASKS, _FACTORS, strict=True):
        np.bitwise_xor(values, mask, out=mixed)
        np.multiply(mixed, factor, out=mixed)
        np.minimum.reduceat(mixed, starts, out=row)
    by_band = hashes.T.reshape(len(starts), BANDS, _ROWS).astype(np.uint64)
    return np.asarray((by_band * _BAND_FACTORS).sum(axis=2, dtype=np.uint64))


def _gram_values(texts: Sequence[str]) -> tuple[Array, Array]:
    """Return a value for each gram of some texts, uint32, and the place where those of each text begin.

    A text shorter than a gram is filled up with zeros, and has one.
    """
    padded = [text.ljust(GRAM, "\0") for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    sizes = np.fromiter(map(len, padded), np.int64, len(padded))
    grams = sizes - GRAM + 1
    ends = np.cumsum(sizes)
    is_start = np.ones(len(codes), np.bool_)
    is_start[(ends[:, None] - np.arange(1, GRAM)).ravel()] = False
    count = len(codes) - GRAM + 1
    sums = np.zeros(count, np.uint64)
    for place, factor in enumerate(_CHARACTERS):
        sums += codes[place : place + count] * factor
    return _mix(sums[is_start[:count]]), np.cumsum(grams) - grams


def _mix(values: Array) -> Array:
    """Return 32 bits that depend on all bits of each value (the finaliser of MurmurHash3, in part)."""
    mixed = values ^ (values >> np.uint64(33))
    mixed = mixed * np.uint64(0xFF51AFD7ED558CCD)
    return np.asarray((mixed ^ (mixed >> np.uint64(33))) >> np.uint64(16), np.uint64).astype(np.uint32)
