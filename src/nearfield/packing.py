"""Packing: inputs of any lengths laid side by side into rows of one length, so that next to nothing is padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nearfield.arrays import Array

#: Attention runs about 10% faster a token over rows of a multiple of 16 (benchmarks/README.md).
STEP = 16
#: ...and each token of the row's length adds this share of a token's cost.
_GROWTH = 1 / 1500
#: What a length that is no multiple of 16 costs more.
_ODD = 1.1
#: Inputs up to this length share rows of one of these widths; longer ones gain nothing by it.
SHORT, _WIDTHS = 64, (32, 48, 64, 96, 128)


@dataclass(frozen=True)
class RowLayout:
    """Where each input lies: its ``row``, its ``slot`` among the row's inputs, and its first column.

    ``width`` is the rows' length, ``rows`` and ``slots`` how many there are at most.
    """

    row: Array
    slot: Array
    start: Array
    width: int
    rows: int
    slots: int


def layout(lengths: Sequence[int], *, shared: bool = True) -> RowLayout:
    """Place inputs into rows; ``shared=False`` gives each a row of its own, as does a batch that gains nothing else."""
    longest = max(lengths)
    rounded = -(-longest // STEP) * STEP
    alone = _alone(len(lengths), rounded if rounded <= longest * _ODD else longest)
    if not shared or len(lengths) == 1 or longest > SHORT:
        return alone
    widths = [width for width in _WIDTHS if width >= longest]
    return min([alone, *(_first_fit(lengths, width) for width in widths)], key=_cost)


def _alone(count: int, width: int) -> RowLayout:
    return RowLayout(np.arange(count), np.zeros(count, np.int64), np.zeros(count, np.int64), width, count, 1)


def _cost(plan: RowLayout) -> float:
    """Estimate what a layout costs, in tokens of a row of 16."""
    odd = _ODD if plan.width % STEP else 1.0
    return plan.rows * plan.width * (1 + plan.width * _GROWTH) * odd


def _first_fit(lengths: Sequence[int], width: int) -> RowLayout:
    """Place the longest first, each into the first row that has room."""
    count, shortest = len(lengths), min(lengths)
    row, slot, start = (np.zeros(count, np.int64) for _ in range(3))
    filled: list[int] = []
    held: list[int] = []
    first = 0  # rows before this one have no room for even the shortest input
    for index in sorted(range(count), key=lengths.__getitem__, reverse=True):
        length = lengths[index]
        place = next((at for at in range(first, len(filled)) if filled[at] + length <= width), len(filled))
        if place == len(filled):
            filled.append(0)
            held.append(0)
        row[index], slot[index], start[index] = place, held[place], filled[place]
        filled[place] += length
        held[place] += 1
        while first < len(filled) and filled[first] + shortest > width:
            first += 1
    # A power of two: fewer shapes, fewer kernels to make and keep.
    return RowLayout(row, slot, start, width, len(filled), 1 << (max(held) - 1).bit_length())


@dataclass(frozen=True)
class PackedRows:
    """A batch's tokens as arrays. ``flat`` are the tokens' (row, column) pairs, input after input."""

    layout: RowLayout
    ids: Array
    segments: Array
    places: Array
    flat: tuple[Array, Array]
    owner: Array
    place: Array

    def spread(self, values: Array) -> Array:
        """Lay one value a token out as int32 [rows, width], 0 where there is none."""
        grid = np.zeros((self.layout.rows, self.layout.width), np.int32)
        grid[self.flat] = values
        return grid

    def weights(self, values: Array) -> Array:
        """Spread one weight a token over [rows, slots, width]."""
        spread = np.zeros((self.layout.rows, self.layout.slots, self.layout.width), np.float32)
        spread[self.flat[0], self.layout.slot[self.owner], self.flat[1]] = values
        return spread


def end_to_end(lengths: Sequence[int]) -> RowLayout:
    """Place all inputs into one row, with no padding at all."""
    starts = np.cumsum([0, *lengths])
    count = len(lengths)
    return RowLayout(np.zeros(count, np.int64), np.arange(count), starts[:-1], int(starts[-1]), 1, count)


def pack_rows(inputs: Sequence[Sequence[int]], *, shared: bool = True, one: bool = False) -> PackedRows:
    """Lay token ids out as int32 [rows, width], with the segment and the place within its input of each token.

    ``shared`` lets short inputs share rows; ``one`` puts all of them into a single one.
    """
    lengths = [len(ids) for ids in inputs]
    plan = end_to_end(lengths) if one else layout(lengths, shared=shared)
    sizes = np.asarray(lengths)
    owner = np.repeat(np.arange(len(lengths)), sizes)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    flat = (plan.row[owner], plan.start[owner] + place)
    shape = (plan.rows, plan.width)
    ids, segments, places = (np.zeros(shape, np.int32) for _ in range(3))
    ids[flat] = np.concatenate([np.asarray(one, np.int32) for one in inputs])
    segments[flat] = plan.slot[owner] + 1
    places[flat] = place
    return PackedRows(plan, ids, segments, places, flat, owner, place)
