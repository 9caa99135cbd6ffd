"""Repeated ids: the same ones are named whether the digests fit into memory or lie in a file."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter

import pytest

from nearfield.bulk import repeated_ids
from nearfield.bulk.repeated_ids import IdDigests


def _digests(ids: list[object], run: int) -> IdDigests:
    digests = IdDigests(run)
    for key in ids:
        digests.add(key)
    return digests


@pytest.mark.parametrize("run", [1, 7, 500, 1000, 2000])
def test_repeated_ids_are_the_same_in_memory_and_in_a_file(run: int) -> None:
    draw = random.Random(run)
    ids: list[object] = [draw.choice([f"n{draw.randrange(4000)}", draw.randrange(4000), None]) for _ in range(1000)]
    expected = {hash(key) for key, count in Counter(str(key) for key in ids if key is not None).items() if count > 1}
    digests = _digests(ids, run)
    assert digests.repeated() == expected and expected
    assert digests.repeated() == expected  # asked again
    assert digests.warning(ids) == _digests(ids, 5000).warning(ids)


def test_the_ends_of_the_range_of_digests_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = [-(2**63), 2**63 - 1, 0, -1, 2**56, 2**56 - 1]
    monkeypatch.setattr(repeated_ids, "_digest", lambda key: key)
    assert _digests([*ends, *ends], 5).repeated() == set(ends)
    assert _digests(list(ends), 5).repeated() == set()


def test_memory_does_not_grow_with_the_rows() -> None:
    peaks = []
    for rows in (20_000, 200_000):
        tracemalloc.start()
        digests = IdDigests(5_000)
        for key in range(rows):
            digests.add(key)
        assert digests.repeated() == set()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0], peaks
