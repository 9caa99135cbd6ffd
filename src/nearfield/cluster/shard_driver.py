"""The driver of a run: it creates workers, gives them shards, and replaces those that stop. Only it knows Ray's calls.

Ray executes a call at least once, or reports that it failed. That each shard is written exactly once comes from the
records: a worker looks for the record first, and two workers at one shard write the same bytes, of which one set is
placed.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nearfield.bulk.report import ClusterReport
from nearfield.bulk.shard_encoder import ShardRows
from nearfield.bulk.shard_plan import Shard
from nearfield.cluster.connection_watch import ConnectionWatch, cluster_ended, one_line
from nearfield.cluster.node_tally import NodeTally
from nearfield.cluster.run_drafts import open_run_drafts
from nearfield.cluster.shard_queue import Assignment, ShardQueue, Work
from nearfield.cluster.shard_worker import ShardOutcome, ShardWorker, WorkerFacts, WorkerOrder
from nearfield.cluster.worker_options import StartFailures, WorkerPlan
from nearfield.errors import ClusterFailed
from nearfield.message_text import count_of
from nearfield.progress import Progress

#: Seconds between looks at slow shards while no worker answers.
_POLL_SECONDS = 1.0
#: Seconds after which a run without any worker ends: those that a cluster needs to start machines.
START_SECONDS = 300.0
#: What Ray says of a worker that it ended because this process, or its node, seems to be gone.
OWNER_DIED = "its owner has died"


@dataclass
class _Worker:
    """A worker: Ray's handle, the call that it is at, and where it runs once it is ready."""

    handle: Any
    reference: Any
    facts: WorkerFacts | None = None
    assignment: Assignment | None = None
    #: Whether the call only loads the model.
    is_starting: bool = True


