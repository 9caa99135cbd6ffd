"""Uploaded and generated files: records in SQLite, contents in a folder beside it.

Contents are written under a temporary name and renamed when complete, so a process may be killed at any moment.
"""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from nearfield.engine.fair_turns import FairTurns
from nearfield.errors import InputError, NearfieldError, NotThere, StorageFailed, StorageFull
from nearfield.fileio.atomic import fsync_directory
from nearfield.server.files.file_threads import Result, in_thread
from nearfield.server.files.quota import StorageLimits, StorageUsage
from nearfield.server.files.storage_errors import convert_storage_errors, disk_bytes, out_of_descriptors
from nearfield.server.files.wall_clock import WallClock

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
#: Seconds to wait for other readers of a database that is opened for one connection only.
_PRIVATE_TIMEOUT = 2.0
#: Seconds for which a deleted file's record remains, for clients that read pages while they delete; and after which
#: a content without a record counts as left by a killed process.
_DAY = 86_400
#: Maximum number of such records of an owner.
_MAX_GONE = 10_000
#: Threads that read and write contents at the same time; the others read and write records.
_CONTENT_THREADS = 2
#: Seconds between two removals of expired files.
_SWEEP_SECONDS = 3600
_CHUNK = 256 * 1024
#: Bytes of the disk that contents leave free for records and other programs, and its maximum share.
_DISK_RESERVE, _DISK_RESERVE_SHARE = 100 * 2**20, 0.01


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
    """A file that is being written; ``check`` is called with each number of bytes before they are."""

    def __init__(self, path: Path, check: Callable[[int], None]) -> None:
        self.id = path.stem
        self.path = path
        self.size = 0
        self._check = check
        self._out = os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb", _CHUNK)

    def write(self, data: bytes) -> None:
        """Append bytes. Blocks.

        Raises:
            QuotaExceeded: the owner may not store as much.
            StorageFull, StorageFailed: they cannot be written.
        """
        self._check(self.size + len(data))
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
    clock: Callable[[], float] = staticmethod(WallClock())
    #: Returns the bytes of an owner that are stored elsewhere, and count too.
    elsewhere: Callable[[str], int] = staticmethod(lambda _: 0)

    def __init__(self, folder: Path, limits: StorageLimits | None = None) -> None:
        self.folder = folder
        self.limits = limits or StorageLimits()
        self._contents = folder / "files"
        self._records = folder / "server.db"
        #: When expired files were last removed (``time.monotonic``).
        self._swept: float | None = None
        #: A connection that stays open. SQLite's shared index of its log then exists already when the disk is full, so
        #: that records can still be read.
        self._anchor: sqlite3.Connection | None = None
        self._anchor_lock = threading.Lock()
        #: Bytes of pending files by owner, each file once.
        self._pending: dict[PendingFile, str] = {}
        self._turns = FairTurns(_CONTENT_THREADS)

    def close(self) -> None:
        """Close the connection that stays open."""
        with self._anchor_lock:
            if self._anchor is not None:
                self._anchor.close()
                self._anchor = None

    # -- for routes ------------------------------------------------------------------------------------------------

    async def run(self, owner: str, function: Callable[..., Result], *arguments: Any) -> Result:
        """Return what a function returns that reads or writes contents, in a thread; owners take turns."""
        async with self._turns.slot(owner):
            return await in_thread(function, *arguments)

    @asynccontextmanager
    async def draft(self, owner: str) -> AsyncIterator[PendingFile]:
        """Create a file; it is removed after the block unless ``keep`` was called.

        Raises:
            QuotaExceeded: the owner may not store more.
            StorageFull, StorageFailed: it cannot be written.
        """
        draft: PendingFile = await in_thread(self._begin, owner)
        try:
            yield draft
        finally:
            self._pending.pop(draft, None)
            await in_thread(draft.discard)

    async def keep(
        self, draft: PendingFile, *, owner: str, purpose: str, filename: str, seconds: int | None = None
    ) -> FileRecord:
        """Store a pending file, for some seconds or without limit.

        Raises:
            QuotaExceeded: the owner may not store more.
            StorageFull, StorageFailed: it cannot be written.
        """
        return await self.run(owner, self._keep, draft, owner, purpose, filename, seconds)

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

    async def chunks(self, name: str, size: int, owner: str = "") -> AsyncIterator[bytes]:
        """Yield the bytes of a file that an owner reads."""
        at = 0
        while at < size:
            chunk = await self.run(owner, self._read, name, at)
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
            if write or not self.used:
                self._contents.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.close(os.open(self._records, os.O_CREAT | os.O_RDWR, 0o600))
            with closing(self._connect(write)) as database:
                database.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                try:
                    yield database
                    database.execute("COMMIT")
                except BaseException:
                    if database.in_transaction:
                        database.execute("ROLLBACK")
                    raise

    def _connect(self, write: bool) -> sqlite3.Connection:
        """Open the database. On a full disk it can be read though SQLite cannot create its shared files."""
        try:
            with self._anchor_lock:
                if self._anchor is None:
                    self._anchor = self._open(str(self._records))
            return self._open(str(self._records))
        except sqlite3.OperationalError:
            if write or self._anchor is not None or out_of_descriptors():
                raise
            log = self._records.with_name(self._records.name + "-wal")
            if log.exists() and log.stat().st_size:
                return self._open(str(self._records), private=True)
            return self._open(f"{self._records.absolute().as_uri()}?mode=ro&immutable=1")

    def _open(self, name: str, private: bool = False) -> sqlite3.Connection:
        """Open a connection; a ``private`` one has the index of SQLite's log in memory, and excludes other ones."""
        database = sqlite3.connect(
            name,
            timeout=_PRIVATE_TIMEOUT if private else _LOCK_TIMEOUT,
            isolation_level=None,
            uri=name.startswith("file:"),
            check_same_thread=False,
        )
        try:
            database.row_factory = sqlite3.Row
            if private:
                database.execute("PRAGMA locking_mode = EXCLUSIVE")
            _prepare(database)
        except BaseException:
            database.close()
            raise
        return database

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
        """Remove expired files and leftovers of killed processes, at most once an hour.

        Contents are removed first, so that a full disk has space for the records of this.
        """
        now, tick = self.clock(), time.monotonic()
        if not self.used or (self._swept is not None and tick - self._swept < _SWEEP_SECONDS):
            return
        self._swept = tick
        over = "gone IS NULL AND expires_at <= ?"
        with self.records() as database:
            expired = {row["id"] for row in database.execute(f"SELECT id FROM files WHERE {over}", (int(now),))}
            recorded = {row["id"] for row in database.execute("SELECT id FROM files WHERE gone IS NULL")}
            for row in database.execute("SELECT output_id, error_id FROM batches"):
                recorded |= {row["output_id"], row["error_id"]}
        with convert_storage_errors():
            for path in self._contents.iterdir():
                if path.name in expired or (path.stem not in recorded and now - path.stat().st_mtime > _DAY):
                    path.unlink(missing_ok=True)
        with suppress(StorageFull), self.records(write=True) as database:
            database.execute(f"UPDATE files SET gone = ? WHERE {over}", (int(now), int(now)))
            database.execute("DELETE FROM files WHERE gone < ?", (int(now) - _DAY,))

    # -- quotas ----------------------------------------------------------------------------------------------------

    def check_growth(self, owner: str, size: int) -> None:
        """Check that an owner may store ``size`` more bytes. Blocks.

        Raises:
            QuotaExceeded: the owner may not.
            StorageFull: all owners together may not, or the disk is full.
        """
        self.check_space(size)
        self._usage(owner).add(owner, self._pending_sizes()).check(self.limits, size)

    def check_space(self, size: int) -> None:
        """Check that contents leave the reserve of the disk free.

        Raises:
            StorageFull: they do not.
        """
        with convert_storage_errors():
            total, free = disk_bytes(self.folder)
            if free - size < min(_DISK_RESERVE, total * _DISK_RESERVE_SHARE):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def owner_bytes(self, owner: str) -> int:
        """Return the bytes that count for the limit of an owner, those on their way and elsewhere too. Blocks."""
        return self._usage(owner).add(owner, self._pending_sizes()).bytes

    def _usage(self, owner: str) -> StorageUsage:
        if not self.used:
            return StorageUsage(bytes=self.elsewhere(owner))
        with self.records() as database:
            return self._recorded_usage(database, owner)

    def _recorded_usage(self, database: sqlite3.Connection, owner: str) -> StorageUsage:
        """Return what an owner and all owners store."""
        stored = "gone IS NULL AND (expires_at IS NULL OR expires_at > ?)"
        now = int(self.clock())
        mine = database.execute(
            f"SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM files WHERE owner = ? AND {stored}", (owner, now)
        ).fetchone()
        total = database.execute(f"SELECT COALESCE(SUM(bytes), 0) FROM files WHERE {stored}", (now,)).fetchone()
        return StorageUsage(mine[0], mine[1] + self.elsewhere(owner), total[0])

    def _pending_sizes(self) -> list[tuple[str, int]]:
        return [(owner, draft.size) for draft, owner in list(self._pending.items())]

    def _begin(self, owner: str) -> PendingFile:
        self.sweep()
        self.check_growth(owner, 0)
        with convert_storage_errors():
            self._contents.mkdir(mode=0o700, parents=True, exist_ok=True)
        usage = self._usage(owner)

        def check(size: int) -> None:
            self.check_space(size - draft.size)
            others = [(other, file.size) for file, other in list(self._pending.items()) if file is not draft]
            usage.add(owner, others).check(self.limits, size)

        with convert_storage_errors():
            draft = PendingFile(self._contents / f"{new_id('file-')}.upload", check)
        self._pending[draft] = owner
        return draft

    def _keep(self, draft: PendingFile, owner: str, purpose: str, filename: str, seconds: int | None) -> FileRecord:
        now = int(self.clock())
        until = None if seconds is None else now + seconds
        file = FileRecord(draft.id, "file", draft.size, now, filename, purpose, "processed", until)
        draft.close()
        self.place(draft.path, draft.id)
        try:
            with self.records(write=True) as database:
                self._recorded_usage(database, owner).check(self.limits, draft.size)
                self.add(database, file, owner)
        except NearfieldError:
            self.path(draft.id).unlink(missing_ok=True)
            raise
        self._pending.pop(draft, None)
        return file

    def place(self, path: Path, name: str) -> None:
        """Rename a written content to its final name, durably."""
        with convert_storage_errors():
            path.replace(self.path(name))
            fsync_directory(self._contents)

    def _delete(self, name: str, owner: str) -> None:
        if not self.used:
            raise _missing(name)
        try:
            self._record_deletion(name, owner)
        except StorageFull:  # the content's space is enough for the record
            self.look(name, owner)
            with convert_storage_errors():
                self.path(name).unlink(missing_ok=True)
            self._record_deletion(name, owner)
        with convert_storage_errors():
            self.path(name).unlink(missing_ok=True)

    def _record_deletion(self, name: str, owner: str) -> None:
        with self.records(write=True) as database:
            self._row(database, name, owner)
            database.execute("UPDATE files SET gone = ? WHERE id = ?", (int(self.clock()), name))
            database.execute(
                "DELETE FROM files WHERE seq IN (SELECT seq FROM files WHERE owner = ? AND gone IS NOT NULL"
                " ORDER BY seq DESC LIMIT -1 OFFSET ?)",
                (owner, _MAX_GONE),
            )

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
