"""Groups of copies: one that stays, and those that are near it. A copy of a copy that is far from it is in no group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from nearfield.arrays import Array

#: Items that are compared with all others before those that are copies of them are left out.
_BLOCK = 64


@dataclass(frozen=True)
class CopyMatches:
    """Pairs that may be copies.

    Args:
        rows: int64 [n], places among the numbers that were compared.
        numbers: int64 [n], the other items.
        values: [n], how near they are: bits that differ, or the cosine.
    """

    rows: Array
    numbers: Array
    values: Array


class CopyIndex(Protocol):
    """Items with numbers from 0 on, which are compared in one way."""

    def search(self, numbers: Array, others: Array) -> Iterator[CopyMatches]:
        """Yield the pairs of items and others that are near, in blocks of items; both are numbers, int64 [n]."""


@dataclass(frozen=True, slots=True)
class CopyLink:
    """A copy: of which item, by which measure, and how near it is."""

    original: int
    measure: str
    value: float


def group_copies(order: Array, indexes: Mapping[str, CopyIndex]) -> dict[int, CopyLink]:
    """Return the copies among items, by their numbers.

    Each item in order that is no copy takes all later ones near it as its copies, by the first measure that finds them.

    Args:
        order: numbers of items, int64 [n]; the best is first.
        indexes: measures by name.
    """
    links: dict[int, CopyLink] = {}
    rank = np.empty(int(order.max(initial=-1)) + 1, np.int64)
    rank[order] = np.arange(len(order))
    is_copy = np.zeros(len(rank), np.bool_)
    for start in range(0, len(order), _BLOCK):
        block, rest = order[start : start + _BLOCK], order[start:]
        block, rest = block[~is_copy[block]], rest[~is_copy[rest]]
        matches = {name: _join(index.search(block, rest)) for name, index in indexes.items()}
        # Row by row through all measures: what has copies must not become a copy itself.
        for row, original in enumerate(block.tolist()):
            for name, pairs in matches.items() if not is_copy[original] else ():
                _add_links(links, is_copy, rank, CopyLink(original, name, 0.0), pairs, row)
    return links


def _join(parts: Iterator[CopyMatches]) -> CopyMatches:
    columns = [(part.rows, part.numbers, part.values) for part in parts if len(part.rows)]
    if not columns:
        return CopyMatches(*(np.empty(0, np.int64) for _ in range(3)))
    return CopyMatches(*map(np.concatenate, zip(*columns, strict=True)))


def _add_links(
    links: dict[int, CopyLink], is_copy: Array, rank: Array, link: CopyLink, matches: CopyMatches, row: int
) -> None:
    """Add the copies of the original of a link, which is one row of the matches."""
    place = matches.rows == row
    numbers, values = matches.numbers[place], matches.values[place]
    new = ~is_copy[numbers] & (rank[numbers] > rank[link.original])
    is_copy[numbers[new]] = True
    for number, value in zip(numbers[new].tolist(), values[new].tolist(), strict=True):
        links[number] = replace(link, value=value)
