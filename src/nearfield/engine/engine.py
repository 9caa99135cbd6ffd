"""`Engine`: runs the tokenised inputs of any number of models in batches; `default_engine` is one for a process."""

from __future__ import annotations

import asyncio
import atexit
import weakref
from collections.abc import Callable
from typing import Any

from nearfield.argument_checks import require_kind, require_optional_counts
from nearfield.engine.admission import EngineLimits
from nearfield.engine.job import Batch, Job, Runner, Ticket
from nearfield.engine.scheduler import Scheduler
from nearfield.engine.stats import BatchReport, EngineStats
from nearfield.engine.turns import CALLER
from nearfield.fork_safety import PerProcess, ProcessLock
from nearfield.hardware import plan_cpu

__all__ = ["Batch", "BatchReport", "Engine", "EngineLimits", "EngineStats", "Job", "Runner", "Ticket", "default_engine"]


class Engine:
    """A scheduler and its lanes, for any number of models.

    Args:
        lanes: batches that run at the same time; by default as many as suit the hardware.
        limits: limits of the queue.
    """

    def __init__(self, lanes: int | None = None, limits: EngineLimits | None = None) -> None:
        require_optional_counts(lanes=lanes)
        require_kind("limits", limits, EngineLimits, "EngineLimits")
        self.lanes = lanes or plan_cpu().streams
        self._limits = limits or EngineLimits()
        self._observers: list[Callable[[BatchReport], None]] = []
        #: The queue and the threads. A forked process starts its own, and knows nothing of what waits in its parent.
        self._schedulers = PerProcess[Scheduler]()
        self._closed = False
        self._schedulers.get(self._create_scheduler)
        _ENGINES.add(self)

    @property
    def _scheduler(self) -> Scheduler:
        return self._schedulers.get(self._create_scheduler)

    def _create_scheduler(self) -> Scheduler:
        scheduler = Scheduler(self.lanes, self._limits, self._observers)
        if self._closed:
            scheduler.stop()
        return scheduler

    @property
    def observers(self) -> list[Callable[[BatchReport], None]]:
        """Functions called with a ``BatchReport`` after each batch, on the lane's thread, before its results are sent.

        The time that such a function takes delays the results. Errors that it raises are logged.
        """
        return self._observers

    @property
    def reasons(self) -> list[str]:
        """Reasons why the engine is not ready; empty if it is."""
        stats = self._scheduler.stats()
        reasons = [f"{stats.lanes - stats.lanes_alive} of {stats.lanes} lanes are being replaced"]
        return ["the engine is shutting down"] * stats.draining + reasons * (stats.lanes_alive < stats.lanes)

    @property
    def ready(self) -> bool:
        """Whether the engine accepts and runs work now."""
        return not self.reasons

    def submit(self, ticket: Ticket, *, wait: bool = False) -> Ticket:
        """Queue all jobs of a ticket, or none. ``wait`` waits for space in the queue in place of raising Overloaded.

        Raises:
            Overloaded: the queue is full, or the ticket's deadline would pass before it ran.
            ShuttingDown: the engine drains.
        """
        return self._scheduler.submit(ticket, wait=wait)

    def check_room(self) -> None:
        """Raise what ``submit`` would raise for a ticket of one token; call it before preparing a larger one."""
        self._scheduler.check_room(CALLER.get().owner)

    def cancel(self, ticket: Ticket) -> None:
        """Drop the jobs of a ticket that have not started; the ticket then ends with ``Cancelled``."""
        if not ticket.is_foreign:
            self._scheduler.cancel(ticket)

    async def run(self, ticket: Ticket) -> Any:
        """Queue a ticket and await its rows; cancelling the awaiting task drops the jobs that have not started."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not done.done():
                done.set_result(None)

        def on_done(_: Ticket) -> None:
            try:
                loop.call_soon_threadsafe(wake)
            except RuntimeError:
                return  # the loop is closed, and no task waits

        ticket.on_done = on_done
        try:
            self.submit(ticket)
            await done
        except asyncio.CancelledError:
            self.cancel(ticket)
            raise
        finally:
            ticket.report_unstarted()
        return ticket.outcome()

    def stats(self) -> EngineStats:
        """Return a snapshot of queues, lanes and speed."""
        return self._scheduler.stats()

    def forget(self, runner: Runner) -> None:
        """Release a model's memory now; its waiting jobs end with ``ShuttingDown``."""
        scheduler = self._schedulers.peek()
        if scheduler is not None:
            scheduler.release(runner)

    def release(self, runner: Runner, *, last: bool = False) -> None:
        """Release a model's memory once its work has ended; after the ``last`` model, stop.

        Takes no lock, so that a finalizer can call it.
        """
        scheduler = self._schedulers.peek()
        if scheduler is not None:
            scheduler.release_later(runner, last=last)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            "An Engine is queues and threads of one process and cannot be sent to another: create one there. Models "
            "that are sent use the default engine of the other process."
        )

    def drain(self, timeout: float = 30.0) -> bool:
        """Refuse new work and finish accepted work; return whether all of it ended within ``timeout`` seconds."""
        return self._scheduler.drain(timeout)

    def close(self, *, drain: bool = True, timeout: float = 30.0) -> None:
        """Stop, after finishing accepted work unless ``drain`` is False. A second call has no effect."""
        if self._closed:
            return
        self._closed = True
        scheduler = self._schedulers.peek()
        if scheduler is None:
            return
        if drain:
            scheduler.drain(timeout)
        scheduler.stop()


_ENGINES: weakref.WeakSet[Engine] = weakref.WeakSet()
_DEFAULT: list[Engine] = []
_DEFAULT_LOCK = ProcessLock()


def default_engine() -> Engine:
    """Return the engine that the models of this process share, created at the first call."""
    with _DEFAULT_LOCK:
        if not _DEFAULT or _DEFAULT[0]._closed:
            _DEFAULT[:] = [Engine()]
        return _DEFAULT[0]


@atexit.register
def _close_all() -> None:
    """Stop lanes before the interpreter exits while a native call runs."""
    for engine in list(_ENGINES):
        engine.close(drain=False)
