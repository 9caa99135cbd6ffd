"""Connection: SQLite, shared by threads."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any


class QueryResult:
    """What a statement gave, read to its end."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._rows = cursor.fetchall()
        self.lastrowid = cursor.lastrowid

    def fetchall(self) -> list[Any]:
        """Return all rows."""
        return self._rows

    def fetchone(self) -> Any:
        """Return the first row, or None."""
        return self._rows[0] if self._rows else None

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)


class SharedConnection:
    """A connection that threads may share: each statement is read to its end before another begins."""

    def __init__(self, raw: sqlite3.Connection, lock: threading.RLock) -> None:
        self.raw = raw
        self._lock = lock

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self.raw.in_transaction

    def execute(self, sql: str, values: Sequence[Any] = ()) -> QueryResult:
        """Run a statement."""
        with self._lock:
            return QueryResult(self.raw.execute(sql, values))

    def executemany(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each of some values."""
        with self._lock:
            self.raw.executemany(sql, values)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self.raw.close()


def connect(path: Path, lock: threading.RLock) -> SharedConnection:
    """Open a file; statements wait for others' transactions, a minute at most."""
    return SharedConnection(sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False), lock)
