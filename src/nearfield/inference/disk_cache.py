"""Cache on disk: results that outlive the process, behind the cache in memory."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

LOG = logging.getLogger("nearfield")
#: Writes that may wait; further ones are left out: what is not kept is computed again.
_MOST_WAITING = 64
#: The first sixteenth of the rows leaves at once when the budget is reached.
_LEAVE = """DELETE FROM results WHERE id IN
    (SELECT id FROM results ORDER BY id LIMIT (SELECT 1 + count(*) / 16 FROM results))"""
#: Keys of one question: SQLite bounds the parameters of a statement.
_AT_ONCE = 500
_TABLE = "CREATE TABLE IF NOT EXISTS results (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, row BLOB NOT NULL)"


class DiskCache:
    """Results by key in one SQLite file of at most about ``budget`` bytes; what came first leaves first.

    Several processes may share the file. A failure of the disk costs no request: it is logged, and nothing is kept on
    disk any more. Vectors tell much of their texts, so the file is its owner's alone.
    """

    def __init__(self, path: Path, budget: int) -> None:
        self.budget = budget
        self.hits = 0
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nearfield-cache")
        self._waiting = 0
        self._database: sqlite3.Connection | None = None
        self._thread.submit(self._open).result()

    async def find(self, keys: Sequence[bytes]) -> dict[bytes, Any]:
        """Return the rows that are kept, by key."""
        if self._database is None:
            return {}
        found = await asyncio.get_running_loop().run_in_executor(self._thread, self._find, keys)
        self.hits += len(found)
        return found

    def keep(self, rows: Mapping[bytes, Any]) -> None:
        """Write rows when there is time for it; nobody waits."""
        if self._database is not None and self._waiting < _MOST_WAITING:
            self._waiting += 1
            self._thread.submit(self._write, dict(rows))

    def size(self) -> int:
        """Return the bytes that the file's rows take now."""
        return self._thread.submit(self._size).result()

    def close(self) -> None:
        """Write what waits, and close the file."""
        self._thread.submit(self._shut)
        self._thread.shutdown()

    # -- in the thread -----------------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            try:
                self._database = self._connected()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                LOG.warning("%s is damaged and begun anew: %s", self._path, error)
                self._path.unlink()
                self._database = self._connected()
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def _connected(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=5, isolation_level=None, check_same_thread=False)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        database.execute(f"PRAGMA journal_size_limit={2**24}")
        database.execute(_TABLE)
        return database

    def _find(self, keys: Sequence[bytes]) -> dict[bytes, Any]:
        found: dict[bytes, Any] = {}
        try:
            for start in range(0, len(keys), _AT_ONCE):
                part = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                rows = self._execute(f"SELECT key, row FROM results WHERE key IN ({marks})", part)
                found.update((key, _decoded(row)) for key, row in rows)
        except (sqlite3.Error, msgspec.DecodeError, ValueError, TypeError) as error:
            self._give_up(error)
        return found

    def _write(self, rows: Mapping[bytes, Any]) -> None:
        self._waiting -= 1
        if self._database is None:
            return
        try:
            encoded = [(key, _encoded(row)) for key, row in rows.items()]
            with self._database:
                self._execute("BEGIN IMMEDIATE")
                self._database.executemany("INSERT OR IGNORE INTO results (key, row) VALUES (?, ?)", encoded)
                while self._size() > self.budget and self._execute("SELECT 1 FROM results LIMIT 1"):
                    self._execute(_LEAVE)
        except sqlite3.Error as error:
            self._give_up(error)

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        return [] if self._database is None else self._database.execute(statement, tuple(values)).fetchall()

    def _size(self) -> int:
        facts = [self._execute(f"PRAGMA {name}") for name in ("page_count", "freelist_count", "page_size")]
        pages, free, each = (fact[0][0] if fact else 0 for fact in facts)
        return int((pages - free) * each)

    def _give_up(self, error: Exception) -> None:
        LOG.error("The cache on disk failed, and is not used any more: %s: %s", self._path, error)
        self._shut()

    def _shut(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()


def _encoded(row: Any) -> bytes:
    return msgspec.msgpack.encode(_plain(row))


def _decoded(data: bytes) -> Any:
    return _row(msgspec.msgpack.decode(data))


def _plain(value: Any) -> Any:
    """Say arrays, tuples and mappings in what msgpack has; anything else is a number."""
    if isinstance(value, np.ndarray):
        return {"array": value.tobytes(), "dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, dict):
        return {"names": {name: _plain(part) for name, part in value.items()}}
    if isinstance(value, tuple):
        return {"parts": [_plain(part) for part in value]}
    return value.item() if isinstance(value, np.generic) else value


def _row(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return np.frombuffer(value["array"], np.dtype(value["dtype"])).reshape(value["shape"])
    if "names" in value:
        return {name: _row(part) for name, part in value["names"].items()}
    return tuple(_row(part) for part in value["parts"])
