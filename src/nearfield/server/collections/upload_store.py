"""Uploads to a collection: files that arrive in one request or in several, and that continue after any interruption.

An unfinished upload is two files in the folder of the collection: a record, and what has arrived so far. The size of
the second is the offset at which the client continues, so that a process may be killed at any moment. A complete file
is renamed to its name; the record remains until the file is indexed.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from nearfield.errors import InputError, NotThere, QuotaExceeded, StorageFull, TooLarge
from nearfield.fileio.atomic import fsync_directory, write_atomic
from nearfield.fileio.locks import release_lock, try_lock
from nearfield.repeated_values import find_repeated
from nearfield.server.files.quota import check_owner_bytes
from nearfield.server.files.storage_errors import convert_storage_errors, disk_bytes
from nearfield.units import format_size

if TYPE_CHECKING:
    from nearfield.corpus.collection import Collection
    from nearfield.corpus.sources.uploads import UploadSource

#: Returns the bytes that an owner stores.
OwnerBytes = Callable[[str], int]

_FOLDER = "uploads-unfinished"
#: Algorithms of checksums.
ALGORITHMS = ("sha1", "sha256", "md5")
_ID = re.compile(r"[0-9a-f]{32}")
#: Bytes of the disk that uploads leave free, and its maximum share.
_DISK_RESERVE, _DISK_RESERVE_SHARE = 100 * 2**20, 0.01


class UploadConflict(InputError):
    """Another request writes to an upload, or the client continues at another offset than its end."""

    status = 409
    code = "upload_conflict"


class ChecksumMismatch(InputError):
    """The bytes of a part are not those that its client sent. The status is that of the protocol tus."""

    status = 460
    code = "checksum_mismatch"


@dataclass(frozen=True)
class UploadChecksum:
    """The checksum of a part of an upload: the name of the algorithm, one of ``ALGORITHMS``, and the digest."""

    algorithm: str
    digest: bytes


@dataclass(frozen=True)
class UploadLimits:
    """Limits of uploads; 0 is no limit.

    ``total_bytes`` and ``files`` are those of one collection, ``owner_uploads`` the unfinished ones of a key,
    ``seconds`` the time after its last byte for which an unfinished one is stored, and ``owner_bytes`` what a key may
    store in all collections and elsewhere.
    """

    file_bytes: int = 16 * 2**30
    total_bytes: int = 64 * 2**30
    files: int = 10_000
    owner_uploads: int = 16
    seconds: float = 86_400.0
    owner_bytes: int = 16 * 2**30


class UploadRecord(msgspec.Struct, frozen=True):
    """An unfinished upload."""

    owner: str
    filename: str
    length: int


@dataclass(frozen=True)
class UploadState:
    """An upload with the number of bytes that have arrived, and when it expires (seconds since 1970)."""

    id: str
    record: UploadRecord
    offset: int
    expires: float

    @property
    def is_complete(self) -> bool:
        """Whether all bytes have arrived."""
        return self.offset >= self.record.length


class UploadWriter:
    """Appends to a file; ``check`` is called with its size before it grows.

    With a ``checksum``, what was appended is removed again unless ``verify`` has confirmed it.
    """

    def __init__(self, path: Path, check: Callable[[int], None], checksum: UploadChecksum | None = None) -> None:
        self.path, self._check, self._checksum = path, check, checksum
        self._hash = None if checksum is None else hashlib.new(checksum.algorithm, usedforsecurity=False)
        self._file = path.open("ab", buffering=0)
        self.size = self._verified = self._file.tell()

    def write(self, data: bytes) -> None:
        """Append bytes. Blocks.

        Raises:
            TooLarge, StorageFull, StorageFailed: they cannot be stored; what was there before stays.
        """
        self._check(self.size + len(data))
        if self._hash is not None:
            self._hash.update(data)
        left = memoryview(data)
        with convert_storage_errors():
            while left:
                written = self._file.write(left) or 0
                left, self.size = left[written:], self.size + written

    def verify(self) -> None:
        """Compare what was appended with its checksum, if it has one.

        Raises:
            ChecksumMismatch: it has another.
        """
        if self._checksum is None or self._hash is None:
            return
        if self._hash.digest() != self._checksum.digest:
            raise ChecksumMismatch(
                f"The bytes that arrived have another {self._checksum.algorithm} than Upload-Checksum says: send them "
                "again.",
                param="upload-checksum",
            )
        self._verified = self.size

    def close(self) -> None:
        """Flush to the disk and close; without effect the second time."""
        if not self._file.closed:
            with convert_storage_errors(), self._file:
                if self._checksum is not None:
                    self._file.truncate(self._verified)
                os.fsync(self._file.fileno())


class CollectionUploads:
    """The uploads of one collection. All methods block."""

    #: The time, in seconds since 1970.
    clock: Callable[[], float] = staticmethod(time.time)

    def __init__(self, source: UploadSource, limits: UploadLimits, stored_bytes: OwnerBytes | None = None) -> None:
        self._source, self._limits = source, limits
        self._stored_bytes = stored_bytes or self.count_bytes
        self._folder = source.folder.with_name(_FOLDER)

    @classmethod
    def of_collection(
        cls, collection: Collection, limits: UploadLimits, stored_bytes: OwnerBytes | None = None
    ) -> CollectionUploads:
        """Return the uploads of an open collection.

        ``stored_bytes`` returns the bytes of an owner that count: by default those in this collection.
        """
        from nearfield.corpus.indexing.indexer import prepare_source
        from nearfield.corpus.sources.uploads import UploadSource

        source = prepare_source(UploadSource(collection.folder.path), collection.config)
        return cls(source, limits, stored_bytes)

    @property
    def max_bytes(self) -> int:
        """The maximum size of a file."""
        return self._limits.file_bytes or 2**62

    # -- resumable uploads ---------------------------------------------------------------------------------------

    def create(self, owner: str, filename: str, length: int) -> UploadState:
        """Begin an upload of a number of bytes.

        Raises:
            InputError: the name is wrong, or the collection does not read such files.
            TooLarge, QuotaExceeded, StorageFull: it exceeds a limit.
        """
        name = self._source.check_name(filename)
        self.sweep()
        self._check_length(length)
        states = list(self._states())
        mine = sum(state.record.owner == owner for state in states)
        if self._limits.owner_uploads and mine >= self._limits.owner_uploads:
            raise QuotaExceeded(f"You have {mine} unfinished uploads, the maximum (max_key_uploads): end some of them.")
        self._check_space(length, self._used(states))
        self._check_owner(owner, length)
        upload, record = secrets.token_hex(16), UploadRecord(owner, name, length)
        with convert_storage_errors():
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._part(upload).touch(mode=0o600)
            write_atomic(self._record(upload), msgspec.json.encode(record).decode(), durable=True)
        return self.find(upload, owner)

    def find(self, upload: str, owner: str) -> UploadState:
        """Return an upload of an owner.

        Raises:
            NotThere: there is none, or it has expired.
        """
        state = self._state(upload) if _ID.fullmatch(upload) else None
        if state is None or state.record.owner != owner or state.expires <= self.clock():
            raise NotThere(f"There is no upload {upload[:50]!r}: create another one if it has expired.", param="upload")
        return state

    @contextmanager
    def locked(self, upload: str, owner: str, offset: int | None = None) -> Iterator[UploadState]:
        """Hold the lock of an upload during the block; ``offset`` is where the client continues.

        Raises:
            NotThere: as for ``find``.
            UploadConflict: another request has the lock, or the upload continues elsewhere.
        """
        self.find(upload, owner)
        lock = try_lock(self._folder / f"{upload}.lock", mode=0o600)
        if lock is None:
            raise UploadConflict("Another request is writing to this upload: wait for its end.", param="upload")
        try:
            state = self.find(upload, owner)
            if offset is not None and offset != state.offset:
                raise UploadConflict(
                    f"Upload-Offset is {offset}, and the upload continues at {state.offset}.", param="upload-offset"
                )
            yield state
        finally:
            release_lock(lock)

    def open(self, state: UploadState, checksum: UploadChecksum | None = None) -> UploadWriter:
        """Return the writer of an upload, which is locked; ``checksum`` is that of the bytes to come."""

        def check(size: int) -> None:
            if size > state.record.length:
                raise TooLarge(f"The upload has {state.record.length} bytes (Upload-Length), and more were sent.")

        with convert_storage_errors():
            return UploadWriter(self._part(state.id), check, checksum)

    def place(self, state: UploadState) -> str:
        """Store a complete upload, which is locked, as a file of the collection; return its name."""
        if self._part(state.id).exists():
            self._store(self._part(state.id), state.record.filename, state.record.owner)
        return state.record.filename

    def remove(self, upload: str) -> None:
        """Forget an upload, and what has arrived of it."""
        with convert_storage_errors():
            for path in (self._record(upload), self._part(upload), self._folder / f"{upload}.lock"):
                path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove uploads that have expired, and what killed processes left."""
        now = self.clock()
        with convert_storage_errors():
            for path in self._folder.iterdir() if self._folder.is_dir() else ():
                state = self._state(path.stem)
                expired = state.expires <= now if state else self._is_old(path, now)
                lock = try_lock(self._folder / f"{path.stem}.lock", mode=0o600) if expired else None
                if lock is not None:
                    self.remove(path.stem)
                    release_lock(lock)

    def _is_old(self, path: Path, now: float) -> bool:
        try:
            return path.stat().st_mtime + self._limits.seconds <= now
        except FileNotFoundError:
            return False

    # -- uploads in one request ----------------------------------------------------------------------------------

    def draft(self, owner: str = "", others: Sequence[UploadWriter] = ()) -> UploadWriter:
        """Return the writer of a file that arrives in one request, after others; ``store`` or ``discard`` ends it.

        Raises:
            QuotaExceeded: the collection may have no more files, or the owner may store no more.
        """
        self.sweep()
        with convert_storage_errors():
            self._folder.mkdir(mode=0o700, exist_ok=True)
        before = sum(other.size for other in others)
        used, stored = self._used(self._states(), len(others)) + before, self._stored_bytes(owner) + before

        def check(size: int) -> None:
            self._check_length(size)
            self._check_space(size, used)
            check_owner_bytes(stored, size, self._limits.owner_bytes)

        with convert_storage_errors():
            return UploadWriter(self._part(secrets.token_hex(16)), check)

    def store(self, drafts: Sequence[UploadWriter], filenames: Sequence[str], owner: str = "") -> list[str]:
        """Store drafts as files of the collection; return their names. None is stored if one cannot be.

        Raises:
            InputError: a name is wrong, or there twice, or the collection does not read such files.
            QuotaExceeded: other requests of the owner have stored too much since they began.
        """
        names = [self._source.check_name(filename) for filename in filenames]
        repeated = find_repeated(names)
        if repeated is not None:
            raise InputError(f"The form has two files called {repeated!r}: send one of them.", param="file")
        self._check_owner(owner, sum(draft.size for draft in drafts))
        for draft in drafts:
            draft.close()
        for draft, name in zip(drafts, names, strict=True):
            self._store(draft.path, name, owner)
        return names

    def discard(self, draft: UploadWriter) -> None:
        """Remove a draft that was not stored."""
        with convert_storage_errors():
            draft.close()
            draft.path.unlink(missing_ok=True)

    # -- files ---------------------------------------------------------------------------------------------------

    def count_bytes(self, owner: str) -> int:
        """Return the bytes of an owner's files in the collection, and of those that are still to arrive."""
        with convert_storage_errors():
            unfinished = sum(state.record.length for state in self._states() if state.record.owner == owner)
            return unfinished + self._source.owners.count_bytes(owner)

    def _check_owner(self, owner: str, size: int) -> None:
        check_owner_bytes(self._stored_bytes(owner), size, self._limits.owner_bytes)

    def _store(self, path: Path, name: str, owner: str) -> None:
        with convert_storage_errors():
            self._source.folder.mkdir(mode=0o700, exist_ok=True)
            self._source.owners.set(name, owner)
            path.replace(self._source.folder / name)
            fsync_directory(self._source.folder)

    def _part(self, upload: str) -> Path:
        return self._folder / f"{upload}.part"

    def _record(self, upload: str) -> Path:
        return self._folder / f"{upload}.json"

    def _states(self) -> Iterator[UploadState]:
        for path in self._folder.glob("*.json"):
            state = self._state(path.stem)
            if state is not None:
                yield state

    def _state(self, upload: str) -> UploadState | None:
        """Return an upload; None if there is none. One whose file is stored already has all of its bytes."""
        try:
            path = self._record(upload)
            record, changed = msgspec.json.decode(path.read_bytes(), type=UploadRecord), path.stat().st_mtime
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        try:
            status = self._part(upload).stat()
            offset, changed = status.st_size, max(changed, status.st_mtime)
        except FileNotFoundError:
            offset = record.length
        return UploadState(upload, record, offset, changed + self._limits.seconds)

    def _check_length(self, length: int) -> None:
        if self._limits.file_bytes and length > self._limits.file_bytes:
            raise TooLarge(f"A file may have {format_size(self._limits.file_bytes)} (max_upload_bytes).", param="file")

    def _used(self, unfinished: Iterable[UploadState], others: int = 0) -> int:
        """Return the bytes that files and unfinished uploads take; ``others`` are files that arrive too.

        Raises:
            QuotaExceeded: the collection may have no more files.
        """
        folder = self._source.folder
        with convert_storage_errors():
            sizes = [entry.stat().st_size for entry in os.scandir(folder)] if folder.is_dir() else []
        if self._limits.files and len(sizes) + others >= self._limits.files:
            raise QuotaExceeded(f"The collection has {len(sizes)} files, the maximum (max_key_files): remove some.")
        return sum(sizes) + sum(state.record.length for state in unfinished)

    def _check_space(self, size: int, used: int) -> None:
        """Check that one more file of ``size`` bytes fits beside the bytes that are used."""
        if self._limits.total_bytes and used + size > self._limits.total_bytes:
            limit = format_size(self._limits.total_bytes)
            raise StorageFull(f"The files of the collection may take {limit} (max_stored_bytes): remove some of them.")
        with convert_storage_errors():
            total, free = disk_bytes(self._folder)
        if free - size < min(_DISK_RESERVE, total * _DISK_RESERVE_SHARE):
            raise StorageFull("The server's disk is full (collections_dir): remove files, or free some space.")
