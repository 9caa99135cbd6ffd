"""Lanes: threads that run batches, and bisect a failing batch until the failing input is alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from nearfield.arrays import ResultRow
from nearfield.engine.equal_jobs import with_twins
from nearfield.engine.job import Batch, Job, Runner
from nearfield.errors import ExecutionFailed, NearfieldError, OutOfMemory

#: The result or the error of each job of a batch.
BatchOutcome = list[tuple[Job, "ResultRow | Exception"]]


class LaneScheduler(Protocol):
    """The part of the scheduler that a lane uses."""

    def take(self, lane: Lane) -> Batch | None:
        """Return the lane's next batch, waiting for one; None if the lane has to stop."""

    def deliver(self, lane: Lane, batch: Batch, outcome: BatchOutcome) -> None:
        """Take the results of a batch."""

    def on_lane_died(self, lane: Lane, cause: BaseException) -> None:
        """Replace a lane whose thread ends with an exception."""


class Lane(threading.Thread):
    """A thread that takes a batch, runs it and delivers it, until the scheduler has no more for it."""

    def __init__(self, scheduler: LaneScheduler, number: int) -> None:
        super().__init__(name=f"nearfield-lane-{number}", daemon=True)
        self.number = number
        #: The batch that runs now. If this thread dies, the scheduler queues it again.
        self.batch: Batch | None = None
        #: Whether the lane was replaced because its batch hangs. Its results are then ignored.
        self.abandoned = False
        self._scheduler = scheduler
        self._functions: dict[Runner, Callable[[Batch], Any]] = {}

    def run(self) -> None:
        """Run batches until the scheduler stops the lane."""
        try:
            while self._step():
                pass
        except BaseException as death:  # noqa: BLE001
            # Not even SystemExit may lose work: the scheduler queues the batch again and starts another lane.
            self._scheduler.on_lane_died(self, death)

    def _step(self) -> bool:
        """Run one batch. While waiting for the next one, a lane holds no reference to the last one or its model."""
        batch = self._scheduler.take(self)
        if batch is None:
            return False
        self._scheduler.deliver(self, batch, with_twins(self.execute(batch)))
        return True

    def execute(self, batch: Batch) -> BatchOutcome:
        """Return each job's result; an error for an input that fails or whose numbers are not finite."""
        try:
            rows = self._function(batch.runner)(batch)
        except Exception as error:  # noqa: BLE001 - whatever a runtime raises is the input's error
            return self._bisect(batch, error)
        if isinstance(rows, np.ndarray) and np.isfinite(rows).all():
            return list(zip(batch.jobs, rows, strict=True))
        return [(job, row if _is_finite(row) else _not_finite()) for job, row in zip(batch.jobs, rows, strict=True)]

    def _bisect(self, batch: Batch, error: Exception) -> BatchOutcome:
        if len(batch.jobs) == 1:
            return [(batch.jobs[0], _input_error(error))]
        middle = len(batch.jobs) // 2
        halves = (batch.jobs[:middle], batch.jobs[middle:])
        return [pair for jobs in halves for pair in self.execute(Batch(batch.runner, jobs, batch.started))]

    def _function(self, runner: Runner) -> Callable[[Batch], Any]:
        if runner not in self._functions:
            self._functions[runner] = runner.create_lane_function()
        return self._functions[runner]

    def release(self, runner: Runner) -> None:
        """Release this lane's memory of a model that is unloaded."""
        self._functions.pop(runner, None)


def _is_finite(result: ResultRow) -> bool:
    """Return whether all numbers in a result are finite, in arrays, tuples and dictionaries."""
    if isinstance(result, dict):
        return all(map(_is_finite, result.values()))
    return all(map(_is_finite, result)) if isinstance(result, tuple) else bool(np.isfinite(result).all())


def _not_finite() -> ExecutionFailed:
    return ExecutionFailed("The model gave infinite or undefined values for this input.")


def _input_error(error: Exception) -> Exception:
    if isinstance(error, NearfieldError):
        return error
    if isinstance(error, MemoryError):
        return OutOfMemory("The server has too little memory for this input now. Try again later.")
    failure = ExecutionFailed(f"The runtime failed on this input: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
