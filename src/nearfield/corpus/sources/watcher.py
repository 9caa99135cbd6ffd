"""Watch files and folders for changes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from nearfield.corpus.extractors.media.kinds import PICTURE, SOUND, VIDEO, media_type
from nearfield.errors import InputError, MissingExtra

#: Milliseconds in which further changes are reported together with the first, and between two checks of single files.
_DEBOUNCE, _INTERVAL = 1600, 1000

#: Seconds for which a media file must not grow before changes are reported, and for which they are withheld at most.
_QUIET_SECONDS, _MAX_WITHHELD_SECONDS = 2.0, 600.0

#: Device and inode identify a file or folder; time and size show changes of a file. None: the file does not exist.
_Identity = tuple[int, int] | None
_FileState = tuple[int, int, int, int] | None
#: Types of files that take long to copy.
_COPIED_TYPES = (PICTURE, SOUND, VIDEO)


def watch_paths(paths: Sequence[str], *, ignore: Sequence[Path] = ()) -> Iterator[set[str]]:
    """Yield sets of changed paths until the process is interrupted.

    The first set has all paths, once they are watched: the caller checks for earlier changes. While a picture, sound or
    video among the changed files still grows, since it is being copied, the changes are withheld.

    Args:
        paths: files, and folders with everything below them.
        ignore: resolved folders whose changes are ignored, such as those that the caller writes to.

    Raises:
        InputError: none of the paths exists.
        MissingExtra: watchfiles is not installed.
    """
    existing = [Path(path) for path in paths if Path(path).exists()]
    if not existing:
        raise InputError("None of the sources are files or folders that can be watched.")
    folders = [path for path in existing if path.is_dir()]
    # Saving often replaces a file by a new one of the same name, which only comparing its state shows.
    states: dict[Path, _FileState] = {path: None for path in existing if path not in folders}
    growing = _GrowingFiles()
    try:
        for changed in _watch_folders(folders, ignore):
            current = {path: _file_state(path) for path in states}
            changed |= {str(path) for path in states if current[path] != states[path]}
            states = current
            if settled := growing.add(changed):
                yield settled
    except KeyboardInterrupt:
        return


class _GrowingFiles:
    """Withholds changes while media files among them are being written."""

    def __init__(self) -> None:
        self._changed: set[str] = set()
        self._states: dict[str, _FileState] = {}
        self._began = self._grew = 0.0

    def add(self, changed: set[str]) -> set[str]:
        """Add changed paths; return all of them once no media file has grown for a while, and nothing before that."""
        now = time.monotonic()
        self._began = self._began if self._changed else now
        self._changed |= changed
        states = {path: _file_state(Path(path)) for path in self._changed if media_type(path) in _COPIED_TYPES}
        if states != self._states:
            self._states, self._grew = states, now
        if states and now - self._grew < _QUIET_SECONDS and now - self._began < _MAX_WITHHELD_SECONDS:
            return set()
        settled, self._changed, self._states = self._changed, set(), {}
        return settled


def _watch_folders(folders: Sequence[Path], ignore: Sequence[Path]) -> Iterator[set[str]]:
    """Yield the changed paths of folders every second, also if there are none; the first set has all folders."""
    try:
        import watchfiles
    except ModuleNotFoundError as error:
        raise MissingExtra("--watch needs watchfiles: pip install 'nearfield[corpus]'") from error

    def is_relevant(_: watchfiles.Change, path: str) -> bool:
        resolved = Path(path).resolve()
        return not any(resolved.is_relative_to(folder) for folder in ignore)

    known: list[_Identity] = [None] * len(folders)
    while True:
        identities = [_identity(path) for path in folders]
        existing = [path for path, identity in zip(folders, identities, strict=True) if identity is not None]
        # Changes since the last round went unnoticed, both in existing folders and in those that were removed.
        unnoticed = {str(path) for path, now, before in zip(folders, identities, known, strict=True) if now or before}
        known = identities
        if not existing:
            yield unnoticed
            time.sleep(_INTERVAL / 1000)
            continue
        try:
            for changes in watchfiles.watch(
                *existing,
                watch_filter=is_relevant,
                debounce=_DEBOUNCE,
                rust_timeout=_INTERVAL,
                yield_on_timeout=True,
                ignore_permission_denied=True,
            ):
                yield unnoticed | {path for _, path in changes}
                unnoticed = set()
                removed = {Path(path) for change, path in changes if change is watchfiles.Change.deleted}
                # A folder that was removed or replaced is no longer watched.
                if not removed.isdisjoint(folders) or [_identity(path) for path in folders] != identities:
                    break
        except FileNotFoundError:
            continue  # removed since the check above


def _identity(path: Path) -> _Identity:
    status = _status(path)
    return None if status is None else (status.st_dev, status.st_ino)


def _file_state(path: Path) -> _FileState:
    status = _status(path)
    return None if status is None else (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
