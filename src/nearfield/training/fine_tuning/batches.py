"""The order of all batches of a run, drawn once from the seed, so that a run can continue at any step."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from nearfield.training.fine_tuning.columns import TrainColumns

#: A batch with fewer rows than this share of a full one is left out: too few negatives meet there.
_SMALLEST_SHARE = 4
#: Batches that are filled at once: rows that fit into none of them wait for the next ones.
_OPEN_BATCHES = 8


def plan_batches(columns: TrainColumns, batch: int, epochs: int, seed: int) -> list[list[int]]:
    """Return the row numbers of each batch, epoch after epoch.

    Rows that exclude each other (``TrainColumns.excluded``) never share a batch. What is left at the end of an epoch
    and fills less than a quarter of a batch is left out, unless it is all there is.
    """
    plan: list[list[int]] = []
    for epoch in range(epochs):
        order = list(range(len(columns)))
        random.Random(f"{seed} {epoch}").shuffle(order)
        batches = _fill(columns, order, batch) if columns.excluded else _slices(order, batch)
        fullest = max(map(len, batches))
        plan += [rows for rows in batches if len(rows) * _SMALLEST_SHARE >= fullest and len(rows) > 1] or batches[:1]
    return plan


def _slices(order: Sequence[int], batch: int) -> list[list[int]]:
    return [list(order[start : start + batch]) for start in range(0, len(order), batch)]


def _fill(columns: TrainColumns, order: Sequence[int], batch: int) -> list[list[int]]:
    """Put each row into the first open batch that it may join."""
    done: list[list[int]] = []
    opened: list[_OpenBatch] = []
    for row in order:
        contents, excluded = columns.contents[row], columns.excluded[row]
        place = next((candidate for candidate in opened if candidate.admits(contents, excluded)), None)
        if place is None:
            if len(opened) == _OPEN_BATCHES:
                opened.sort(key=lambda candidate: len(candidate.rows))
                done.append(opened.pop().rows)
            place = _OpenBatch()
            opened.append(place)
        place.add(row, contents, excluded)
        if len(place.rows) == batch:
            opened.remove(place)
            done.append(place.rows)
    return done + [place.rows for place in opened]


class _OpenBatch:
    """Rows of a batch that is not full yet."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self._contents: set[str] = set()
        self._excluded: set[str] = set()

    def admits(self, contents: frozenset[str], excluded: frozenset[str]) -> bool:
        """Return whether a row may join."""
        return self._contents.isdisjoint(excluded) and self._excluded.isdisjoint(contents)

    def add(self, row: int, contents: frozenset[str], excluded: frozenset[str]) -> None:
        """Add a row."""
        self.rows.append(row)
        self._contents |= contents
        self._excluded |= excluded


class PlannedBatches:
    """A batch sampler that yields planned batches, for a data loader of torch.

    Args:
        plan: row numbers of each batch.
        batch: rows of a full batch.
    """

    def __init__(self, plan: Sequence[Sequence[int]], batch: int) -> None:
        self.plan = plan
        self.batch_size = batch
        self.drop_last = False

    def __iter__(self) -> Iterator[list[int]]:
        return (list(rows) for rows in self.plan)

    def __len__(self) -> int:
        return len(self.plan)
