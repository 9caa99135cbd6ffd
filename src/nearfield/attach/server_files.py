"""Files by which the tools of a user find the servers of the same user on the same machine.

A server writes one file while it accepts requests: its address, and which models it has loaded. The file holds no key.
It is in ``$XDG_RUNTIME_DIR/nearfield/servers``, or in ``servers`` in the cache folder where a session has no such
directory. The directory has mode 0700 and the file mode 0600.

A Unix socket in this place would need a second listener beside the server's own, with its limits, certificates and
front-ends. A file needs none of this, and is as safe: what counts is who may write to the directory. On a shared
machine a reader therefore takes a file only if

- directory and file belong to the user, and no other user may read or write them; links are not followed;
- a process has the file locked (``flock``). The system ends the lock with the process, so that a file of a killed
  server, or of a process id that is in use again, is not taken for that of a running one;
- it was written on this machine since its last start. A home directory may be shared by several machines.

All other files are ignored.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from nearfield.errors import StorageFailed
from nearfield.fileio.locks import LockedFile, holds_lock, release_lock, try_lock
from nearfield.settings import cache_dir

#: Version of the fields.
_FORMAT = 1
#: A larger file is not read.
_MAX_BYTES = 65_536
#: Files that are looked at in one directory.
_MAX_FILES = 256
_SUFFIX = ".json"
#: Permissions that group and others do not get.
_OTHERS = 0o077
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class ServerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a running server says about itself to the tools of its user."""

    #: ``http://127.0.0.1:8080``, or ``unix:`` and an absolute path.
    address: str
    pid: int
    #: Whether requests need an API key.
    needs_key: bool = False
    #: Fingerprints of the models that were loaded at the start, by full id; None for a model without one.
    models: Mapping[str, str | None] = {}
    #: Seconds since 1970.
    started: float = 0.0
    #: The machine, and the start of its system.
    machine: str = ""
    format: int = _FORMAT


@dataclass(frozen=True, slots=True)
class WrittenRecord:
    """The file of a running server."""

    path: Path
    lock: LockedFile

    def remove(self) -> None:
        """Remove the file. Without effect in a process that was forked; a file that stays is ignored."""
        if holds_lock(self.lock):
            with contextlib.suppress(OSError):
                self.path.unlink()
            release_lock(self.lock)


def server_directories() -> tuple[Path, ...]:
    """Return the directories with files of servers; a server writes to the first."""
    fallback = cache_dir() / "servers"
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if not runtime.is_absolute() or not runtime.is_dir():
        return (fallback,)
    return runtime / "nearfield" / "servers", fallback


def write_record(record: ServerRecord) -> WrittenRecord:
    """Write the file of a running server, and remove files of servers that have ended.

    Raises:
        OSError: the directory or the file cannot be written, or the file system has no locks.
        StorageFailed: the directory belongs to another user, or others may write to it.
    """
    directory = server_directories()[0]
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
    with _open_directory(directory) as opened:
        if opened is None:
            raise StorageFailed(f"{directory} belongs to another user, is a link, or others may access it")
        _remove_stale(opened)
    name = f"{record.pid}-{secrets.token_hex(8)}"
    draft = directory / f".{name}.partial"
    lock = try_lock(draft, mode=0o600)
    assert lock is not None, "a new name"
    try:
        os.write(lock.descriptor, msgspec.json.encode(msgspec.structs.replace(record, machine=machine_name())))
        draft.rename(path := directory / f"{name}{_SUFFIX}")
    except BaseException:
        draft.unlink(missing_ok=True)
        release_lock(lock)
        raise
    return WrittenRecord(path, lock)


def live_servers() -> list[ServerRecord]:
    """Return the records of running servers of this user on this machine, the latest first. Nothing is an error."""
    records = []
    for directory in server_directories():
        with _open_directory(directory) as opened:
            for name in _names(opened):
                record = _read_live(opened, name)
                if record is not None:
                    records.append(record)
    return sorted(records, key=lambda record: -record.started)


@cache
def machine_name() -> str:
    """Return what identifies this machine since its last start, where the system says so."""
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        boot = ""
    return f"{socket.gethostname()} {boot}".strip()


@contextlib.contextmanager
def _open_directory(path: Path) -> Iterator[int | None]:
    """Yield the descriptor of a directory that this user alone may access; None if it is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield descriptor if _is_private(os.fstat(descriptor)) else None
    finally:
        os.close(descriptor)


def _is_private(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS


def _names(directory: int | None) -> list[str]:
    if directory is None:
        return []
    names = os.listdir(directory)  # noqa: PTH208 - of the directory that was checked, whatever its path is by now
    return [name for name in names if name.endswith(_SUFFIX)][:_MAX_FILES]


def _read_live(directory: int | None, name: str) -> ServerRecord | None:
    """Return the record in a file of a running server of this machine, or None."""
    with _open_file(directory, name) as file:
        if file is None or not _is_locked(file):
            return None
        record = _decode(os.read(file, _MAX_BYTES))
    return record if record is not None and record.machine == machine_name() and _runs(record.pid) else None


@contextlib.contextmanager
def _open_file(directory: int | None, name: str) -> Iterator[int | None]:
    """Yield the descriptor of a small file of this user alone, or None. Pipes and devices are not waited for."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=directory)
    except OSError:
        yield None
        return
    try:
        status = os.fstat(descriptor)
        regular = stat.S_ISREG(status.st_mode) and status.st_size <= _MAX_BYTES
        yield descriptor if regular and _is_private(status) else None
    finally:
        os.close(descriptor)


def _is_locked(file: int) -> bool:
    """Return whether another process has a file locked. A file system without locks has no files of servers."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _decode(data: bytes) -> ServerRecord | None:
    try:
        record = msgspec.json.decode(data, type=ServerRecord)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return record if record.format == _FORMAT else None


def _runs(pid: int) -> bool:
    """Return whether there is a process: one that was forked from the server may have the lock for longer."""
    try:
        if pid > 0:
            os.kill(pid, 0)
    except (OSError, OverflowError):
        return False
    return pid > 0


def _remove_stale(directory: int) -> None:
    """Remove the files of servers that have ended; others stay, whatever they are."""
    for name in _names(directory):
        with _open_file(directory, name) as file, contextlib.suppress(OSError):
            if file is not None and not _is_locked(file):
                os.unlink(name, dir_fd=directory)
