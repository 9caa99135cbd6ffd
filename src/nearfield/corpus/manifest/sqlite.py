"""A SQLite connection that threads share."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

Row = tuple[Any, ...]


class QueryResult:
    """The rows of a statement, all fetched."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._rows: list[Row] = cursor.fetchall()
        self.lastrowid = cursor.lastrowid

    def fetchall(self) -> list[Row]:
        """Return all rows."""
        return self._rows

    def fetchone(self) -> Any:
        """Return the first row, or None."""
        return self._rows[0] if self._rows else None

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)


class SharedConnection:
    """A connection that several threads may use: all rows of a statement are fetched before the next one starts."""

    def __init__(self, raw: sqlite3.Connection, lock: threading.RLock) -> None:
        self.raw = raw
        self._lock = lock

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self.raw.in_transaction

    def execute(self, sql: str, values: Sequence[object] = ()) -> QueryResult:
        """Run a statement."""
        with self._lock:
            return QueryResult(self.raw.execute(sql, values))

    def executemany(self, sql: str, values: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each sequence of values."""
        with self._lock:
            self.raw.executemany(sql, values)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self.raw.close()


def connect(path: Path | str, lock: threading.RLock) -> SharedConnection:
    """Open a database; statements wait up to a minute for transactions of others."""
    return SharedConnection(sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False), lock)
