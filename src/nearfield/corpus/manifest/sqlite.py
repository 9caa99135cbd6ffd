"""A SQLite connection that threads share."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from nearfield.errors import InputError
from nearfield.fork_safety import PerProcess, ProcessLock

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
    """A connection that several threads may use: all rows of a statement are fetched before the next one starts.

    A forked process opens its own: SQLite's connections must not be used there, and not even be closed.
    """

    def __init__(self, create: Callable[[], sqlite3.Connection], lock: ProcessLock) -> None:
        self._create, self._lock = create, lock
        self._raw = PerProcess[sqlite3.Connection]()
        self._setup: list[Callable[[sqlite3.Connection], object]] = []
        self._closed = False

    @property
    def raw(self) -> sqlite3.Connection:
        """The connection of this process."""
        if self._closed:
            raise sqlite3.ProgrammingError("Cannot operate on a closed database.")
        return self._raw.get(self._open)

    def _open(self) -> sqlite3.Connection:
        raw = self._create()
        for function in self._setup:
            function(raw)
        return raw

    def configure(self, function: Callable[[sqlite3.Connection], object]) -> None:
        """Call a function with the connection, and again with that of each process that is forked from this one."""
        function(self.raw)
        self._setup.append(function)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self.raw.in_transaction

    def execute(self, sql: str, values: Sequence[object] | Mapping[str, object] = ()) -> QueryResult:
        """Run a statement.

        Raises:
            InputError: a value is not Unicode.
        """
        with self._lock, _unicode_values():
            return QueryResult(self.raw.execute(sql, values))

    def executemany(self, sql: str, values: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each sequence of values.

        Raises:
            InputError: a value is not Unicode.
        """
        with self._lock, _unicode_values():
            self.raw.executemany(sql, values)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            raw = self._raw.pop()
            self._closed = True
            if raw is not None:
                raw.close()


@contextmanager
def closing_on_error(connection: SharedConnection) -> Iterator[None]:
    """Close a connection if the block fails."""
    try:
        yield
    except BaseException:
        connection.close()
        raise


@contextmanager
def _unicode_values() -> Iterator[None]:
    """Name a text that has no UTF-8: the library's error does not say that it came with a statement."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise InputError(f"{error.object!r:.200} is not Unicode: it has a lone surrogate.") from error


def connect(path: Path | str, lock: ProcessLock) -> SharedConnection:
    """Open a database; statements wait up to a minute for transactions of others.

    Raises:
        sqlite3.OperationalError: the disk is full, or the folder cannot be written.
    """
    options: dict[str, Any] = {"timeout": 60, "isolation_level": None, "check_same_thread": False}
    connection = SharedConnection(partial(sqlite3.connect, path, **options), lock)
    with closing_on_error(connection):
        connection.configure(lambda raw: raw.execute("PRAGMA synchronous=NORMAL"))
    return connection
