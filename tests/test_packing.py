"""Sequence packing: every token has one place, nothing overlaps, and rows are nearly full."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfield.packing import SHORT, STEP, layout, pack_rows

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=60)


@settings(max_examples=200, deadline=None)
@given(
    lengths=LENGTHS | st.lists(st.integers(1, SHORT), min_size=1, max_size=80),
    shared=st.booleans(),
    one=st.booleans(),
    padded=st.booleans(),
)
def test_every_token_has_one_place(lengths: list[int], shared: bool, one: bool, padded: bool) -> None:
    inputs = [[100 * number + place % 100 for place in range(length)] for number, length in enumerate(lengths)]
    packed = pack_rows(lengths, shared=shared, one=one, padded=padded)
    grid = packed.place_rows([np.asarray(ids) for ids in inputs])
    plan = packed.layout
    assert int((packed.segments > 0).sum()) == sum(lengths)
    assert grid.shape == (plan.rows, plan.width)
    for number, ids in enumerate(inputs):
        columns = slice(plan.start[number], plan.start[number] + len(ids))
        row, slot = plan.row[number], plan.slot[number]
        assert grid[row, columns].tolist() == ids
        assert packed.places[row, columns].tolist() == list(range(len(ids)))
        assert set(packed.segments[row, columns].tolist()) == {slot + 1}
        assert int((packed.segments[row] == slot + 1).sum()) == len(ids)


def test_rows_of_inputs_of_one_length_are_not_padded() -> None:
    packed = pack_rows([197, 197], shared=False, padded=False)
    assert packed.segments.shape == (2, 197)
    assert packed.is_filled
    assert pack_rows([197, 197], shared=False).segments.shape == (2, 208)


@settings(max_examples=50, deadline=None)
@given(lengths=LENGTHS)
def test_separate_rows(lengths: list[int]) -> None:
    plan = layout(lengths, shared=False)
    assert (plan.slots, plan.rows) == (1, len(lengths))
    assert max(lengths) <= plan.width <= max(lengths) * 1.1


def test_short_mixtures_fill_rows() -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(8, 26, 60).tolist()
    plan = layout(lengths)
    assert plan.width % STEP == 0
    assert sum(lengths) / (plan.width * plan.rows) > 0.9


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(1, SHORT), min_size=2, max_size=80))
def test_rows_are_those_of_the_cheapest_first_fit(lengths: list[int]) -> None:
    """Compare with the algorithm written out: each input, longest first, goes into the first row with space."""

    def first_fit(width: int) -> list[list[int]]:
        rows: list[list[int]] = []
        for number in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
            fitting = (row for row in rows if sum(lengths[at] for at in row) + lengths[number] <= width)
            row = next(fitting, None)
            if row is None:
                rows.append(row := [])
            row.append(number)
        return rows

    plan = layout(lengths)
    if plan.slots > 1:
        rows = first_fit(plan.width)
        assert [[plan.row[at], plan.slot[at]] for row in rows for at in row] == [
            [number, slot] for number, row in enumerate(rows) for slot in range(len(row))
        ]
    costs = {width: len(first_fit(width)) * width * (1 + width / 1500) for width in (32, 48, 64, 96, 128)}
    allowed = [cost for width, cost in costs.items() if width >= max(lengths)]
    assert plan.rows * plan.width * (1 + plan.width / 1500) <= min(allowed) * (1 + 1e-9)


def test_weights_go_to_their_input() -> None:
    packed = pack_rows([3, 2])
    weights = packed.weights(np.arange(1, 6, dtype=np.float32))
    plan = packed.layout
    for number, expected in enumerate(([1, 2, 3], [4, 5])):
        row = weights[plan.row[number], plan.slot[number]]
        assert row[row > 0].tolist() == expected


@pytest.mark.parametrize("lengths", [[1], [64] * 3, [17] * 40, [300, 1, 1]])
def test_odd_batches(lengths: list[int]) -> None:
    assert layout(lengths).rows >= 1
