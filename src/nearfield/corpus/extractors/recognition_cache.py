"""A bounded cache on disk of recognised pages and sounds, by their content: a SQLite database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

#: Bytes of all cached values; the ones that were read the longest time ago are removed first.
MAX_BYTES = 64 * 2**20
#: Seconds to wait for another process.
_WAIT = 10.0
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS pages (key TEXT PRIMARY KEY, value BLOB NOT NULL, used INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS pages_used ON pages (used)",
)
_NEXT = "(SELECT coalesce(max(used), 0) + 1 FROM pages)"


class RecognitionCache:
    """Values by keys. An error of the disk or a damaged file costs the cached values, never the document."""

    def __init__(self, path: Path | None, max_bytes: int = MAX_BYTES) -> None:
        self._path, self._max_bytes = path, max_bytes

    def get(self, key: str) -> bytes | None:
        """Return the value of a key, or None."""
        with suppress(sqlite3.Error, OSError), self._open() as database:
            rows = database.execute("SELECT value FROM pages WHERE key = ?", (key,)).fetchall()
            if rows:
                database.execute(f"UPDATE pages SET used = {_NEXT} WHERE key = ?", (key,))
                value = rows[0][0]
                return value if isinstance(value, bytes) else None
        return None

    def put(self, key: str, value: bytes) -> None:
        """Store a value, and remove the oldest ones if there are too many bytes."""
        try:
            self._store(key, value)
        except sqlite3.OperationalError:  # busy, full or read-only
            return
        except (sqlite3.DatabaseError, OSError):
            if self._path is not None:  # it is not a database, or damaged
                with suppress(OSError):
                    self._path.unlink(missing_ok=True)

    def _store(self, key: str, value: bytes) -> None:
        with self._open() as database:
            database.execute(f"INSERT OR REPLACE INTO pages VALUES (?, ?, {_NEXT})", (key, value))
            (size,) = database.execute("SELECT coalesce(sum(length(value)), 0) FROM pages").fetchone()
            while size > self._max_bytes:
                oldest = database.execute("SELECT key, length(value) FROM pages ORDER BY used LIMIT 16").fetchall()
                for old, length in oldest:
                    if size <= self._max_bytes:
                        break
                    database.execute("DELETE FROM pages WHERE key = ?", (old,))
                    size -= length

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open the database for one transaction."""
        if self._path is None:
            raise FileNotFoundError
        with closing(sqlite3.connect(self._path, timeout=_WAIT)) as database, database:
            for statement in _SCHEMA:
                database.execute(statement)
            yield database
