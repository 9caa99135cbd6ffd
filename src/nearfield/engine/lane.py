"""Lane: a thread that runs batches, and splits one that fails until the poison job is alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.engine.job import Batch, Job, Runner
from nearfield.errors import ExecutionFailed, NearfieldError

if TYPE_CHECKING:
    from nearfield.engine.scheduler import Scheduler

Outcome = list[tuple[Job, Any]]


class Lane(threading.Thread):
    """Takes a batch, runs it, delivers it, for as long as the scheduler hands any out."""

    def __init__(self, scheduler: Scheduler, number: int) -> None:
        super().__init__(name=f"nearfield-lane-{number}", daemon=True)
        self.number = number
        #: The batch being run, for whoever must take over if this thread dies.
        self.batch: Batch | None = None
        self.abandoned = False
        self._scheduler = scheduler
        self._runs: dict[Runner, Callable[[Batch], Any]] = {}

    def run(self) -> None:
        try:
            while self._step():
                pass
        except BaseException as death:  # noqa: BLE001
            # Not even SystemExit may lose work: the scheduler puts the batch back and starts another lane.
            self._scheduler.bury(self, death)

    def _step(self) -> bool:
        """Run one batch; waiting for the next, a lane holds nothing of the last one, nor of its model."""
        batch = self._scheduler.take(self)
        if batch is None:
            return False
        self._scheduler.deliver(self, batch, self.execute(batch))
        return True

    def execute(self, batch: Batch) -> Outcome:
        """Run a batch. An input that fails, or whose numbers are not finite, gets an error; others their results."""
        try:
            rows = self._function(batch.runner)(batch)
        except Exception as error:  # noqa: BLE001 - whatever a runtime raises is the input's error
            return self._split(batch, error)
        if isinstance(rows, np.ndarray) and np.isfinite(rows).all():
            return list(zip(batch.jobs, rows, strict=True))
        return [(job, row if _finite(row) else _undefined()) for job, row in zip(batch.jobs, rows, strict=True)]

    def _split(self, batch: Batch, error: Exception) -> Outcome:
        if len(batch.jobs) == 1:
            return [(batch.jobs[0], _explain(error))]
        middle = len(batch.jobs) // 2
        halves = (batch.jobs[:middle], batch.jobs[middle:])
        return [pair for jobs in halves for pair in self.execute(_batch_of(batch, jobs))]

    def _function(self, runner: Runner) -> Callable[[Batch], Any]:
        if runner not in self._runs:
            self._runs[runner] = runner.lane()
        return self._runs[runner]

    def forget(self, runner: Runner) -> None:
        """Drop what this lane holds of a model that is being unloaded."""
        self._runs.pop(runner, None)


def _finite(result: Any) -> bool:
    """Whether all numbers in a result are finite, whatever it is made of."""
    if isinstance(result, dict):
        return all(map(_finite, result.values()))
    return all(map(_finite, result)) if isinstance(result, tuple) else bool(np.isfinite(result).all())


def _undefined() -> ExecutionFailed:
    return ExecutionFailed("The model gave infinite or undefined values for this input.")


def _batch_of(batch: Batch, jobs: list[Job]) -> Batch:
    return Batch(batch.runner, jobs, batch.started)


def _explain(error: Exception) -> Exception:
    if isinstance(error, NearfieldError):
        return error
    failure = ExecutionFailed(f"The runtime failed on this input: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
