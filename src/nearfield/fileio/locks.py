"""Locking: one process at a time writes to a collection; the system lets go of the lock even where it is killed."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nearfield.errors import CollectionBusy

_held: dict[str, int] = {}
_guard = threading.RLock()


@contextmanager
def alone(path: Path, name: str) -> Iterator[None]:
    """Keep others from writing while the block runs; the thread that has the lock may take it again.

    Raises:
        CollectionBusy: another process or thread has it.
    """
    key, me = str(path.resolve()), threading.get_ident()
    with _guard:
        if _held.get(key) == me:
            again = True
        elif key in _held:
            raise _busy(name)
        else:
            again = False
            file = _lock(path, name)
            _held[key] = me
    try:
        yield
    finally:
        if not again:
            with _guard:
                del _held[key]
                os.close(file)


def _lock(path: Path, name: str) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise _busy(name) from None
    return file


def _busy(name: str) -> CollectionBusy:
    return CollectionBusy(f"Collection {name!r} is being written by another process or request: wait for its end.")
