"""Uploaded and generated files: records in SQLite, contents in a folder beside it.

Contents are written under a temporary name and renamed when complete, so a process may be killed at any moment.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from nearfield.errors import InputError, NotThere, StorageFailed, StorageFull
from nearfield.fileio.atomic import fsync_directory
from nearfield.server.logs import LOG

Result = TypeVar("Result")
#: Threads for files only: a slow disk must not delay the threads that tokenise.
_POOL = ThreadPoolExecutor(4, thread_name_prefix="files")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, owner TEXT NOT NULL, purpose TEXT NOT NULL,
  filename TEXT NOT NULL, bytes INTEGER NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER, gone INTEGER);
CREATE TABLE IF NOT EXISTS batches (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, owner TEXT NOT NULL, status TEXT NOT NULL,
  output_id TEXT NOT NULL, error_id TEXT NOT NULL, output_seconds INTEGER, record BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS files_of ON files (owner, seq);
CREATE INDEX IF NOT EXISTS batches_of ON batches (owner, seq);
CREATE INDEX IF NOT EXISTS batches_in ON batches (status, seq);
"""
#: Seconds to wait for another process that writes records.
_LOCK_TIMEOUT = 30.0
#: Seconds for which a deleted file's record remains, for clients that read pages while they delete; and after which
#: a content without a record counts as left by a killed process.
_DAY = 86_400
#: Seconds between two removals of expired files.
_SWEEP_SECONDS = 3600
_CHUNK = 256 * 1024


class FileRecord(msgspec.Struct):
    """One file, in the shape of OpenAI's API."""

    id: str
    object: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: str
    expires_at: int | None = None


class PendingFile:
    """A file that is being written."""

    def __init__(self, path: Path) -> None:
        self.id = path.stem
        self.path = path
        self.size = 0
        self._out = os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb", _CHUNK)

    def write(self, data: bytes) -> None:
        """Append bytes. Blocks.

        Raises:
            StorageFull, StorageFailed: they cannot be written.
        """
        with convert_storage_errors():
            write_all(self._out, data)
        self.size += len(data)

    def close(self) -> None:
        """Flush to the disk and close."""
        with convert_storage_errors():
            self._out.flush()
            os.fsync(self._out.fileno())
            self._out.close()

    def discard(self) -> None:
        """Remove the file unless ``FileStore.keep`` has moved it."""
        with convert_storage_errors():
            try:
                self._out.close()
            except OSError:
                pass  # the buffer does not fit on the disk either; the file is removed anyway
            self.path.unlink(missing_ok=True)


