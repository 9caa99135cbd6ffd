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
from pathlib import Path

from nearfield.fork_safety import ProcessLock, call_after_fork

_thread_of: dict[str, int] = {}
_guard = ProcessLock()
#: Descriptors of locked files. A lock lasts until all copies of its descriptor are closed, and a fork copies them.
_locked: set[int] = set()


def try_lock(path: Path, *, mode: int = 0o666, required: bool = True) -> int | None:
    """Return the descriptor of a file that is now locked for this process, or None if another one has the lock.

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
            _locked.add(file)
            return file
        os.close(file)  # the previous holder removed the file after it was opened here


def release_lock(file: int) -> None:
    """Close the descriptor of a locked file. A process that was forked since then has closed its copy already."""
    if file in _locked:
        _locked.remove(file)
        os.close(file)


def _after_fork() -> None:
    """Close the copies of the parent's locks, which would last as long as this process otherwise."""
    for file in _locked:
        os.close(file)
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

    ``remove`` deletes the lock file at the end of the block, while the lock is still held.
    """
    file = try_lock(path, required=required)
    if file is None:
        raise busy()
    try:
        yield
    finally:
        if remove:
            path.unlink(missing_ok=True)
        release_lock(file)


@contextmanager
def reentrant_lock(path: Path, busy: Callable[[], Exception]) -> Iterator[None]:
    """Hold the lock of a file during the block; the thread that holds it may take it again.

    Raises ``busy()`` if another process or thread has the lock.
    """
    key, thread = str(path.resolve()), threading.get_ident()
    file: int | None = None
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
        if file is not None:
            with _guard:
                _thread_of.pop(key, None)
                release_lock(file)


@contextmanager
def waiting_lock(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Wait for the lock of a file and hold it during the block; holders of a ``shared`` lock exclude no other.

    A file system without locks excludes no process.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    _locked.add(file)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        release_lock(file)