@dataclass
class ShardDriver:
    """Gives the shards of a run to workers.

    Args:
        ray: Ray's module, connected.
        plan: how many workers there are, and what each gets.
        order: what a worker needs before its first shard.
        progress: counts rows and tokens.
        on_written: called with each shard that this run wrote.
        start_seconds: seconds to wait for the first worker.
    """

    ray: Any
    plan: WorkerPlan
    order: WorkerOrder
    progress: Progress
    on_written: Callable[[Shard], None]
    start_seconds: float = START_SECONDS
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        options = {"num_cpus": self.plan.cpus, "num_gpus": self.plan.gpus, "max_restarts": 0, "max_task_retries": 0}
        self._actor = self.ray.remote(**options)(ShardWorker)
        self._order = self.ray.put(self.order)
        self._files: Any = None
        self._drafts = open_run_drafts(self.ray, self.order.task.home, self.order.run)
        self._workers: dict[int, _Worker] = {}
        self._created, self._failures = 0, StartFailures()
        self._alone_since = time.monotonic()
        self._nodes = NodeTally()
        self._watch = ConnectionWatch.from_ray(self.ray)

    def run(self, shards: Sequence[Shard]) -> ClusterReport:
        """Encode shards; return what became of them.

        Raises:
            ClusterFailed: no worker can run.
            OSError: the disk is full.
        """
        self._queue = ShardQueue(shards)
        count = min(self.plan.count, len(shards))
        self.progress.announce(f"{self.order.task.home.name}  starting {count_of(count, 'worker')}")
        try:
            for _ in range(count):
                self._create()
            while not self._queue.is_done:
                self._step()
        except self.ray.exceptions.RaySystemError as error:
            raise cluster_ended(one_line(error)) from error
        finally:
            self._stop()
        return self._report()

    def _step(self) -> None:
        """Give shards to idle workers, and receive what has come back."""
        self._watch.check()
        for number in [number for number, worker in self._workers.items() if worker.reference is None]:
            self._assign(number)
        calls = {worker.reference: number for number, worker in self._workers.items() if worker.reference is not None}
        if calls:
            ready, _ = self.ray.wait(list(calls), num_returns=1, timeout=_POLL_SECONDS)
        else:
            ready = []
            time.sleep(_POLL_SECONDS / 10)
        for reference in ready:
            self._receive(calls[reference], reference)
        self._check_workers()

    # -- workers -----------------------------------------------------------------------------------------------

    def _create(self) -> None:
        handle = self._actor.remote()
        self._workers[self._created] = _Worker(handle, handle.prepare.remote(self._order))
        self._created += 1

    def _assign(self, number: int) -> None:
        worker = self._workers[number]
        worker.assignment = assignment = self._queue.take(number)
        if assignment is None:
            return
        if assignment.work == Work.EXAMINE:
            worker.reference = worker.handle.examine.remote(assignment.shard, *assignment.rows)
        else:
            worker.reference = worker.handle.encode.remote(assignment.shard)
        self._relabel()

    def _receive(self, number: int, reference: Any) -> None:
        worker = self._workers[number]
        try:
            result = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            self._refuse(number, str(error.cause or error))
        except self.ray.exceptions.RayError as error:
            self._lose(number, error)
        else:
            worker.reference = None
            if worker.is_starting:
                self._start(worker, result)
            elif worker.assignment is not None:
                self._settle(number, worker, worker.assignment, result)

    def _start(self, worker: _Worker, facts: WorkerFacts) -> None:
        """Take note of a worker's machine, or send it the files of the model."""
        worker.facts = facts
        if facts.needs_files:
            self._files = self._files or self.ray.put(self.order.parcel.read_files())
            worker.reference = worker.handle.prepare.remote(self._order, self._files)
            return
        worker.is_starting = False
        self._failures.reset()
        self._nodes.add_worker(facts)
        self._drafts.add_node(facts.node_id)

    def _refuse(self, number: int, message: str) -> None:
        """Give up a worker whose machine cannot do its work; without any other the run ends."""
        worker = self._workers.pop(number)
        self._kill(worker)
        if worker.assignment is not None:
            self._queue.fail(number, message)
            self._create()
            return
        self._warn(message)
        if not self._workers:
            raise ClusterFailed(f"No worker could start. {message}")

    def _lose(self, number: int, error: Exception) -> None:
        """Queue the shard of a worker that stopped, and create another worker."""
        if OWNER_DIED in str(error):
            # Ray would end this process without a word as soon as it looks for its objects.
            self._watch.is_lost = True
            raise cluster_ended("Ray on this machine does not answer")
        worker = self._workers.pop(number)
        self._kill(worker)  # it may only be out of reach
        if worker.is_starting:
            self._failures.add(error)
        elif worker.assignment is not None:
            self._queue_again(number, worker, worker.assignment)
        if len(self._workers) < self.plan.count and not self._queue.is_done:
            self._create()

    def _queue_again(self, number: int, worker: _Worker, assignment: Assignment) -> None:
        node_id = worker.facts.node_id if worker.facts is not None and self._has_node(worker) else None
        suspects = self._drafts.read_journal(assignment.shard.number, node_id)
        self._queue.lose(number, suspects=suspects, blames=node_id is not None)
        if self._queue.set_aside.get(assignment.shard.number) == "" and suspects is not None:
            self._queue.explain(assignment.shard.number, self._describe(assignment.shard, suspects[0]))

    def _has_node(self, worker: _Worker) -> bool:
        """Return whether the machine of a worker that stopped is still there."""
        alive = {node["NodeID"] for node in self.ray.nodes() if node["Alive"]}
        return worker.facts is not None and worker.facts.node_id in alive

    def _describe(self, shard: Shard, row: int) -> str:
        """Name a text, or a picture, sound or video, that ends the process that encodes it."""
        source = self.order.task.source
        item = next(item for number, item in enumerate(ShardRows(source).rows(shard)) if number == row)
        identity = "" if item.key is None else f", id {item.key!r:.200}"
        line = f"{source.paths[item.location.file]}, line {item.location.record.lines + 1}"
        remedy = "Remove it" if source.sets_aside else "Remove or shorten it"
        return (
            f"shard {shard.number}: the {source.unit} of {item.where or line}{identity}, "
            f"ends the process that encodes it. {remedy}, and repeat the command."
        )

    def _check_workers(self) -> None:
        """End workers that hang, and the run if no worker can start."""
        for assignment in list(self._queue.hanging()):
            self._kill(self._workers[assignment.worker])
        if any(not worker.is_starting for worker in self._workers.values()):
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > self.start_seconds:
            raise ClusterFailed(
                f"No worker could start within {self.start_seconds:g} s: other programs may hold the cores of the "
                f"cluster (each worker needs {self.plan.cpus}). See `ray status`."
            )

    # -- shards ------------------------------------------------------------------------------------------------

    def _settle(self, number: int, worker: _Worker, assignment: Assignment, outcome: ShardOutcome | None) -> None:
        """Record what became of a shard."""
        worker.assignment = None
        if outcome is None:
            self._queue.acquit(number)
        elif outcome.state in ("written", "exists"):
            self._count(worker, assignment, outcome, is_new=self._queue.finish(number))
        elif outcome.state == "busy":
            self._queue.postpone(number)
        elif outcome.state == "full":
            node = worker.facts.node if worker.facts is not None else "a node"
            warning = f"The disk of {node} is full ({outcome.message}): its workers were not used further."
            self._retire(number, warning, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        elif outcome.state == "cut off":
            self._retire(number, outcome.message, ClusterFailed(f"No worker can go on. {outcome.message}"))
        else:
            self._queue.fail(number, f"shard {assignment.shard.number}: {outcome.message}")

    def _count(self, worker: _Worker, assignment: Assignment, outcome: ShardOutcome, *, is_new: bool) -> None:
        if is_new and outcome.state == "written":
            self.on_written(assignment.shard)
        if is_new:
            self.progress.advance(assignment.shard.rows, outcome.tokens)
        if worker.facts is not None and outcome.state == "written":
            self._nodes.add_shard(worker.facts, outcome)
        self._relabel()

    def _retire(self, number: int, warning: str, error: Exception) -> None:
        """End a worker whose machine cannot write any more, and give its shard to another one.

        Raises ``error`` if no worker is left that can write.
        """
        worker = self._workers.pop(number)
        self._kill(worker)
        self._queue.lose(number, suspects=None, blames=False)
        self._warn(warning)
        if not self._workers:
            raise error

    def _kill(self, worker: _Worker) -> None:
        """End a worker; Ray cannot if it was not created yet."""
        with suppress(self.ray.exceptions.RayError):
            self.ray.kill(worker.handle)

    def _warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)

    def _relabel(self) -> None:
        queue = self._queue
        notes = f"  {queue.retries:,} again" if queue.retries else ""
        notes += f"  {queue.copies:,} slow" if queue.copies else ""
        home = self.order.task.home.name
        self.progress.relabel(f"{home} shard {queue.closed:,}/{len(queue.shards):,}  {self._nodes.to_text()}{notes}")

    def _stop(self) -> None:
        """End the workers and remove what they have not finished."""
        for worker in self._workers.values() if not self._watch.is_lost else ():
            self._kill(worker)
        if isinstance(self.order.task.home, Path) or not self._watch.is_lost:
            self._drafts.remove()

    def _report(self) -> ClusterReport:
        queue = self._queue
        messages = tuple(message for _, message in sorted(queue.set_aside.items()))
        return ClusterReport(self._nodes.reports(), queue.retries, queue.copies, messages, tuple(self.warnings))
