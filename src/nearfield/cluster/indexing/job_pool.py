"""The workers of an index run: created as there are jobs, replaced when they stop. Only this file knows Ray's calls.

One thread does all of it. Other threads queue jobs and wait for the futures of their documents. Ray executes a call at
least once, or reports that it failed; jobs compute and write nothing, so that a second execution changes nothing.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from nearfield.cluster.connection_watch import ConnectionWatch, cluster_ended, one_line
from nearfield.cluster.indexing.index_tally import IndexTally
from nearfield.cluster.indexing.index_worker import IndexWorker
from nearfield.cluster.indexing.job_queue import DocumentSetAside, JobQueue, WorkJob
from nearfield.cluster.indexing.messages import EmbedReply, IndexOrder, MediaReply, SplitReply
from nearfield.cluster.shard_driver import OWNER_DIED, START_SECONDS
from nearfield.cluster.shard_worker import WorkerFacts
from nearfield.cluster.worker_options import StartFailures, WorkerPlan
from nearfield.corpus.indexing.report import ClusterCounts
from nearfield.errors import ClusterFailed, StorageFull
from nearfield.fileio.disk_space import is_disk_full

#: Seconds between looks at the cluster and at slow jobs while nothing happens.
_POLL_SECONDS = 1.0
#: Seconds to wait for workers at the end, and for the thread: a call of Ray may hang if the cluster is gone.
_CLOSE_SECONDS, _END_SECONDS = 5.0, 30.0
_STOPPED, _HANGS = "the worker that processed it stopped", "the worker that processed it did not answer"


@dataclass
class _PoolWorker:
    """A worker: Ray's handle, and where it runs once it is ready."""

    handle: Any
    facts: WorkerFacts | None = None
    is_ready: bool = False
    is_busy: bool = True


