"""Folders on this machine for files that are uploaded once they are complete; those of killed runs are removed."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from nearfield.fileio.locks import LockedFile, release_lock, try_lock

_PREFIX = "nearfield-shards-"
_LOCK = "lock"
#: Seconds in which a folder that was created gets its lock.
_LOCKING_SECONDS = 60


class LocalDrafts:
    """A folder in the system's folder for temporary files, which is locked until ``remove``."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = try_lock(self.folder / _LOCK, required=False)

    def remove(self) -> None:
        """Remove the folder and its files."""
        _remove(self.folder, self._lock)


def remove_abandoned() -> None:
    """Remove the folders of this user whose process has ended."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if _may_be_abandoned(folder) and (lock := try_lock(folder / _LOCK)) is not None:
            _remove(folder, lock)


def _may_be_abandoned(folder: Path) -> bool:
    try:
        state = folder.lstat()
    except FileNotFoundError:
        return False
    locked_once = (folder / _LOCK).exists() or state.st_mtime < time.time() - _LOCKING_SECONDS
    return folder.is_dir() and not folder.is_symlink() and state.st_uid == os.getuid() and locked_once


def _remove(folder: Path, lock: LockedFile | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if lock is not None:
        release_lock(lock)
