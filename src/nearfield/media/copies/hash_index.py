"""`PictureHashIndex`: hashes of many pictures, each compared with all others in blocks of bounded memory.

A flat index: the lowest 64 bits of each pair are compared, and all bits of the few pairs that are left. Bands and trees
save little at distances that find cropped copies.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.media.copies.grouping import CopyMatches
from nearfield.media.copies.picture_hash import COLOURS, PARTS, WORDS, PictureHash

#: Bits of 256 in which near-copies differ at most, as chosen by ``benchmarks/near_copies.py``.
MAX_DISTANCE = 40
#: The largest distance that makes sense: pictures that have nothing in common differ in some 128 bits.
LARGEST_DISTANCE = 96
#: Pairs that are compared at a time.
_BLOCK = 1 << 18
#: Pairs whose colours are compared at a time.
_COLOUR_BLOCK = 1 << 14
#: Mean difference of colour, of 255, up to which two pictures have the same; and that from grey of one without.
_SAME_COLOUR, _GREY = 10.0, 4.0
_NEUTRAL = 128
#: Pairs of parts that are compared: the whole of each with the whole and all parts of the other.
_PAIRS = [(0, part) for part in range(PARTS)] + [(part, 0) for part in range(1, PARTS)]
_FIRST_SIZE = 1024
#: Share of the distance that the lowest bits may have.
_LOW_SHARE = 0.3


class PictureHashIndex:
    """Hashes of pictures, numbered from 0 in the order in which they are added; some 550 bytes for each.

    Args:
        max_distance: bits of 256 in which near-copies differ at most.

    Raises:
        InputError: the distance is no whole number from 0 to ``LARGEST_DISTANCE``.
    """

    def __init__(self, max_distance: int = MAX_DISTANCE) -> None:
        if isinstance(max_distance, bool) or not isinstance(max_distance, int):
            raise InputError(f"max_distance must be a whole number, and is {max_distance!r}.", param="max_distance")
        if not 0 <= max_distance <= LARGEST_DISTANCE:
            raise InputError(
                f"max_distance must be from 0 to {LARGEST_DISTANCE} of 256 bits, and is {max_distance}.",
                param="max_distance",
            )
        self.max_distance = max_distance
        #: Bits of the lowest 64. They vary less than the others, so that this misses hardly any copy.
        self._max_low = round(max_distance * _LOW_SHARE)
        self._count = 0
        self._words = np.empty((_FIRST_SIZE, PARTS, WORDS), np.uint64)
        self._colours = np.empty((_FIRST_SIZE, COLOURS * COLOURS, 3), np.uint8)
        self._flat = np.empty(_FIRST_SIZE, np.bool_)

    def __len__(self) -> int:
        return self._count

    def add(self, value: PictureHash) -> int:
        """Add a picture, and return its number."""
        if self._count == len(self._flat):
            self._grow()
        number = self._count
        self._words[number] = value.words
        self._colours[number] = value.colours.reshape(-1, 3)
        self._flat[number] = value.is_flat
        self._count += 1
        return number

    def remove(self, number: int) -> None:
        """Leave a picture out of all later searches; its number is not used again."""
        self._flat[number] = True

    def nearest(self, value: PictureHash) -> tuple[int, int] | None:
        """Return number and distance of the nearest picture within the distance, the first of several; or None."""
        matches = self._compare(value.words[None], value.colours.reshape(1, -1, 3), np.array([value.is_flat]))
        if not len(matches.numbers):
            return None
        place = np.lexsort((matches.numbers, matches.values))[0]
        return int(matches.numbers[place]), int(matches.values[place])

    def search(self, numbers: Array, others: Array) -> Iterator[CopyMatches]:
        """Yield the near-copies of pictures of the index among others, in blocks; both are numbers, int64 [n].

        Values are distances in bits. A picture is no copy of itself.
        """
        size = max(1, _BLOCK // max(1, len(others)))
        for start in range(0, len(numbers), size):
            part = numbers[start : start + size]
            matches = self._compare(self._words[part], self._colours[part], self._flat[part], others)
            other = part[matches.rows] != matches.numbers
            yield CopyMatches(matches.rows[other] + start, matches.numbers[other], matches.values[other])

    def _grow(self) -> None:
        self._words = _doubled(self._words)
        self._colours = _doubled(self._colours)
        self._flat = _doubled(self._flat)

    def _compare(self, words: Array, colours: Array, flat: Array, others: Array | None = None) -> CopyMatches:
        """Return the matches of some pictures among others, or among all."""
        chosen = np.arange(self._count) if others is None else others
        chosen = chosen[~self._flat[chosen]]
        step = max(1, _BLOCK // max(1, len(words)))
        parts = [self._compare_block(words, chosen[at : at + step]) for at in range(0, len(chosen), step)]
        if not parts:
            return CopyMatches(*(np.empty(0, np.int64) for _ in range(3)))
        rows, numbers, distances = (np.concatenate(column) for column in zip(*parts, strict=True))
        alike = ~flat[rows]
        for at in range(0, len(rows), _COLOUR_BLOCK):
            part = slice(at, at + _COLOUR_BLOCK)
            alike[part] &= _have_same_colours(colours[rows[part]], self._colours[numbers[part]])
        return CopyMatches(rows[alike], numbers[alike], distances[alike])

    def _compare_block(self, words: Array, numbers: Array) -> tuple[Array, Array, Array]:
        """Return row, number and distance of the pairs within the distance."""
        others = self._words[numbers]
        near = np.zeros((len(words), len(numbers)), np.bool_)
        for left, right in _PAIRS:
            near |= _count_bits(words[:, None, left, 0] ^ others[None, :, right, 0]) <= self._max_low
        rows, columns = np.nonzero(near)
        distances = np.full(len(rows), 8 * 8 * WORDS, np.int64)
        for left, right in _PAIRS:
            bits = _count_bits(words[rows, left] ^ others[columns, right]).sum(1, dtype=np.int64)
            distances = np.minimum(distances, bits)
        within = distances <= self.max_distance
        return rows[within], numbers[columns[within]], distances[within]


def _have_same_colours(colours: Array, others: Array) -> Array:
    """Return whether pictures have the same colours, or one of each pair has none, bool [n]."""
    chroma, other = (part[:, :, 1:].astype(np.int16) for part in (colours, others))
    same = np.abs(chroma - other).mean((1, 2)) <= _SAME_COLOUR
    grey = [np.abs(part - _NEUTRAL).mean((1, 2)) <= _GREY for part in (chroma, other)]
    return same | grey[0] | grey[1]


def _count_bits(words: Array) -> Array:
    """Return the number of bits that are 1 in each word."""
    if hasattr(np, "bitwise_count"):  # NumPy 2
        return np.bitwise_count(words)
    counts = _BITS_OF[np.ascontiguousarray(words).view(np.uint16)]
    return counts.reshape(*words.shape, 4).sum(-1, dtype=np.uint8)


_BITS_OF = np.array([number.bit_count() for number in range(1 << 16)], np.uint8)


def _doubled(array: Array) -> Array:
    return np.concatenate([array, np.empty_like(array)])
