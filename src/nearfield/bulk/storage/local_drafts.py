"""Folders on this machine for files that are uploaded once they are complete; those of killed runs are removed."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nearfield.fileio.locks import LockedFile, release_lock, try_lock

_PREFIX = "nearfield-shards-"
_LOCK = "lock"
#: Seconds in which a folder that was created gets its lock.
_LOCKING_SECONDS = 60
#: Seconds for which processes that were ended are waited for.
_ENDING_SECONDS = 10.0


class LocalDrafts:
    """A folder in the system's folder for temporary files, which is locked until ``remove`` or the process ends.

    ``run`` is the name of the run on several machines that it belongs to.
    """

    def __init__(self, run: str = "") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=_prefix(run)))
        self._lock = try_lock(self.folder / _LOCK, required=False)

    def remove(self) -> None:
        """Remove the folder and its files."""
        _remove(self.folder, self._lock)


def _prefix(run: str) -> str:
    return f"{_PREFIX}{run}-" if run else _PREFIX


@contextmanager
def abandoned_folders(run: str = "") -> Iterator[list[Path]]:
    """Yield the folders of a run (by default of all) whose process has ended; they are locked during the block."""
    locked = []
    for folder in Path(tempfile.gettempdir()).glob(f"{_prefix(run)}*"):
        if _may_be_abandoned(folder) and (lock := try_lock(folder / _LOCK)) is not None:
            locked.append((folder, lock))
    try:
        yield [folder for folder, _ in locked]
    finally:
        for _, lock in locked:
            release_lock(lock)


def remove_abandoned(spared_run: str = "") -> None:
    """Remove the folders of this user whose process has ended, except those of a run that still needs them."""
    with abandoned_folders() as folders:
        for folder in folders:
            if not spared_run or not folder.name.startswith(_prefix(spared_run)):
                shutil.rmtree(folder, ignore_errors=True)


def remove_run(run: str, seconds: float = _ENDING_SECONDS) -> None:
    """Remove the folders of a run on this machine once its processes have ended, which are waited for."""
    deadline = time.monotonic() + seconds
    while any(Path(tempfile.gettempdir()).glob(f"{_prefix(run)}*")) and time.monotonic() < deadline:
        with abandoned_folders(run) as folders:
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


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
