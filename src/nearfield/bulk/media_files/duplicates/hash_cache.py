"""`HashCache`: hashes of files by path, size and time of change, so that a run continues where another one ended."""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from nearfield.bulk.media_files.duplicates.folder_listing import ListedFile

#: Seconds to wait for another process, and files that are stored in one transaction.
_WAIT, _BATCH = 10.0, 64
#: Days after which the hash of a file that no run has seen is removed.
_DAYS = 180
_SECONDS_PER_DAY = 86_400
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS hashes(path BLOB, size INTEGER, modified INTEGER, rule TEXT, value BLOB NOT NULL,
    used INTEGER NOT NULL, PRIMARY KEY(path, rule)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS hashes_used ON hashes(used)",
)
#: Days after which the day of its last use is written again.
_TOUCH_DAYS = 30
_SELECT = "SELECT value, used FROM hashes WHERE path = ? AND rule = ? AND size = ? AND modified = ?"


@dataclass(frozen=True)
class _PendingHash:
    file: ListedFile
    rule: str
    value: bytes


class HashCache:
    """A SQLite database of values of files. Without a path, or where it cannot be written, it is in memory.

    Args:
        path: the file of the database; its folder is created.
    """

    def __init__(self, path: Path | None) -> None:
        self._pending: list[_PendingHash] = []
        self._today = int(time.time()) // _SECONDS_PER_DAY
        #: Why the file is not used, if it is not.
        self.problem = ""
        self._database = self._open(path)

    def get(self, file: ListedFile, rule: str) -> bytes | None:
        """Return the value of a file by a rule, if the file has not changed since it was stored."""
        key = (os.fsencode(Path(file.path).absolute()), rule)
        try:
            row = self._database.execute(_SELECT, (*key, file.size, _to_stored(file.modified))).fetchone()
        except sqlite3.Error as error:
            self._disable(error)
            return None
        if row is None:
            return None
        value, used = bytes(row[0]), row[1]
        if used < self._today - _TOUCH_DAYS:
            self.put(file, rule, value)
        return value

    def put(self, file: ListedFile, rule: str, value: bytes) -> None:
        """Store a value; it is on the disk some files later."""
        self._pending.append(_PendingHash(file, rule, value))
        if len(self._pending) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what was stored to the disk."""
        rows = [
            (os.fsencode(file.path.absolute()), file.size, _to_stored(file.modified), row.rule, row.value, self._today)
            for row in self._pending
            for file in (row.file,)
        ]
        try:
            self._database.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?, ?)", rows)
            self._database.commit()
        except sqlite3.Error as error:  # busy, full or damaged
            self._disable(error)
        self._pending.clear()

    def close(self) -> None:
        """Write what is left, and close the database."""
        self.flush()
        self._database.close()

    def _open(self, path: Path | None) -> sqlite3.Connection:
        try:
            if path is None:
                return _connect(":memory:")
            path.parent.mkdir(parents=True, exist_ok=True)
            database = _connect(str(path))
            database.execute("DELETE FROM hashes WHERE used < ?", (self._today - _DAYS,))
            database.commit()
        except sqlite3.OperationalError as error:  # busy, full or read-only
            return self._in_memory(error)
        except (sqlite3.DatabaseError, OSError) as error:
            return self._open_again(path, error)
        return database

    def _open_again(self, path: Path | None, error: Exception) -> sqlite3.Connection:
        """Replace a file that is damaged or no database."""
        if path is None or not isinstance(error, sqlite3.DatabaseError):
            return self._in_memory(error)
        try:
            path.unlink()
            return _connect(str(path))
        except (sqlite3.Error, OSError) as second:
            return self._in_memory(second)

    def _in_memory(self, error: Exception) -> sqlite3.Connection:
        self.problem = f"Hashes are not stored, so that the next run computes them again: {error}."
        return _connect(":memory:")

    def _disable(self, error: Exception) -> None:
        self._database.close()
        self._database = self._in_memory(error)


def _to_stored(moment: int) -> int:
    """Return nanoseconds in the 64 bits of SQLite: those of dates after the year 2262 have more."""
    return (moment + 2**63) % 2**64 - 2**63


def _connect(place: str) -> sqlite3.Connection:
    database = sqlite3.connect(place, timeout=_WAIT)
    for statement in _SCHEMA:
        database.execute(statement)
    return database