class FileStore:
    """The files of all keys in one folder, created by the first write. ``owner`` is the digest of a key."""

    #: The time, in seconds since 1970.
    clock: Callable[[], float] = staticmethod(time.time)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._contents = folder / "files"
        self._records = folder / "server.db"
        self._swept = 0.0

    # -- for routes ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def draft(self) -> AsyncIterator[PendingFile]:
        """Create a file; it is removed after the block unless ``keep`` was called.

        Raises:
            StorageFull, StorageFailed: it cannot be written.
        """
        draft: PendingFile = await in_thread(self._begin)
        try:
            yield draft
        finally:
            await in_thread(draft.discard)

    async def keep(
        self, draft: PendingFile, *, owner: str, purpose: str, filename: str, seconds: int | None = None
    ) -> FileRecord:
        """Store a pending file, for some seconds or without limit.

        Raises:
            StorageFull, StorageFailed: it cannot be written.
        """
        return await in_thread(self._keep, draft, owner, purpose, filename, seconds)

    async def find(self, name: str, owner: str) -> FileRecord:
        """Return a file of an owner.

        Raises:
            NotThere: there is none.
            StorageFailed: the records cannot be read.
        """
        return await in_thread(self.look, name, owner)

    async def page(
        self, owner: str, *, after: str | None, limit: int, ascending: bool = False, purpose: str | None = None
    ) -> tuple[list[FileRecord], bool]:
        """Return files of an owner by time of creation, and whether there are more.

        Raises:
            InputError: ``after`` is not the id of a file of this owner.
        """
        also = "gone IS NULL AND (expires_at IS NULL OR expires_at > ?)" + (" AND purpose = ?" if purpose else "")
        values = [int(self.clock()), *([purpose] if purpose else [])]
        rows, more = await in_thread(self.rows, "files", owner, after, limit, ascending, also, values)
        return [_file(row) for row in rows], more

    async def delete(self, name: str, owner: str) -> None:
        """Delete a file of an owner.

        Raises:
            NotThere: there is none.
        """
        await in_thread(self._delete, name, owner)

    async def chunks(self, name: str, size: int) -> AsyncIterator[bytes]:
        """Yield a file's bytes."""
        at = 0
        while at < size:
            chunk = await in_thread(self._read, name, at)
            if not chunk:
                raise StorageFailed(f"{name} has become shorter.")
            at += len(chunk)
            yield chunk

    # -- in threads ------------------------------------------------------------------------------------------------

    def path(self, name: str) -> Path:
        """Return the path of a content."""
        return self._contents / name

    @property
    def used(self) -> bool:
        """Whether anything was ever stored here."""
        return self._records.exists()

    @contextmanager
    def records(self, write: bool = False) -> Iterator[sqlite3.Connection]:
        """Open the database for one transaction. Blocks.

        Raises:
            StorageFull, StorageFailed: they cannot be read or written.
        """
        with convert_storage_errors():
            self._contents.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._records, os.O_CREAT | os.O_RDWR, 0o600))
            with closing(sqlite3.connect(self._records, timeout=_LOCK_TIMEOUT, isolation_level=None)) as database:
                database.row_factory = sqlite3.Row
                _prepare(database)
                database.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                try:
                    yield database
                    database.execute("COMMIT")
                except BaseException:
                    if database.in_transaction:
                        database.execute("ROLLBACK")
                    raise

    def look(self, name: str, owner: str | None) -> FileRecord:
        """Return a file; ``owner`` None means any. Blocks. Raises what ``find`` raises."""
        if not self.used:
            raise _missing(name)
        with self.records() as database:
            return self._row(database, name, owner)

    def rows(
        self, table: str, owner: str, after: str | None, limit: int, ascending: bool, also: str, values: list[Any]
    ) -> tuple[list[sqlite3.Row], bool]:
        """Return a page of an owner's rows, and whether more follow. Blocks."""
        if not self.used:
            return [], False
        with self.records() as database:
            where, parameters = f"owner = ? AND {also}", [owner, *values]
            if after:
                place = database.execute(
                    f"SELECT seq FROM {table} WHERE id = ? AND owner = ?", (after, owner)
                ).fetchone()
                if place is None:
                    raise InputError(
                        f"after must be the id of one of your files or batches, not {after[:100]!r}.", param="after"
                    )
                where += f" AND seq {'>' if ascending else '<'} ?"
                parameters.append(place["seq"])
            order = "ASC" if ascending else "DESC"
            rows = database.execute(
                f"SELECT * FROM {table} WHERE {where} ORDER BY seq {order} LIMIT ?", (*parameters, limit + 1)
            ).fetchall()
        return rows[:limit], len(rows) > limit

    def add(self, database: sqlite3.Connection, file: FileRecord, owner: str) -> None:
        """Insert the record of a file whose content is in place; a no-op the second time."""
        database.execute(
            "INSERT OR IGNORE INTO files (id, owner, purpose, filename, bytes, created_at, expires_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (file.id, owner, file.purpose, file.filename, file.bytes, file.created_at, file.expires_at),
        )

    def sweep(self) -> None:
        """Remove expired files and leftovers of killed processes, at most once an hour."""
        now = self.clock()
        if not self.used or now - self._swept < _SWEEP_SECONDS:
            return
        self._swept = now
        with self.records(write=True) as database:
            over = "gone IS NULL AND expires_at <= ?"
            expired = {row["id"] for row in database.execute(f"SELECT id FROM files WHERE {over}", (int(now),))}
            database.execute(f"UPDATE files SET gone = ? WHERE {over}", (int(now), int(now)))
            database.execute("DELETE FROM files WHERE gone < ?", (int(now) - _DAY,))
            recorded = {row["id"] for row in database.execute("SELECT id FROM files WHERE gone IS NULL")}
            for row in database.execute("SELECT output_id, error_id FROM batches"):
                recorded |= {row["output_id"], row["error_id"]}
        with convert_storage_errors():
            for path in self._contents.iterdir():
                old = path.stem not in recorded and now - path.stat().st_mtime > _DAY
                if old or path.name in expired:
                    path.unlink(missing_ok=True)

    def _begin(self) -> PendingFile:
        self.sweep()
        with convert_storage_errors():
            self._contents.mkdir(mode=0o700, parents=True, exist_ok=True)
            return PendingFile(self._contents / f"{new_id('file-')}.upload")

    def _keep(self, draft: PendingFile, owner: str, purpose: str, filename: str, seconds: int | None) -> FileRecord:
        now = int(self.clock())
        until = None if seconds is None else now + seconds
        file = FileRecord(draft.id, "file", draft.size, now, filename, purpose, "processed", until)
        draft.close()
        self.place(draft.path, draft.id)
        try:
            with self.records(write=True) as database:
                self.add(database, file, owner)
        except StorageFailed:
            self.path(draft.id).unlink(missing_ok=True)
            raise
        return file

    def place(self, path: Path, name: str) -> None:
        """Rename a written content to its final name, durably."""
        with convert_storage_errors():
            path.replace(self.path(name))
            fsync_directory(self._contents)

    def _delete(self, name: str, owner: str) -> None:
        if not self.used:
            raise _missing(name)
        with self.records(write=True) as database:
            self._row(database, name, owner)
            database.execute("UPDATE files SET gone = ? WHERE id = ?", (int(self.clock()), name))
        with convert_storage_errors():
            self.path(name).unlink(missing_ok=True)

    def _row(self, database: sqlite3.Connection, name: str, owner: str | None) -> FileRecord:
        row = database.execute("SELECT * FROM files WHERE id = ? AND gone IS NULL", (name,)).fetchone()
        mine = row is not None and owner in (None, row["owner"])
        if not mine or (row["expires_at"] is not None and row["expires_at"] <= self.clock()):
            raise _missing(name)
        return _file(row)

    def _read(self, name: str, at: int) -> bytes:
        with convert_storage_errors(), self.path(name).open("rb") as content:
            content.seek(at)
            return content.read(_CHUNK)


