"""`ExitTimer`: the end of a process whose shutdown takes too long."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from nearfield.server.logs import LOG

#: Seconds after ``drain_timeout`` for what remains: closing engines, files and caches.
_EXIT_SECONDS = 5.0


class ExitTimer:
    """Ends the process at a time after the shutdown began, whatever its threads do.

    Python waits for the threads of its pools before it exits, so one that waits for a disk would keep the process
    alive. Contents and records of files stay whole when a process ends at any moment.

    Args:
        clean_up: called before the process ends.
        end: ends the process with an exit code.
    """

    def __init__(self, clean_up: Callable[[], object] = lambda: None, end: Callable[[int], object] = os._exit) -> None:
        self._clean_up = clean_up
        self._end = end
        #: The time at which accepted requests must be finished (``time.monotonic``).
        self._drained: float | None = None
        #: Whether the server has stopped, and whether the interpreter exits.
        self._stopped = self._exiting = False

    def start(self, drain_seconds: float) -> None:
        """Start the timer, once: accepted requests have ``drain_seconds``, and what remains some more."""
        if self._drained is None:
            self._drained = time.monotonic() + drain_seconds
            register = getattr(threading, "_register_atexit", None)
            if register is not None:
                register(self._begin_exit)  # called before the interpreter waits for threads
            threading.Thread(
                target=self._run, args=(drain_seconds + _EXIT_SECONDS,), name="nearfield-exit", daemon=True
            ).start()

    def left(self, default: float) -> float:
        """Return the seconds that accepted requests have left; ``default`` if the timer was not started."""
        return default if self._drained is None else max(0.0, self._drained - time.monotonic())

    def stop(self) -> None:
        """Let the process live, unless the interpreter exits already or begins to."""
        self._stopped = True

    def _begin_exit(self) -> None:
        self._exiting = True

    def _run(self, seconds: float) -> None:
        time.sleep(seconds)
        if self._stopped and not self._exiting:
            return
        LOG.error("the shutdown took longer than %.0f s: the process ends now", seconds)
        try:
            self._clean_up()
        finally:
            self._end(1)
