"""Watching: waiting until files change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from nearfield.errors import InputError, MissingExtra

#: Milliseconds in which further changes are taken together with the first.
_TOGETHER = 1600


def changes(paths: Sequence[str]) -> Iterator[set[str]]:
    """Yield the paths that changed, whenever some did; ends when the process is interrupted.

    Raises:
        InputError: there is nothing to watch.
        MissingExtra: the library is not installed.
    """
    there = [path for path in paths if Path(path).exists()]
    if not there:
        raise InputError("None of the sources are files or folders that can be watched.")
    try:
        import watchfiles
    except ModuleNotFoundError as error:
        raise MissingExtra("--watch needs watchfiles: pip install 'nearfield[corpus]'") from error
    for found in watchfiles.watch(*there, debounce=_TOGETHER, raise_interrupt=False):
        yield {path for _, path in found}
