"""The engine: takes tokenised jobs of any number of models, runs them in good batches, and ends every one of them."""

from __future__ import annotations

import asyncio
import atexit
import threading
import weakref
from typing import Any

from nearfield.engine.job import Batch, Job, Runner, Ticket
from nearfield.engine.scheduler import BatchReport, EngineLimits, EngineStats, Scheduler
from nearfield.hardware import plan_cpu

__all__ = ["Batch", "BatchReport", "Engine", "EngineLimits", "EngineStats", "Job", "Runner", "Ticket", "default_engine"]


class Engine:
    """Lanes and their scheduler. One serves any number of models; ``lanes`` batches run at once."""

    def __init__(self, lanes: int | None = None, limits: EngineLimits | None = None) -> None:
        self.lanes = lanes or plan_cpu().streams
        self._scheduler = Scheduler(self.lanes, limits or EngineLimits())
        self._closed = False
        _ENGINES.add(self)

    @property
    def observers(self) -> list[Any]:
        """Functions called with a ``BatchReport`` after each batch, on the lane's thread, before its answers are given.

        What such a function takes is added to each answer. What it raises is logged, and costs nothing else.
        """
        return self._scheduler.observers

    @property
    def reasons(self) -> list[str]:
        """Why the engine is not ready; empty when it is."""
        stats = self._scheduler.stats()
        reasons = [f"{stats.lanes - stats.lanes_alive} of {stats.lanes} lanes are being replaced"]
        return ["the engine is shutting down"] * stats.draining + reasons * (stats.lanes_alive < stats.lanes)

    @property
    def ready(self) -> bool:
        """Whether work would be taken and run now."""
        return not self.reasons

    def submit(self, ticket: Ticket, *, wait: bool = False) -> Ticket:
        """Queue a ticket (see ``Scheduler.submit``)."""
        return self._scheduler.submit(ticket, wait=wait)

    def check_room(self) -> None:
        """Raise what ``submit`` would raise for the smallest ticket, before anything is spent on a larger one."""
        self._scheduler.check_room()

    def cancel(self, ticket: Ticket) -> None:
        """Drop what of a ticket has not started."""
        self._scheduler.cancel(ticket)

    async def run(self, ticket: Ticket) -> Any:
        """Queue a ticket and await its rows; cancelling the awaiting task drops what has not started."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not done.done():
                done.set_result(None)

        def on_done(_: Ticket) -> None:
            try:
                loop.call_soon_threadsafe(wake)
            except RuntimeError:
                return  # the loop is closed: nobody is left to be told

        ticket.on_done = on_done
        self.submit(ticket)
        try:
            await done
        except asyncio.CancelledError:
            self.cancel(ticket)
            raise
        return ticket.outcome()

    def stats(self) -> EngineStats:
        """Return a snapshot of queues, lanes and speed."""
        return self._scheduler.stats()

    def forget(self, runner: Runner) -> None:
        """Let go of a model's memory."""
        self._scheduler.forget(runner)

    def release(self, runner: Runner, *, last: bool = False) -> None:
        """Let go of a model's memory once its work is done, and stop with the ``last`` one; for models that nobody has.

        Takes no lock, so that it may be called where an object is collected.
        """
        self._scheduler.release(runner, last=last)

    def drain(self, timeout: float = 30.0) -> bool:
        """Refuse new work, finish the accepted; return whether all of it ended within ``timeout`` seconds."""
        return self._scheduler.drain(timeout)

    def close(self, *, drain: bool = True, timeout: float = 30.0) -> None:
        """Stop, after finishing accepted work unless ``drain`` is False. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if drain:
            self.drain(timeout)
        self._scheduler.stop()


_ENGINES: weakref.WeakSet[Engine] = weakref.WeakSet()
_DEFAULT: list[Engine] = []
_DEFAULT_LOCK = threading.Lock()


def default_engine() -> Engine:
    """Return the engine that this process's models share, made at first use."""
    with _DEFAULT_LOCK:
        if not _DEFAULT or _DEFAULT[0]._closed:
            _DEFAULT[:] = [Engine()]
        return _DEFAULT[0]


@atexit.register
def _close_all() -> None:
    """Stop lanes before the interpreter is torn down under a running native call."""
    for engine in list(_ENGINES):
        engine.close(drain=False)
