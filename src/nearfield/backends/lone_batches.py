"""A program for small batches that run alone: all threads compute one together, where the others would be idle."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from nearfield.arrays import Array
from nearfield.backends import Executor, Inputs, Program

#: Tokens of a batch up to which threads gain from each other. Larger ones come with others, which the lanes share.
MOST_TOKENS = 256


class LoneBatchProgram:
    """Two programs of one graph: with a stream a lane, and with one stream of all threads for what runs alone."""

    def __init__(self, shared: Program, lone: Program) -> None:
        self._shared, self._lone = shared, lone
        self.precision = shared.precision
        self._lock = threading.Lock()
        self._running = 0

    def create_executor(self) -> Executor:
        return _Executor(self, self._shared.create_executor(), self._lone.create_executor())

    @contextmanager
    def running(self) -> Iterator[bool]:
        """Count a batch while it runs; the value is whether no other does when it starts."""
        with self._lock:
            alone = self._running == 0
            self._running += 1
        try:
            yield alone
        finally:
            with self._lock:
                self._running -= 1


class _Executor:
    def __init__(self, program: LoneBatchProgram, shared: Executor, lone: Executor) -> None:
        self._program, self._shared, self._lone = program, shared, lone

    def run(self, inputs: Inputs, outputs: Sequence[str]) -> dict[str, Array]:
        with self._program.running() as alone:
            small = inputs["segments"].size <= MOST_TOKENS
            return (self._lone if alone and small else self._shared).run(inputs, outputs)
