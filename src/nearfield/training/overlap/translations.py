"""Translations: texts of two sets that name the same things, whatever language they are written in.

Names and numbers survive translation. Words of Latin letters and numbers that occur in both sets are compared as
anchors, weighted by how rare they are (inverse document frequency): two texts that share most of the weight of their
anchors are one text in two languages. Rewordings within one language have too many letters in common to count. Short
texts have too few anchors; vectors of a model that reads both languages see those.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nearfield.training.overlap.near_copies import grams, jaccard

#: Measured on XQuAD (240 paragraphs) beside those of SQuAD: about half of the German and Spanish translations are
#: found, a third of the Russian, Chinese and Arabic ones, and no other pair.
THRESHOLD = 0.75
_FEWEST_SHARED = 6
#: Share of character 5-grams (Jaccard) above which two texts are in one language.
_MOST_LETTERS_SHARED = 0.2
_WORD = re.compile(r"[a-z0-9]+")
_SHORTEST_WORD = 4
_BLOCK = 1024
_MAX_CHARACTERS = 20_000


def translations(left: Sequence[str], right: Sequence[str]) -> Iterator[tuple[int, int, float]]:
    """Yield the nearest text of ``right`` for each text of ``left`` that it translates, with their similarity.

    The similarity is the cosine of the weighted anchors, and at least ``THRESHOLD``; at least six anchors are shared.
    """
    left_anchors, right_anchors = list(map(anchors, left)), list(map(anchors, right))
    weights = _weights(left_anchors, right_anchors)
    if not weights:
        return
    columns = {word: number for number, word in enumerate(weights)}
    values = np.array(list(weights.values()))
    matrix, other = _matrix(left_anchors, columns, values), _matrix(right_anchors, columns, values)
    for start in range(0, len(left), _BLOCK):
        for number, nearest, similarity in _nearest(matrix[start : start + _BLOCK], other, start):
            if jaccard(grams(left[number]), grams(right[nearest])) <= _MOST_LETTERS_SHARED:
                yield number, nearest, similarity


def anchors(text: str) -> frozenset[str]:
    """Return the numbers and the longer words in Latin letters of a text, without accents and in lower case."""
    letters = unicodedata.normalize("NFKD", text[:_MAX_CHARACTERS].casefold())
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return frozenset(word for word in _WORD.findall(plain) if len(word) >= _SHORTEST_WORD or word.isdigit())


def _weights(left: Sequence[frozenset[str]], right: Sequence[frozenset[str]]) -> Mapping[str, float]:
    """Return the weight of each anchor that occurs on both sides."""
    counts, others = (
        Counter(word for words in left for word in words),
        Counter(word for words in right for word in words),
    )
    total = len(left) + len(right)
    shared = {word: total / (counts[word] + others[word]) for word in counts if word in others}
    return {word: float(np.log(ratio)) for word, ratio in shared.items() if ratio > 1}


def _matrix(texts: Sequence[frozenset[str]], columns: Mapping[str, int], values: Any) -> Any:
    """Return one row of unit length for each text, as a sparse matrix."""
    from scipy import sparse

    places = [(row, columns[word]) for row, words in enumerate(texts) for word in words if word in columns]
    rows, numbers = (np.array([place[axis] for place in places], dtype=np.int64) for axis in (0, 1))
    squares = np.bincount(rows, values[numbers] ** 2, minlength=len(texts))
    unit = values[numbers] / np.sqrt(squares[rows])
    return sparse.csr_matrix((unit, (rows, numbers)), shape=(len(texts), len(columns)))


def _nearest(block: Any, other: Any, start: int) -> Iterator[tuple[int, int, float]]:
    similarities, shared = (block @ other.T).tocsr(), (block.sign() @ other.sign().T).tocsr()
    similarities.sort_indices()
    shared.sort_indices()
    enough = similarities.multiply(shared >= _FEWEST_SHARED).tocsr()
    for row in range(enough.shape[0]):
        values = enough.data[enough.indptr[row] : enough.indptr[row + 1]]
        if values.size and values.max() >= THRESHOLD:
            place = enough.indptr[row] + int(values.argmax())
            yield start + row, int(enough.indices[place]), float(min(1.0, values.max()))
