"""`PictureHashIndex`: hashes of many pictures, each compared with all others in blocks of bounded memory.

A flat index: the lowest 64 bits of each pair are compared, those of parts where these are not too far, and all bits of
the few pairs that are left. Bands and trees save little at distances that find cropped copies.
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
#: Pairs that are compared at a time, so that they fit into a cache of the CPU; and pairs of which matches are stored.
_BLOCK, _MATCH_BLOCK = 1 << 16, 1 << 22
#: Pictures that are compared with all others at a time.
_ROWS = 64
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
#: How many times as many of them may differ between the wholes of two pictures, as between a whole and a part.
_WHOLE_SHARE = 2


class PictureHashIndex:
    """Hashes of pictures, numbered from 0 in the order in which they are added; some 630 bytes for each.

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
        #: The first word of each part again, one after the other: the search is bound by reading them.
        self._lows = np.empty((PARTS, _FIRST_SIZE), np.uint64)
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
        self._lows[:, number] = value.words[:, 0]
        self._colours[number] = value.colours.reshape(-1, 3)
        self._flat[number] = value.is_flat
        self._count += 1
        return number

    def remove(self, number: int) -> None:
        """Leave a picture out of all later searches; its number is not used again."""
        self._flat[number] = True

    def nearest(self, value: PictureHash) -> tuple[int, int] | None:
        """Return number and distance of the nearest picture within the distance, the first of several; or None."""
        numbers, lows = np.arange(self._count), self._lows[:, : self._count]
        colours, flat = value.colours.reshape(1, -1, 3), np.array([value.is_flat])
        matches = self._compare(value.words[None], colours, flat, numbers, lows)
        if not len(matches.numbers):
            return None
        place = np.lexsort((matches.numbers, matches.values))[0]
        return int(matches.numbers[place]), int(matches.values[place])

    def search(self, numbers: Array, others: Array) -> Iterator[CopyMatches]:
        """Yield the near-copies of pictures of the index among others, in blocks; both are numbers, int64 [n].

        Values are distances in bits. A picture is no copy of itself.
        """
        chosen = others[~self._flat[others]]
        lows = self._lows[:, chosen]
        size = max(1, min(_ROWS, _MATCH_BLOCK // max(1, len(chosen))))
        for start in range(0, len(numbers), size):
            part = numbers[start : start + size]
            matches = self._compare(self._words[part], self._colours[part], self._flat[part], chosen, lows)
            other = part[matches.rows] != matches.numbers
            yield CopyMatches(matches.rows[other] + start, matches.numbers[other], matches.values[other])

    def _grow(self) -> None:
        self._words = np.concatenate([self._words, np.empty_like(self._words)])
        self._lows = np.concatenate([self._lows, np.empty_like(self._lows)], axis=1)
        self._colours = np.concatenate([self._colours, np.empty_like(self._colours)])
        self._flat = np.concatenate([self._flat, np.empty_like(self._flat)])

    def _compare(self, words: Array, colours: Array, flat: Array, numbers: Array, lows: Array) -> CopyMatches:
        """Return the matches of pictures among others, whose first words are uint64 [PARTS, n]."""
        step = max(1, _BLOCK // max(1, len(words)))
        parts = [
            self._compare_block(words, numbers[at : at + step], lows[:, at : at + step])
            for at in range(0, len(numbers), step)
        ]
        if not parts:
            return CopyMatches(*(np.empty(0, np.int64) for _ in range(3)))
        rows, others, distances = (np.concatenate(column) for column in zip(*parts, strict=True))
        alike = ~flat[rows] & ~self._flat[others]
        for at in range(0, len(rows), _COLOUR_BLOCK):
            part = slice(at, at + _COLOUR_BLOCK)
            alike[part] &= _have_same_colours(colours[rows[part]], self._colours[others[part]])
        return CopyMatches(rows[alike], others[alike], distances[alike])

    def _compare_block(self, words: Array, numbers: Array, lows: Array) -> tuple[Array, Array, Array]:
        """Return row, number and distance of the pairs within the distance."""
        rows, columns = np.nonzero(_count_bits(words[:, 0, 0, None] ^ lows[0]) <= _WHOLE_SHARE * self._max_low)
        near = np.zeros(len(rows), np.bool_)
        for left, right in _PAIRS:
            near |= _count_bits(words[rows, left, 0] ^ lows[right, columns]) <= self._max_low
        rows, others = rows[near], numbers[columns[near]]
        distances = np.full(len(rows), 8 * 8 * WORDS, np.int64)
        for left, right in _PAIRS:
            bits = _count_bits(words[rows, left] ^ self._words[others, right]).sum(1, dtype=np.int64)
            distances = np.minimum(distances, bits)
        within = distances <= self.max_distance
        return rows[within], others[within], distances[within]


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
