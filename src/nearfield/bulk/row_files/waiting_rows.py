"""Rows of a shard that wait for their vectors, and those that have none because they cannot be read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nearfield.bulk.input_table import InputRow
from nearfield.errors import InputError

#: Characters of a reason in a record.
_MAX_REASON = 500


@dataclass
class _WaitingRow:
    number: int
    row: InputRow
    problem: str


class WaitingRows:
    """A queue from the reader of a shard's rows to the writer of their vectors.

    Args:
        start: the number of the first row.

    Attributes:
        set_aside: the rows without a vector that were passed, each with ``row``, ``id``, ``where`` and ``reason``.
    """

    def __init__(self, start: int) -> None:
        self.set_aside: list[dict[str, Any]] = []
        self._next = start
        self._rows: deque[_WaitingRow] = deque()
        #: Those that were given to the encoder, by the numbers that it has for them.
        self._sent: deque[_WaitingRow] = deque()
        self._received = 0

    def inputs(self, rows: Iterator[InputRow]) -> Iterator[Any]:
        """Yield the inputs of rows that may be readable; all rows wait."""
        for row in rows:
            waiting = _WaitingRow(self._next, row, row.problem)
            self._next += 1
            self._rows.append(waiting)
            if not row.problem:
                self._sent.append(waiting)
                yield row.to_input()

    def refuse(self, number: int, error: InputError) -> None:
        """Take note that the input of a number, counted from 0, has no vector."""
        self._sent[number - self._received].problem = str(error)

    def take(self, count: int) -> tuple[list[tuple[int, InputRow]], int]:
        """Return numbers and rows of the next ``count`` vectors, and how many rows were passed for them."""
        taken: list[tuple[int, InputRow]] = []
        passed = 0
        while len(taken) < count:
            waiting = self._pass()
            passed += 1
            if not waiting.problem:
                taken.append((waiting.number, waiting.row))
        return taken, passed

    def finish(self) -> int:
        """Set aside the rows after the last vector, and return their number.

        Raises:
            RuntimeError: one of them has no problem, so that a vector is missing.
        """
        left = len(self._rows)
        while self._rows:
            if not self._rows[0].problem:
                raise RuntimeError(f"Row {self._rows[0].number} got no vector.")
            self._pass()
        return left

    def _pass(self) -> _WaitingRow:
        waiting = self._rows.popleft()
        if self._sent and self._sent[0] is waiting:
            self._sent.popleft()
            self._received += 1
        if waiting.problem:
            self.set_aside.append(_entry(waiting))
        return waiting


def _entry(waiting: _WaitingRow) -> dict[str, Any]:
    row = waiting.row
    return {"row": waiting.number, "id": row.key, "where": row.where, "reason": waiting.problem[:_MAX_REASON]}