def _missing(name: str) -> NotThere:
    return NotThere(f"No such File object: {name[:100]}", param="id")


def new_id(prefix: str) -> str:
    """Return an id that cannot be guessed."""
    return prefix + secrets.token_hex(16)


def write_all(out: Any, data: bytes) -> None:
    """Write all bytes; a raw file may accept only a part per call."""
    left = memoryview(data)
    while left:
        left = left[out.write(left) :]


async def in_thread(function: Callable[..., Result], *arguments: Any) -> Result:
    """Run a function in a thread, and wait for its end even when cancelled, since it uses the caller's objects."""
    work = asyncio.get_running_loop().run_in_executor(_POOL, function, *arguments)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()
        raise


@contextmanager
def convert_storage_errors() -> Iterator[None]:
    """Convert errors of the system and of SQLite.

    Raises:
        StorageFull: the disk or the quota is full.
        StorageFailed: any other error.
    """
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        LOG.error("storage failed: %s", error)
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "disk is full" in str(error)
        if full:
            raise StorageFull("The server's disk is full (data_dir): delete files, or free some space.") from error
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise StorageFailed(f"The server cannot read or write its files (data_dir): {reason}.") from error


def _prepare(database: sqlite3.Connection) -> None:
    if database.execute("PRAGMA user_version").fetchone()[0] < 1:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(_SCHEMA + "PRAGMA user_version = 1;")
    database.execute("PRAGMA synchronous = NORMAL")


def _file(row: sqlite3.Row) -> FileRecord:
    return FileRecord(
        row["id"],
        "file",
        row["bytes"],
        row["created_at"],
        row["filename"],
        row["purpose"],
        "processed",
        row["expires_at"],
    )
