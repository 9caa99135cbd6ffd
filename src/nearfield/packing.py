"""Sequence packing: place inputs of different lengths into rows of one length, with little padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nearfield.arrays import Array

#: Attention is about 10% faster a token if the rows' length is a multiple of 16 (benchmarks/README.md).
STEP = 16
#: Share of a token's cost that each token of the row's length adds.
_GROWTH = 1 / 1500
#: Factor of the cost of a length that is not a multiple of 16.
_ODD = 1.1
#: Inputs of up to this length share rows of one of these widths; longer ones gain nothing by it.
SHORT, _WIDTHS = 64, (32, 48, 64, 96, 128)


@dataclass(frozen=True)
class RowLayout:
    """The place of each input: its ``row``, its ``slot`` among the row's inputs, and its first column ``start``.

    ``width`` is the length of a row, ``rows`` the number of rows, and ``slots`` the maximum number of inputs of a row.
    """

    row: Array
    slot: Array
    start: Array
    width: int
    rows: int
    slots: int


def layout(lengths: Sequence[int], *, shared: bool = True, padded: bool = True) -> RowLayout:
    """Return the cheapest layout of inputs of some lengths; with ``shared=False``, one row for each input.

    With ``padded=False``, rows are as long as the longest input, whatever that costs.
    """
    max_length = max(lengths)
    if not padded:
        return _separate_rows(len(lengths), max_length)
    rounded = -(-max_length // STEP) * STEP
    separate = _separate_rows(len(lengths), rounded if rounded <= max_length * _ODD else max_length)
    if not shared or len(lengths) == 1 or max_length > SHORT:
        return separate
    return _cheapest(lengths, [width for width in _WIDTHS if width >= max_length], separate)


def _cheapest(lengths: Sequence[int], widths: Sequence[int], best: RowLayout) -> RowLayout:
    """Return the cheapest layout in rows of one of some widths, or ``best`` if none is cheaper."""
    total, cost = sum(lengths), _cost(best.rows, best.width)
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    for width in widths:
        if _cost(-(-total // width), width) < cost:  # rows without any padding
            plan = _first_fit(lengths, order, width)
            own_cost = _cost(plan.rows, width)
            best, cost = (plan, own_cost) if own_cost < cost else (best, cost)
    return best


def _separate_rows(count: int, width: int) -> RowLayout:
    return RowLayout(np.arange(count), np.zeros(count, np.int64), np.zeros(count, np.int64), width, count, 1)


def _cost(rows: int, width: int) -> float:
    """Return the estimated cost of rows of a width, in tokens of a row of 16."""
    odd = _ODD if width % STEP else 1.0
    return rows * width * (1 + width * _GROWTH) * odd


def _first_fit(lengths: Sequence[int], order: Sequence[int], width: int) -> RowLayout:
    """Place inputs in ``order``, the longest first, each into the first row that has space."""
    count, shortest = len(lengths), lengths[order[-1]]
    row, slot, start = [0] * count, [0] * count, [0] * count
    filled: list[int] = []
    counts: list[int] = []
    first = place = previous = 0  # rows before the first have no space for even the shortest input
    for index in order:
        length = lengths[index]
        if length != previous:  # what had no space for an input has none for the next one of its length
            place, previous = first, length
        while place < len(filled) and filled[place] + length > width:
            place += 1
        if place == len(filled):
            filled.append(0)
            counts.append(0)
        row[index], slot[index], start[index] = place, counts[place], filled[place]
        filled[place] += length
        counts[place] += 1
        while first < len(filled) and filled[first] + shortest > width:
            first += 1
    # A power of two: fewer shapes, and so fewer compiled kernels.
    slots = 1 << (max(counts) - 1).bit_length()
    return RowLayout(np.array(row), np.array(slot), np.array(start), width, len(filled), slots)


@dataclass(frozen=True)
class PackedRows:
    """The places of a batch's tokens or patches in rows.

    ``segments`` and ``places`` are int32 [rows, width]: the number of the input in its row (from 1; 0 for padding), and
    the position in its input. ``flat`` are rows and columns of the tokens, input after input, with the number of each
    token's input in ``owner`` and its position in ``place``.
    """

    layout: RowLayout
    segments: Array
    places: Array
    flat: tuple[Array, Array]
    owner: Array
    place: Array

    @property
    def is_filled(self) -> bool:
        """Whether the tokens, input after input, are those of the rows: there is no padding."""
        plan = self.layout
        in_order = plan.slots == 1 or (plan.rows == 1 and bool((np.diff(plan.start) > 0).all()))
        return in_order and self.segments.size == len(self.owner)

    def place_rows(self, parts: Sequence[Array]) -> Array:
        """Place arrays [tokens, ...], one for each input, in rows [rows, width, ...], with 0 for padding."""
        joined = np.concatenate(parts)
        if self.is_filled:
            return joined.reshape(self.layout.rows, self.layout.width, *joined.shape[1:])
        grid = np.zeros((self.layout.rows, self.layout.width, *joined.shape[1:]), joined.dtype)
        grid[self.flat] = joined
        return grid

    def spread(self, values: Array) -> Array:
        """Return one value for each token as int32 [rows, width], with 0 for padding."""
        grid = np.zeros((self.layout.rows, self.layout.width), np.int32)
        grid[self.flat] = values
        return grid

    def weights(self, values: Array) -> Array:
        """Return one weight for each token as float32 [rows, slots, width]."""
        spread = np.zeros((self.layout.rows, self.layout.slots, self.layout.width), np.float32)
        spread[self.flat[0], self.layout.slot[self.owner], self.flat[1]] = values
        return spread


def end_to_end(lengths: Sequence[int]) -> RowLayout:
    """Return the layout of all inputs in one row, without padding."""
    starts = np.cumsum([0, *lengths])
    count = len(lengths)
    return RowLayout(np.zeros(count, np.int64), np.arange(count), starts[:-1], int(starts[-1]), 1, count)


def pack_rows(
    lengths: Sequence[int], *, shared: bool = True, one: bool = False, padded: bool = True, unit: int = 1
) -> PackedRows:
    """Return the places of inputs in rows, with the segment and the position of each token.

    Args:
        lengths: number of tokens or patches of each input.
        shared: let short inputs share rows.
        one: place all inputs into a single row.
        padded: let rows be longer than the longest input, where that is faster.
        unit: of which all lengths are multiples, and the rows' width then too.
    """
    plan = end_to_end(lengths) if one else layout(lengths, shared=shared, padded=padded)
    if plan.width % unit:
        plan = replace(plan, width=-(-plan.width // unit) * unit)
    sizes = np.asarray(lengths)
    owner = np.repeat(np.arange(len(lengths)), sizes)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    flat = (plan.row[owner], plan.start[owner] + place)
    shape = (plan.rows, plan.width)
    segments, places = (np.zeros(shape, np.int32) for _ in range(2))
    segments[flat] = plan.slot[owner] + 1
    places[flat] = place
    return PackedRows(plan, segments, places, flat, owner, place)
