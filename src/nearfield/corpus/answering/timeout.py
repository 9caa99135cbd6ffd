"""Iterate over a slow source until a deadline."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from nearfield.errors import NearfieldError

Piece = TypeVar("Piece")


def iterate_with_timeout(
    until: float, produce: Callable[[threading.Event], Iterator[Piece]], timeout_error: Callable[[], NearfieldError]
) -> Iterator[Piece]:
    """Yield what ``produce`` yields in another thread; raise ``timeout_error()`` at ``until`` (``time.monotonic``).

    ``produce`` receives an event that is set when its results are no longer needed. A timeout of the socket is not
    enough: it restarts with each byte, and there is none for looking up a host name.
    """
    stop, results = threading.Event(), queue.SimpleQueue[tuple[Piece] | BaseException | None]()

    def work() -> None:
        try:
            for piece in produce(stop):
                results.put((piece,))
                if stop.is_set():
                    return
            results.put(None)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that iterates
            results.put(error)

    threading.Thread(target=work, name="nearfield-waiting", daemon=True).start()
    try:
        while True:
            try:
                piece = results.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise timeout_error() from None
            if piece is None:
                return
            if isinstance(piece, BaseException):
                raise piece
            yield piece[0]
    finally:
        stop.set()
