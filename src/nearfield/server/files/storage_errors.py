"""Errors of the system and of SQLite as errors of the server, and the free space of a disk."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nearfield.errors import StorageFailed, StorageFull
from nearfield.server.logs import LOG

#: Seconds between two log lines about the same error.
_LOG_SECONDS = 60.0
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
#: When each failure was last logged (``time.monotonic``).
_logged: dict[str, float] = {}


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
        number = getattr(error, "errno", None)
        if number in _NO_DESCRIPTOR or (isinstance(error, sqlite3.Error) and out_of_descriptors()):
            _log_failure("the process has no file descriptors left: raise LimitNOFILE or ulimit -n")
            raise StorageFailed("The server has too many files and connections open. Try again in a moment.") from error
        _log_failure(str(error))
        full = getattr(error, "sqlite_errorname", "") == "SQLITE_IOERR_SHMSIZE" or "disk is full" in str(error)
        if full or number in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("The server's disk is full (data_dir): delete files, or free some space.") from error
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise StorageFailed(f"The server cannot read or write its files (data_dir): {reason}.") from error


def _log_failure(message: str) -> None:
    """Log a failure, the same one at most once a minute."""
    now = time.monotonic()
    if now - _logged.get(message, -_LOG_SECONDS) >= _LOG_SECONDS:
        if len(_logged) > 100:
            _logged.clear()
        _logged[message] = now
        LOG.error("storage failed: %s", message)


def out_of_descriptors() -> bool:
    """Return whether the process or the system can open no further file: SQLite does not say so."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in _NO_DESCRIPTOR
    return False


def disk_bytes(folder: Path) -> tuple[int, int]:
    """Return the size of the disk of a folder, which need not exist yet, and its free bytes."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    disk = os.statvfs(folder)
    return disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