class JobPool:
    """Gives jobs to workers on a cluster. Close it after use.

    Args:
        ray: Ray's module, connected.
        plan: how many workers there are, and what each gets.
        order: what a worker needs before its first job.
        start_seconds: seconds to wait for the first worker.
    """

    def __init__(self, ray: Any, plan: WorkerPlan, order: IndexOrder, *, start_seconds: float = START_SECONDS) -> None:
        options = {"num_cpus": plan.cpus, "num_gpus": plan.gpus, "max_restarts": 0, "max_task_retries": 0}
        self._ray, self._plan, self._order = ray, plan, order
        self._actor = ray.remote(**options)(IndexWorker)
        self._order_reference = ray.put(order)
        self._files: Any = None
        self._queue, self._tally = JobQueue(), IndexTally()
        self._workers: dict[int, _PoolWorker] = {}
        self._created = self._unusable = 0
        self._failures = StartFailures()
        self._warnings: list[str] = []
        self._start_seconds, self._alone_since = start_seconds, time.monotonic()
        self._watch = ConnectionWatch.from_ray(ray)
        self._submitted: deque[WorkJob] = deque()
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._is_closed = False
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="nearfield-cluster", daemon=True)
        self._thread.start()

    # -- called by other threads -------------------------------------------------------------------------------

    def submit(self, job: WorkJob) -> None:
        """Queue a job. If no worker can run, the futures of its documents get the error.

        Raises:
            ClusterFailed: the cluster cannot be used.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            self._submitted.append(job)
        self._events.put(self._queue_submitted)

    def cancel(self) -> None:
        """End all waits for documents; no more can be queued."""
        with self._lock:
            self._error = self._error or CancelledError()
        self._events.put(self._drop)

    def close(self) -> None:
        """End the workers."""
        self._events.put(self._close)
        self._thread.join(_END_SECONDS)

    def status(self) -> str:
        """Return the speed of each machine, for the progress bar."""
        retries = f"  {self._queue.retries:,} again" if self._queue.retries else ""
        copies = f"  {self._queue.copies:,} slow" if self._queue.copies else ""
        return f"  {self._tally.to_text()}{retries}{copies}"

    def counts(self) -> ClusterCounts:
        """Return what each machine did."""
        return ClusterCounts(self._tally.nodes(), self._queue.retries, self._queue.copies, tuple(self._warnings))

    # -- the thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._is_closed:
                self._handle_events()
                self._step()
        except self._ray.exceptions.RaySystemError as error:
            self._fail(cluster_ended(one_line(error)))
        except BaseException as error:  # noqa: BLE001 - raised again where jobs are submitted
            self._fail(error)
        finally:
            if not self._watch.is_lost:
                self._end_workers()

    def _end_workers(self) -> None:
        """End all workers; those that are ready remove their temporary files first."""
        ready = [worker.handle for worker in self._workers.values() if worker.is_ready]
        with suppress(self._ray.exceptions.RayError):
            wait([handle.close.remote().future() for handle in ready], timeout=_CLOSE_SECONDS)
        for worker in self._workers.values():
            self._kill(worker)

    def _handle_events(self) -> None:
        """Wait for an event, and handle all that there are."""
        with suppress(queue.Empty):
            self._events.get(timeout=_POLL_SECONDS)()
            while True:
                self._events.get_nowait()()

    def _step(self) -> None:
        self._watch.check()
        self._check_workers()
        for number in [number for number, worker in self._workers.items() if not worker.is_busy]:
            self._assign(number)
        starting = sum(not worker.is_ready for worker in self._workers.values())
        room = self._plan.count - self._unusable - len(self._workers)
        for _ in range(min(room, self._queue.pending - starting)):
            self._create()

    def _fail(self, error: BaseException) -> None:
        """Give the error to all that wait, and to all that will."""
        with self._lock:
            self._error = error
        self._drop(error)

    def _queue_submitted(self) -> None:
        while self._submitted:
            self._queue.add(self._submitted.popleft())

    def _drop(self, error: BaseException | None = None) -> None:
        self._queue_submitted()
        self._queue.cancel(error)

    def _close(self) -> None:
        self._drop()
        self._is_closed = True

    # -- workers -----------------------------------------------------------------------------------------------

    def _create(self) -> None:
        number, handle = self._created, self._actor.remote()
        self._created += 1
        self._workers[number] = _PoolWorker(handle)
        self._call(number, handle.prepare.remote(self._order_reference))

    def _call(self, number: int, reference: Any) -> None:
        """Receive the result of a call when it comes: Ray's thread only queues it."""
        reference.future().add_done_callback(lambda done: self._events.put(partial(self._receive, number, done)))

    def _assign(self, number: int) -> None:
        worker = self._workers[number]
        others = frozenset(other for other, state in self._workers.items() if other != number and state.is_ready)
        job = self._queue.take(number, others)
        if job is not None:
            worker.is_busy = True
            requests = [unit.request for unit in job.units]
            self._call(number, getattr(worker.handle, job.method).remote(requests, *job.arguments))

    def _receive(self, number: int, done: Any) -> None:
        worker = self._workers.get(number)
        if worker is None or self._is_closed:
            return
        error = done.exception()
        if isinstance(error, self._ray.exceptions.RayTaskError):
            self._refuse(number, worker, error.cause or error)
        elif error is not None:
            self._lose(number, worker, error)
        elif worker.is_ready:
            self._settle(number, worker, done.result())
        else:
            self._start(number, worker, done.result())

    def _start(self, number: int, worker: _PoolWorker, facts: WorkerFacts) -> None:
        """Take note of a worker's machine, or send it the files of the models."""
        worker.facts = facts
        if facts.needs_files:
            if self._files is None:
                files = {name: model.parcel.read_files() for name, model in self._order.models.items()}
                self._files = self._ray.put(files)
            self._call(number, worker.handle.prepare.remote(self._order_reference, self._files))
            return
        worker.is_ready, worker.is_busy = True, False
        self._failures.reset()
        self._tally.add_worker(facts)

    def _settle(self, number: int, worker: _PoolWorker, values: Sequence[Any]) -> None:
        worker.is_busy = False
        job = self._queue.finish(number, values)
        if job is not None and worker.facts is not None:
            files = sum(isinstance(value, SplitReply) and value.is_complete for value in values)
            chunks = sum(len(value.rows) for value in values if isinstance(value, EmbedReply | MediaReply))
            self._tally.add(worker.facts, files=files, chunks=chunks if job.is_counted else 0)

    def _refuse(self, number: int, worker: _PoolWorker, error: BaseException) -> None:
        """Handle an error of a worker: of its machine, or of the documents that it got.

        Raises:
            ClusterFailed, StorageFull: no worker is left.
        """
        if worker.is_ready and not is_disk_full(error):
            worker.is_busy = False
            # No document is at fault: errors of documents are replies. A second worker may have what this one lacks.
            self._queue.lose(number, error)
            return
        self._remove(number, worker, error, blames=False)
        self._unusable += 1
        node = worker.facts.node if worker.facts is not None else "a node"
        message = f"The disk of {node} is full ({error}): its worker was not used further."
        self._warn(message if worker.is_ready else str(error))
        if self._unusable < self._plan.count:
            return
        if worker.is_ready:
            raise StorageFull(f"The disks of all workers are full. {message} Free some space, and repeat the command.")
        raise ClusterFailed(f"No worker could start. {error}")

    def _lose(self, number: int, worker: _PoolWorker, error: BaseException) -> None:
        """Queue the job of a worker that stopped; another worker is created if there are jobs.

        Raises:
            ClusterFailed: Ray stopped on this machine, or workers stop before they are ready.
        """
        if OWNER_DIED in str(error):
            # Ray would end this process without a word as soon as it looks for its objects.
            self._watch.is_lost = True
            raise cluster_ended("Ray on this machine does not answer")
        if not worker.is_ready:
            self._failures.add(error)
        self._remove(number, worker, DocumentSetAside(_STOPPED), blames=self._has_node(worker))

    def _remove(self, number: int, worker: _PoolWorker, error: BaseException, *, blames: bool) -> None:
        del self._workers[number]
        self._kill(worker)  # it may only be out of reach
        self._queue.lose(number, error, blames=blames)

    def _has_node(self, worker: _PoolWorker) -> bool:
        """Return whether the machine of a worker that stopped is still there."""
        alive = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
        return worker.facts is not None and worker.facts.node_id in alive

    def _check_workers(self) -> None:
        """End workers that hang, and the run if no worker can start."""
        for number in list(self._queue.hanging()):
            self._remove(number, self._workers[number], DocumentSetAside(_HANGS), blames=True)
        if self._queue.is_idle or any(worker.is_ready for worker in self._workers.values()):
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > self._start_seconds:
            raise ClusterFailed(
                f"No worker could start within {self._start_seconds:g} s: other programs may hold the cores of the "
                f"cluster (each worker needs {self._plan.cpus}). See `ray status`."
            )

    def _kill(self, worker: _PoolWorker) -> None:
        """End a worker; Ray cannot if it was not created yet."""
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(worker.handle)

    def _warn(self, message: str) -> None:
        if message not in self._warnings:
            self._warnings.append(message)
