"""`DiskCache`: results in a SQLite file, behind the cache in memory; they outlive the process."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from nearfield.arrays import ResultRow

LOG = logging.getLogger("nearfield")
#: Writes that may wait. Further ones are skipped: their results are computed again when they are needed.
_MAX_PENDING_WRITES = 64
#: Seconds for which nothing is written after the disk was full.
_FULL_DISK_SECONDS = 60.0
#: Evicts the oldest sixteenth of the rows once the budget is reached.
_EVICT = """DELETE FROM results WHERE id IN
    (SELECT id FROM results ORDER BY id LIMIT (SELECT 1 + count(*) / 16 FROM results))"""
#: Keys of one query: SQLite limits the parameters of a statement.
_KEYS_PER_QUERY = 500
_TABLE = "CREATE TABLE IF NOT EXISTS results (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, row BLOB NOT NULL)"


class DiskCache:
    """Results by key in one SQLite file of about ``budget`` bytes, with first-in-first-out eviction.

    Several processes may share the file. An error of the disk fails no request: it is logged, and the cache is not used
    any more. On a full disk it is not written for a minute. Texts can be reconstructed in part from vectors, so only
    the owner can read the file.
    """

    def __init__(self, path: Path, budget: int) -> None:
        self.budget = budget
        self.hits = 0
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nearfield-cache")
        self._pending_writes = 0
        #: When results are written again after the disk was full (``time.monotonic``).
        self._next_write = 0.0
        self._database: sqlite3.Connection | None = None
        self._thread.submit(self._open).result()

    async def load(self, keys: Sequence[bytes]) -> dict[bytes, ResultRow]:
        """Return the stored rows of some keys."""
        if self._database is None:
            return {}
        rows = await asyncio.get_running_loop().run_in_executor(self._thread, self._load, keys)
        self.hits += len(rows)
        return rows

    def store(self, rows: Mapping[bytes, ResultRow]) -> None:
        """Write rows in the background; skip them if many writes wait already."""
        if self._database is not None and self._pending_writes < _MAX_PENDING_WRITES:
            self._pending_writes += 1
            self._thread.submit(self._write, dict(rows))

    def size(self) -> int:
        """Return the bytes of the rows in the file."""
        return self._thread.submit(self._size).result()

    def close(self) -> None:
        """Finish pending writes, and close the file."""
        self._thread.submit(self._close_database)
        self._thread.shutdown()

    # -- in the thread -------------------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            try:
                self._database = self._connect()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                LOG.warning("%s is damaged and is replaced by an empty file: %s", self._path, error)
                self._path.unlink()
                self._database = self._connect()
        except (OSError, sqlite3.Error) as error:
            self._disable(error)

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=5, isolation_level=None, check_same_thread=False)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        database.execute(f"PRAGMA journal_size_limit={2**24}")
        database.execute(_TABLE)
        return database

    def _load(self, keys: Sequence[bytes]) -> dict[bytes, ResultRow]:
        rows: dict[bytes, ResultRow] = {}
        try:
            for start in range(0, len(keys), _KEYS_PER_QUERY):
                part = keys[start : start + _KEYS_PER_QUERY]
                marks = ",".join("?" * len(part))
                stored = self._execute(f"SELECT key, row FROM results WHERE key IN ({marks})", part)
                rows.update((key, _decode_row(row)) for key, row in stored)
        except (sqlite3.Error, msgspec.DecodeError, ValueError, TypeError) as error:
            self._disable(error)
        return rows

    def _write(self, rows: Mapping[bytes, ResultRow]) -> None:
        self._pending_writes -= 1
        if self._database is None or time.monotonic() < self._next_write:
            return
        try:
            encoded = [(key, _encode_row(row)) for key, row in rows.items()]
            with self._database:
                self._execute("BEGIN IMMEDIATE")
                self._database.executemany("INSERT OR IGNORE INTO results (key, row) VALUES (?, ?)", encoded)
                while self._size() > self.budget and self._execute("SELECT 1 FROM results LIMIT 1"):
                    self._execute(_EVICT)
        except sqlite3.Error as error:
            if "disk is full" not in str(error):
                self._disable(error)
                return
            LOG.warning("the disk is full: results are not written to %s for a minute", self._path)
            self._next_write = time.monotonic() + _FULL_DISK_SECONDS

    def _execute(self, statement: str, values: Sequence[bytes] = ()) -> list[Any]:
        return [] if self._database is None else self._database.execute(statement, tuple(values)).fetchall()

    def _size(self) -> int:
        values = [self._execute(f"PRAGMA {name}") for name in ("page_count", "freelist_count", "page_size")]
        pages, free, page_size = (value[0][0] if value else 0 for value in values)
        return int((pages - free) * page_size)

    def _disable(self, error: Exception) -> None:
        LOG.error("The disk cache failed and is not used any more: %s: %s", self._path, error)
        self._close_database()

    def _close_database(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()


def _encode_row(row: ResultRow) -> bytes:
    return msgspec.msgpack.encode(_to_plain(row))


def _decode_row(data: bytes) -> ResultRow:
    return _from_plain(msgspec.msgpack.decode(data))


def _to_plain(value: ResultRow) -> object:
    """Return arrays, tuples and dictionaries as msgpack can hold them; anything else is a number."""
    if isinstance(value, np.ndarray):
        return {"array": value.tobytes(), "dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, dict):
        return {"names": {name: _to_plain(part) for name, part in value.items()}}
    if isinstance(value, tuple):
        return {"parts": [_to_plain(part) for part in value]}
    return value.item() if isinstance(value, np.generic) else value


def _from_plain(value: Any) -> ResultRow:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return np.frombuffer(value["array"], np.dtype(value["dtype"])).reshape(value["shape"])
    if "names" in value:
        return {name: _from_plain(part) for name, part in value["names"].items()}
    return tuple(_from_plain(part) for part in value["parts"])
