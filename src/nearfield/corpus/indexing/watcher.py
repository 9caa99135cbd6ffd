"""Watching: waiting until files change."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nearfield.errors import InputError, MissingExtra

#: Milliseconds in which further changes are taken together with the first, and between two looks at single files.
_TOGETHER, _LOOK = 1600, 1000
#: What tells a file or folder from another one of its name, and a file from what it was.
_PLACE, _STATE = ("st_dev", "st_ino"), ("st_mtime_ns", "st_size")


def watch_paths(paths: Sequence[str], *, but: Sequence[Path] = ()) -> Iterator[set[str]]:
    """Yield the paths that changed, whenever some did; ends when the process is interrupted.

    It begins with all of them, once it watches: what changed before that is the caller's to find.

    Args:
        paths: folders, with all that is in them, and files.
        but: folders whose changes do not count, resolved, such as those that the caller writes into.

    Raises:
        InputError: there is nothing to watch.
        MissingExtra: the library is not installed.
    """
    there = [Path(path) for path in paths if Path(path).exists()]
    if not there:
        raise InputError("None of the sources are files or folders that can be watched.")
    folders = [path for path in there if path.is_dir()]
    # A file that is saved is often another one of its name: only looking at it finds that.
    files: dict[Path, Any] = {path: None for path in there if path not in folders}
    try:
        for found in _looks(folders, but):
            now = {path: _told(path, *_PLACE, *_STATE) for path in files}
            found |= {str(path) for path in files if now[path] != files[path]}
            files = now
            if found:
                yield found
    except KeyboardInterrupt:
        return


def _looks(folders: Sequence[Path], but: Sequence[Path]) -> Iterator[set[str]]:
    """Yield every second what changed in folders, nothing too, beginning with all of them."""
    try:
        import watchfiles
    except ModuleNotFoundError as error:
        raise MissingExtra("--watch needs watchfiles: pip install 'nearfield[corpus]'") from error

    def counts(_: Any, path: str) -> bool:
        found = Path(path).resolve()
        return not any(found.is_relative_to(each) for each in but)

    known: list[Any] = [None] * len(folders)
    while True:
        places = [_told(path, *_PLACE) for path in folders]
        there = [path for path, place in zip(folders, places, strict=True) if place is not None]
        # Nobody told of what changed since the last round: of those that are there, and of those that went.
        anew = {str(path) for path, now, before in zip(folders, places, known, strict=True) if now or before}
        known = places
        if not there:
            yield anew
            time.sleep(_LOOK / 1000)
            continue
        try:
            for found in watchfiles.watch(
                *there,
                watch_filter=counts,
                debounce=_TOGETHER,
                rust_timeout=_LOOK,
                yield_on_timeout=True,
                ignore_permission_denied=True,
            ):
                yield anew | {path for _, path in found}
                anew = set()
                removed = {Path(path) for change, path in found if change is watchfiles.Change.deleted}
                # A folder that is gone, or is another one of its name, is not watched any more.
                if not removed.isdisjoint(folders) or [_told(path, *_PLACE) for path in folders] != places:
                    break
        except FileNotFoundError:
            continue  # gone since it was looked at


def _told(path: Path, *names: str) -> tuple[Any, ...] | None:
    """Return what the system tells of a file; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return tuple(getattr(found, name) for name in names)
