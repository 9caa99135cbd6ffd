"""Fork safety: threads, locks and connections of a process do not work in a process that is forked from it.

A forked process has the memory of its parent, but of the threads only the one that forked. A lock that another thread
had taken is never released there; a pool waits for threads that do not exist; the pages of a compiled model belong to
a runtime whose threads are gone; and two processes that write to one socket mix their messages. What is in a
`PerProcess` or `ProcessLock` is therefore created again in a forked process, when it is first needed.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from nearfield.errors import ForkedProcess

T = TypeVar("T")


class ProcessLock:
    """A re-entrant lock that is free in a forked process, whichever thread of the parent had taken it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def acquire(self, timeout: float = -1) -> bool:
        """Take the lock; return False if it was not free within ``timeout`` seconds."""
        return self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        """Release the lock. Without effect at the end of a block that began before the fork."""
        try:
            self._lock.release()
        except RuntimeError:
            if not fork_count():
                raise

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def __reduce__(self) -> tuple[type[ProcessLock], tuple[()]]:
        return ProcessLock, ()

    def renew(self) -> None:
        """Replace the lock by a free one."""
        self._lock = threading.RLock()


class PerProcess(Generic[T]):
    """A value that each process has for itself, such as a thread pool, a connection or a compiled model.

    A forked process never destroys its parent's: the destructors of native libraries wait for threads that do not
    exist there, and to close a connection properly would end the parent's.
    """

    def __init__(self) -> None:
        self._lock = ProcessLock()
        self._values: tuple[T, ...] = ()
        _values.add(self)

    def get(self, create: Callable[[], T]) -> T:
        """Return this process's value, created at the first call."""
        values = self._values
        if not values:
            with self._lock:
                values = self._values = self._values or (create(),)
        return values[0]

    def peek(self) -> T | None:
        """Return this process's value, or None if it has none."""
        return self._values[0] if self._values else None

    def set(self, value: T) -> None:
        """Replace the value of this process."""
        self._values = (value,)

    def pop(self) -> T | None:
        """Remove the value of this process and return it; None if it has none."""
        values, self._values = self._values, ()
        return values[0] if values else None

    def __reduce__(self) -> tuple[type[PerProcess[T]], tuple[()]]:
        return PerProcess, ()

    def abandon(self) -> None:
        """Forget the parent's value without destroying it."""
        value = self.pop()
        if value is not None:
            never_destroy(value)


class ForkGuard:
    """Refuses a library in processes that were forked after it was used: it hangs or crashes there."""

    def __init__(self, library: str) -> None:
        self._library = library
        self._first: int | None = None

    def check(self) -> None:
        """Record a use of the library.

        Raises:
            ForkedProcess: it was used in a process from which this one was forked.
        """
        if self._first is None:
            self._first = fork_count()
        if self._first != fork_count():
            raise ForkedProcess(
                f"This process was forked after {self._library} was used, and {self._library} does not work in a "
                "forked process: open it in the new process only, or start that one with spawn or forkserver."
            )


def fork_count() -> int:
    """Return the number of forks between the first process of this program and this one."""
    return _forks


def call_after_fork(function: Callable[[], None]) -> None:
    """Call a function in each forked process, before anything else runs there. It must neither wait nor start threads.

    The first function that is registered is called first.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def never_destroy(value: object) -> None:
    """Let an object live until the process ends, and longer than the interpreter's own end."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


_forks = 0
_locks: WeakSet[ProcessLock] = WeakSet()
_values: WeakSet[PerProcess[Any]] = WeakSet()


def _after_fork() -> None:
    global _forks
    _forks += 1
    for lock in list(_locks):
        lock.renew()
    for value in list(_values):
        value.abandon()
    if "tokenizers" in sys.modules:
        # Its pool of threads is gone. The library notices that itself, except where this variable says true.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"


call_after_fork(_after_fork)
