"""Near copies: texts whose sets of character 5-grams have a Jaccard similarity of at least 0.8.

MinHash with locality-sensitive hashing (the library datasketch) proposes pairs; each is then compared exactly, so that
no pair below the threshold is reported. Of pairs at the threshold, fewer than one in a million are missed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import MissingExtra
from nearfield.training.overlap.normalised import normalise

THRESHOLD = 0.8
_GRAM = 5
#: 32 bands of 4 values: a pair of similarity s is missed with probability (1 - s^4)^32, at 0.8 that is 5e-8.
_BANDS, _ROWS = 32, 4
#: Odd numbers by which the values of a band are multiplied, so that their sum stands for all of them.
_MULTIPLIERS = np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93], np.uint64)
#: More grams than these are not read: the first 20,000 characters say enough of two texts.
_MAX_CHARACTERS = 20_000


def near_copies(left: Sequence[str], right: Sequence[str]) -> Iterator[tuple[int, int, float]]:
    """Yield pairs of positions (left, right) with their similarity of at least ``THRESHOLD``.

    Time grows with the number of texts and of pairs that are found; memory with the texts of ``right``, about 2 KB
    each.

    Raises:
        MissingExtra: datasketch is not installed.
    """
    right_grams = [grams(text) for text in right]
    index = _build_index(right_grams)
    for number, text in enumerate(left):
        left_grams = grams(text)
        for other in sorted(index.query(_signature(left_grams))):
            similarity = jaccard(left_grams, right_grams[other])
            if similarity >= THRESHOLD:
                yield number, other, similarity


def grams(text: str) -> frozenset[bytes]:
    """Return the set of character 5-grams of a normalised text; a shorter text is its only gram."""
    plain = normalise(text[:_MAX_CHARACTERS])
    count = max(1, len(plain) - _GRAM + 1)
    return frozenset(plain[start : start + _GRAM].encode() for start in range(count))


def jaccard(left: frozenset[bytes], right: frozenset[bytes]) -> float:
    """Return the share of the grams of two texts that both have."""
    return len(left & right) / len(left | right)


def band_values(text: frozenset[bytes]) -> Array:
    """Return the value of each band of a text's grams, uint64 [32]: near copies share one, others hardly ever.

    Raises:
        MissingExtra: datasketch is not installed.
    """
    values = np.asarray(_signature(text).hashvalues, np.uint64).reshape(_BANDS, _ROWS)
    return np.asarray((values * _MULTIPLIERS).sum(axis=1, dtype=np.uint64))


def _build_index(texts: Sequence[frozenset[bytes]]) -> Any:
    datasketch = _datasketch()
    index = datasketch.MinHashLSH(num_perm=_BANDS * _ROWS, params=(_BANDS, _ROWS))
    with index.insertion_session() as session:
        for number, text in enumerate(texts):
            session.insert(number, _signature(text))
    return index


def _signature(text: frozenset[bytes]) -> Any:
    signature = _empty_signature().copy()
    signature.update_batch(list(text))
    return signature


@cache
def _empty_signature() -> Any:
    """Return the signature of no gram: its permutations take longer to draw than those of a text to apply."""
    return _datasketch().MinHash(num_perm=_BANDS * _ROWS, seed=1, hashfunc=zlib.crc32)


def _datasketch() -> Any:
    try:
        import datasketch
    except ImportError:
        raise MissingExtra("Near copies are found by datasketch: pip install 'nearfield[jobs]'") from None
    return datasketch
