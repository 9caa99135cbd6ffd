"""Rewordings: texts that a model places close together, and whose rare words and numbers are the same.

A model alone takes other texts on the same subject for rewordings: "the flight to Rome on 3 May" and "the
flight to Rome on 9 May" are closer to each other than many rewordings are. Words alone cannot either. A pair counts if
both agree.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from nearfield.arrays import Array
from nearfield.training.overlap.normalised import normalise

#: Cosine from which two texts are one, with whatever model: copies that were reworded, and translations where the model
#: reads both languages.
SAME_VECTOR = 0.98
#: Cosine from which two texts are compared by their words, and the share of the weight of the words that both have.
NEAR_VECTOR, SAME_WORDS = 0.9, 0.6
#: Texts that are compared by words for each text, the nearest first.
_NEAREST = 5
_BLOCK = 2048
_NUMBER = re.compile(r"\d+")
#: Letters by which words are compared: endings do not count.
_STEM = 5


class SharedWords:
    """Compares texts by their words, weighted by how rare they are in all texts (inverse document frequency)."""

    def __init__(self, texts: Iterable[str]) -> None:
        sets = [_stems(text) for text in texts]
        self._counts = Counter(stem for stems in sets for stem in stems)
        self._total = len(sets)

    def confirm(self, left: str, right: str) -> bool:
        """Return whether two texts have the same numbers, and most of the weight of their words in common."""
        if set(_NUMBER.findall(left)) != set(_NUMBER.findall(right)):
            return False
        first, second = _stems(left), _stems(right)
        return self._weight(first & second) >= SAME_WORDS * self._weight(first | second) > 0

    def _weight(self, stems: Iterable[str]) -> float:
        return sum(math.log1p(self._total / max(1, self._counts[stem])) for stem in stems)


def _stems(text: str) -> frozenset[str]:
    return frozenset(word[:_STEM] for word in normalise(text).split())


def rewordings(
    left: Sequence[str], right: Sequence[str], left_rows: Array, right_rows: Array
) -> Iterator[tuple[int, int, float]]:
    """Yield for each text of ``left`` the nearest text of ``right`` that says the same, with their cosine.

    Args:
        left, right: texts.
        left_rows, right_rows: their vectors, float32 [n, dimensions], of unit length.
    """
    if not len(right):
        return
    words = SharedWords([*left, *right])
    for start in range(0, len(left), _BLOCK):
        cosines = left_rows[start : start + _BLOCK] @ right_rows.T
        for row in np.flatnonzero(cosines.max(axis=1) >= NEAR_VECTOR):
            place = _same(cosines[row], left[start + int(row)], right, words)
            if place is not None:
                yield start + int(row), place, float(min(1.0, cosines[row, place]))


def _same(cosines: Array, text: str, others: Sequence[str], words: SharedWords) -> int | None:
    """Return the nearest text that says the same; None if there is none."""
    count = min(_NEAREST, len(cosines))
    nearest = np.argpartition(-cosines, count - 1)[:count]
    for place in map(int, nearest[np.argsort(-cosines[nearest], kind="stable")]):
        if cosines[place] < NEAR_VECTOR:
            return None
        if cosines[place] >= SAME_VECTOR or words.confirm(text, others[place]):
            return place
    return None
