"""Locks on files: exclusive, shared and re-entrant; the system releases them when a process ends, however it ends.

All of them are ``flock`` locks of the whole file. The library filelock takes the exclusive lock on a descriptor that
is opened here, so that a lock file keeps its inode, its mode and its content: a collection is identified by the inode
of its lock file. (The library's own ``FileLock`` class has truncated or removed lock files in some of its versions.)
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nearfield.fork_safety import ProcessLock, call_after_fork

_thread_of: dict[str, int] = {}
_guard = ProcessLock()
#: The locked files of this process. A lock lasts until all copies of its descriptor are closed, and a fork copies them.
_locked: set[LockedFile] = set()


@dataclass(frozen=True, eq=False)
class LockedFile:
    """A file that this process has locked, until ``release_lock``. In a process that is forked from it, it is not."""

    #: In a forked process, the number may be that of another file.
    descriptor: int


def try_lock(path: Path, *, mode: int = 0o666, required: bool = True) -> LockedFile | None:
    """Lock a file for this process; return None if another one has the lock.

    ``release_lock`` ends the lock. A file system without locks raises OSError, unless the lock is not
    ``required``.
    """
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, mode)
        try:
            if not _lock_descriptor(file, required):
                os.close(file)
                return None
        except BaseException:
            os.close(file)
            raise
        if os.fstat(file).st_nlink:
            return _record(file)
        os.close(file)  # the previous holder removed the file after it was opened here


def holds_lock(file: LockedFile) -> bool:
    """Return whether this process has the lock: not after its release, nor in a process that was forked."""
    return file in _locked


def release_lock(file: LockedFile) -> None:
    """End the lock of a file. Without effect in a process that was forked since then, which has no part in it."""
    if file in _locked:
        _locked.remove(file)
        os.close(file.descriptor)


def _record(descriptor: int) -> LockedFile:
    file = LockedFile(descriptor)
    _locked.add(file)
    return file


def _after_fork() -> None:
    """Close the copies of the parent's locks, which would last as long as this process otherwise."""
    for file in _locked:
        os.close(file.descriptor)
    _locked.clear()
    _thread_of.clear()


call_after_fork(_after_fork)


def _lock_descriptor(file: int, required: bool) -> bool:
    import filelock  # imported late: it takes longer than the rest of this module

    try:
        return filelock.lock_descriptor(file, blocking=False)
    except OSError:
        if required:
            raise
        return True


@contextmanager
def exclusive_lock(
    path: Path, busy: Callable[[], Exception], *, required: bool = True, remove: bool = False
) -> Iterator[None]:
    """Hold the lock of a file during the block, and raise ``busy()`` if another process or thread has it.

    ``remove`` deletes the lock file at the end of the block, while the lock is still held. A process that was forked
    within the block deletes nothing.
    """
    file = try_lock(path, required=required)
    if file is None:
        raise busy()
    try:
        yield
    finally:
        if remove and file in _locked:
            path.unlink(missing_ok=True)
        release_lock(file)


@contextmanager
def reentrant_lock(path: Path, busy: Callable[[], Exception]) -> Iterator[None]:
    """Hold the lock of a file during the block; the thread that holds it may take it again.

    Raises ``busy()`` if another process or thread has the lock.
    """
    key, thread = str(path.resolve()), threading.get_ident()
    file: LockedFile | None = None
    with _guard:
        if key in _thread_of and _thread_of[key] != thread:
            raise busy()
        if key not in _thread_of:
            file = try_lock(path)
            if file is None:
                raise busy()
            _thread_of[key] = thread
    try:
        yield
    finally:
        with _guard:
            if file is not None and file in _locked:
                del _thread_of[key]
                release_lock(file)


@contextmanager
def waiting_lock(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Wait for the lock of a file and hold it during the block; holders of a ``shared`` lock exclude no other.

    A file system without locks excludes no process.
    """
    file = _record(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
    try:
        try:
            fcntl.flock(file.descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        release_lock(file)
