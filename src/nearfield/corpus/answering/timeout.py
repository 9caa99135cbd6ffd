"""Deadline: what comes piece by piece from somewhere slow, until the time is up."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from nearfield.errors import NearfieldError

Piece = TypeVar("Piece")


def iterate_with_timeout(
    until: float, make: Callable[[threading.Event], Iterator[Piece]], late: Callable[[], NearfieldError]
) -> Iterator[Piece]:
    """Yield what ``make`` yields in a thread of its own, and raise ``late()`` when the time is up (``time.monotonic``).

    ``make`` is given an event that is set once nobody waits any more. A timeout on a socket would not do: it starts
    anew with each byte, and there is none on looking up a name.
    """
    stop, found = threading.Event(), queue.SimpleQueue[tuple[Piece] | BaseException | None]()

    def work() -> None:
        try:
            for piece in make(stop):
                found.put((piece,))
                if stop.is_set():
                    return
            found.put(None)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            found.put(error)

    threading.Thread(target=work, name="nearfield-waiting", daemon=True).start()
    try:
        while True:
            try:
                piece = found.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise late() from None
            if piece is None:
                return
            if isinstance(piece, BaseException):
                raise piece
            yield piece[0]
    finally:
        stop.set()
