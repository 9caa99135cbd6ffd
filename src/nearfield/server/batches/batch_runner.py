"""Run batches: many requests in one file, answered when the engine has capacity (OpenAI's Batch API).

Each finished line is appended to a partial file at once and is not repeated: after a kill at any moment, the next
process goes on where this one was.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from typing import Protocol

from nearfield.engine.fair_turns import FairTurns
from nearfield.errors import (
    AccessDenied,
    BatchesElsewhere,
    InputError,
    NotThere,
    QuotaExceeded,
    RateLimited,
    ShuttingDown,
    StorageFailed,
    StorageFull,
)
from nearfield.fileio.locks import LockedFile, release_lock, try_lock
from nearfield.server.batches.batch import UNFINISHED, BatchJob, BatchObject, Outcome
from nearfield.server.batches.batch_lines import BatchLine, LineError
from nearfield.server.batches.batch_slots import BatchSlots
from nearfield.server.batches.batch_store import BatchStore
from nearfield.server.batches.line_runner import LineHandler, LineRunner, RunnerStopped, end_tasks
from nearfield.server.batches.webhooks.webhook_sender import WebhookSender
from nearfield.server.files.file_store import FileStore, new_id
from nearfield.server.files.file_threads import in_thread
from nearfield.server.files.storage_errors import convert_storage_errors
from nearfield.server.http.content_bounds import ContentBounds
from nearfield.server.logs import LOG

#: Seconds within which a batch is done, or expires.
WINDOW = 86_400
#: Batches that are open at once, and those of them that compute.
_MAX_OPEN, _MAX_COMPUTING = 32, 2
#: Seconds of the longest wait, and of those between attempts of a cancelled batch's lines.
_MAX_WAIT, _CANCEL_WAIT = 30.0, 0.05
#: Seconds between two looks of a batch that waits at whether it was cancelled, or its slot is needed.
_LOOK_SECONDS = 0.5
#: Seconds for which the lines in work of a cancelled batch are tried.
_CANCEL_SECONDS = 5.0
#: Seconds that the lines in work get to end once they were cancelled.
_END_SECONDS = 1.0
#: Seconds after which a batch that waits for space on the disk tries again.
_SPACE_SECONDS = 5.0
#: Seconds by which a batch may have been created in the future before the clock counts as set back.
_MAX_CLOCK_LAG = 300.0
#: Name of the task that sends webhooks, among those of batches.
_WEBHOOKS = "webhooks"


class Worker(Protocol):
    """The process that runs the batches of this folder, as processes see it that only accept them."""

    def wake(self) -> None:
        """Let it look for work."""

    async def hold(self) -> bool:
        """Return whether it has the lock, or takes it now."""


class _SlotReleased(Exception):
    """The batch has released its slot, and goes on after some seconds."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class BatchRunner:
    """The batches of all keys, and the task that runs them: it runs while there is work, and has a lock."""

    def __init__(self, files: FileStore, handler: LineHandler, bounds: ContentBounds, webhooks: WebhookSender) -> None:
        self._files = files
        self._webhooks = webhooks
        self._store = BatchStore(files, bounds, webhooks)
        self._handler = handler
        self._stop = asyncio.Event()
        self._lines = LineRunner(handler, self._store, self._stop, self._left)
        self._more = asyncio.Event()
        self._slots = BatchSlots(_MAX_OPEN)
        self._turns = FairTurns(_MAX_COMPUTING)
        #: One file is checked at a time: several threads that decode would each make the event loop wait.
        self._checking = FairTurns()
        self._task: asyncio.Task[None] | None = None
        self._lock: LockedFile | None = None
        self._started = time.monotonic()
        #: Batches that failed in an unexpected way; they are tried again after the next request for them.
        self._given_up: set[str] = set()
        #: Batches to be cancelled, as of the last look at the records.
        self._cancelling: set[str] = set()
        #: Batches that wait for space on the disk.
        self._waiting: set[str] = set()
        #: The process that runs the batches, where it is another one.
        self.worker: Worker | None = None

    # -- for routes ------------------------------------------------------------------------------------------------

    async def create(
        self, owner: str, *, endpoint: str, input_file_id: str, metadata: dict[str, str] | None, seconds: int | None
    ) -> BatchObject:
        """Accept a batch; its file is read later.

        Raises:
            NotThere: there is no such file.
            InputError: the file is for another purpose, or the callback URL in the metadata is not allowed.
            BatchesElsewhere: another server runs the batches of this folder.
            TooManyBatches: the owner has as many unfinished ones as it may.
            StorageFull, StorageFailed: it cannot be recorded.
        """
        await self._webhooks.check(metadata, owner)
        try:
            file = await self._files.find(input_file_id, owner)
        except NotThere as error:
            raise NotThere(str(error), param="input_file_id") from error
        if file.purpose != "batch":
            raise InputError(f"{file.id} is of purpose {file.purpose!r}, not 'batch'.", param="input_file_id")
        now = self._store.now()
        batch = BatchObject(
            id=new_id("batch_"),
            object="batch",
            endpoint=endpoint,
            input_file_id=file.id,
            completion_window="24h",
            status="validating",
            created_at=now,
            expires_at=now + WINDOW,
            metadata=metadata,
        )
        job = BatchJob(batch, owner, new_id("file-"), new_id("file-"), seconds)
        if not await self.hold():
            raise BatchesElsewhere(
                "Another server process runs the batches of this data_dir: send them there, "
                "or give this server another data_dir."
            )
        try:
            await in_thread(self._store.insert, job)
        finally:
            self.wake()
        return batch

    async def find(self, name: str, owner: str) -> BatchObject:
        """Return a batch of an owner.

        Raises:
            NotThere: there is none.
        """
        batch = await in_thread(self._store.find, name, owner)
        if batch.status in UNFINISHED:
            self.wake()
        return batch

    async def page(self, owner: str, *, after: str | None, limit: int) -> tuple[list[BatchObject], bool]:
        """Return batches of an owner, newest first, and whether there are more.

        Raises:
            InputError: ``after`` is not the id of a batch of this owner.
        """
        batches, more = await in_thread(self._store.page, owner, after, limit)
        if any(batch.status in UNFINISHED for batch in batches):
            self.wake()
        return batches, more

    async def cancel(self, name: str, owner: str) -> BatchObject:
        """Stop a batch after the lines in work; finished lines stay in the results.

        Raises:
            NotThere: there is none.
            InputError: it has ended.
        """
        batch = await in_thread(self._store.change, name, owner, self._cancelled)
        self.wake()
        return batch

    # -- starting and stopping -------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Look for work in a background task: at the start, and whenever there may be some."""
        if self._stop.is_set():
            return
        if self.worker is not None:
            self.worker.wake()
            return
        self._given_up.clear()
        self._more.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    def stop(self) -> None:
        """Start no further lines, and read no further ones."""
        self._stop.set()
        self._store.stop()
        self._more.set()

    async def stopped(self, seconds: float) -> None:
        """Wait for the lines in work, at most ``seconds``: the next start does the remaining ones."""
        if self._task is None:
            return
        await asyncio.wait([self._task], timeout=seconds)
        self._task.cancel()
        await asyncio.wait([self._task], timeout=_END_SECONDS)

    async def hold(self) -> bool:
        """Take the lock of this folder's batches; return whether this process, or its worker process, has it."""
        return self._hold() if self.worker is None else await self.worker.hold()

    def _hold(self) -> bool:
        """Take the lock of this folder's batches; the system releases it when the process ends."""
        if self._lock is not None:
            return True
        with convert_storage_errors():
            self._lock = try_lock(self._files.folder / "batches.lock", mode=0o600)
        return self._lock is not None

    def _release(self) -> None:
        if self._lock is not None:
            release_lock(self._lock)
            self._lock = None

    async def _work(self) -> None:
        """Run all batches and send their webhooks until there are none; each batch has a task, and few compute."""
        running: dict[str, asyncio.Task[None]] = {}
        try:
            while self._files.used and self._hold() and not self._stop.is_set():
                self._more.clear()
                unfinished = await in_thread(self._store.unfinished)
                self._cancelling = {job.batch.id for job in unfinished if job.batch.status == "cancelling"}
                unknown = [job for job in unfinished if job.batch.id not in (running.keys() | self._given_up)]
                for job in self._slots.choose(unknown):
                    running[job.batch.id] = asyncio.create_task(self._attend(job))
                if _WEBHOOKS not in running and await self._webhooks.any_waiting():
                    running[_WEBHOOKS] = asyncio.create_task(self._webhooks.run(self._stop))
                pause = self._slots.next_end()
                if not running and not self._more.is_set() and pause is None:
                    return
                await self._any_done(list(running.values()), pause)
                running = {name: task for name, task in running.items() if not task.done()}
            await asyncio.gather(*running.values())
        except StorageFailed:
            pass  # it is logged, and the next request tries again
        finally:
            await end_tasks(running.values())
            self._release()

    async def _any_done(self, tasks: Sequence[asyncio.Task[None]], seconds: float | None) -> None:
        more = asyncio.create_task(self._more.wait())
        try:
            await asyncio.wait([more, *tasks], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            more.cancel()

    async def _attend(self, job: BatchJob) -> None:
        """Do all that there is to do for a batch, and let no error reach the others."""
        try:
            try:
                while not await self._advance_or_wait(job):
                    pass
            except (StorageFailed, QuotaExceeded, AccessDenied, NotThere) as error:
                await self._fail(job, LineError(error.code, str(error), param=getattr(error, "param", None)))
            LOG.info("batch %s %s", job.batch.id, job.batch.status)
        except _SlotReleased as released:
            self._slots.pause(job.batch.id, released.seconds)
        except (RunnerStopped, ShuttingDown):
            self._given_up.add(job.batch.id)
        except Exception as error:  # noqa: BLE001 - the other batches go on
            LOG.error("batch %s stands still: %s", job.batch.id, type(error).__name__, exc_info=error)
            self._given_up.add(job.batch.id)
        finally:
            self._slots.release(job.batch.id)

    async def _advance_or_wait(self, job: BatchJob) -> bool:
        """Do a batch's remaining work and return True; if the disk is full, wait a while and return False."""
        try:
            await self._advance(job)
        except StorageFull as error:
            if job.batch.id not in self._waiting:
                LOG.warning("batch %s waits for space: %s", job.batch.id, error)
            self._waiting.add(job.batch.id)
        else:
            self._waiting.discard(job.batch.id)
            return True
        while True:
            await self._wait(job, _SPACE_SECONDS)
            try:
                await in_thread(self._files.check_space, 0)
                # The record may have changed, and lines may be written that are not counted.
                job.batch, job.done = await in_thread(self._store.find, job.batch.id, job.owner), None
            except StorageFull:
                await self._pause(_LOOK_SECONDS)
                continue
            return False

    async def _advance(self, job: BatchJob) -> None:
        steps: dict[str, Callable[[BatchJob], Awaitable[None]]] = {
            "validating": self._validate,
            "in_progress": self._progress,
            "finalizing": lambda job: self._finish(job, "completed"),
            "cancelling": self._cancel,
        }
        while job.batch.status in UNFINISHED:
            if self._stop.is_set():
                raise RunnerStopped
            await steps[job.batch.status](job)

    # -- steps -----------------------------------------------------------------------------------------------------

    async def _validate(self, job: BatchJob) -> None:
        """Read the whole file once: what has not the shape of requests fails the batch before anything is done."""
        with closing(self._store.check(job)) as check:
            while True:
                async with self._checking.slot(job.owner):
                    if await in_thread(check.advance):
                        break
                job.batch = await in_thread(self._store.find, job.batch.id, job.owner)
                if job.batch.status != "validating":
                    return
                if self._slots.must_release(job, sliced=False):
                    raise _SlotReleased
        total, model, problems = check.total, check.model, check.problems

        def change(batch: BatchObject) -> None:
            if batch.status == "validating":
                batch.status, batch.in_progress_at = "in_progress", self._store.now()
                batch.request_counts.total, batch.model = total, model

        if problems:
            await self._fail(job, *problems)
        else:
            await self._update(job, change)

    async def _progress(self, job: BatchJob) -> None:
        """Answer all lines that are not done, a window at a time."""
        at = 0
        await self._resume(job)
        while job.batch.status == "in_progress":
            if self._left(job) <= 0:
                await in_thread(self._store.expire_rest, job)
                await self._finish(job, "expired")
                return
            window, at = await in_thread(self._store.window, job, at)
            if not window:
                break
            lines: Sequence[BatchLine] = window
            while lines and job.batch.status == "in_progress" and self._left(job) > 0:
                await self._wait_for_rate(job)
                pause = 0.0
                if job.batch.id not in self._cancelling:
                    await in_thread(self._store.check_quota, job)
                    async with self._turns.slot(job.owner):
                        lines, pause = await self._lines.answer(job, lines)
                await self._update(job, job.record_progress)
                if job.batch.status == "in_progress":
                    await self._wait(job, pause)
                    if self._slots.must_release(job):
                        raise _SlotReleased
            if lines and job.batch.id in self._cancelling:
                await self._end_window(job, lines)
        if job.batch.status == "in_progress":
            await self._update(job, self._finalizing)

    async def _end_window(self, job: BatchJob, window: Sequence[BatchLine]) -> None:
        """Answer the lines of a cancelled batch that were tried already, if there is capacity soon."""
        until = time.monotonic() + _CANCEL_SECONDS
        lines = [line for line in window if line.custom_id in job.attempts]
        while lines and time.monotonic() < until and self._left(job) > 0:
            await self._pause(_CANCEL_WAIT)
            async with self._turns.slot(job.owner):
                lines, _ = await self._lines.answer(job, lines)

    def _finalizing(self, batch: BatchObject) -> None:
        if batch.status == "in_progress":
            batch.status, batch.finalizing_at = "finalizing", self._store.now()

    async def _wait_for_rate(self, job: BatchJob) -> None:
        """Wait until the owner has tokens of this minute left."""
        while self._left(job) > 0 and job.batch.id not in self._cancelling:
            if self._stop.is_set():
                raise RunnerStopped
            try:
                self._handler.check_owner(job.owner)
            except RateLimited as error:
                await self._wait(job, error.retry_after)
            else:
                return

    async def _wait(self, job: BatchJob, seconds: float) -> None:
        """Sleep until the time is over, or the batch is to be cancelled.

        Raises:
            _SlotReleased: another owner needs the slot.
        """
        until = time.monotonic() + min(seconds, _MAX_WAIT)
        while (left := until - time.monotonic()) > 0 and job.batch.id not in self._cancelling:
            if self._slots.must_release(job, idle=True):
                raise _SlotReleased(left)
            await self._pause(min(left, _LOOK_SECONDS))

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not while the server stops."""
        try:
            await asyncio.wait_for(self._stop.wait(), min(seconds, _MAX_WAIT))
        except asyncio.TimeoutError:
            return
        raise RunnerStopped

    async def _cancel(self, job: BatchJob) -> None:
        await self._resume(job)
        await self._finish(job, "cancelled")

    async def _fail(self, job: BatchJob, *problems: LineError) -> None:
        await self._finish(job, "failed", problems)

    async def _finish(self, job: BatchJob, outcome: Outcome, problems: Sequence[LineError] = ()) -> None:
        """Move the results into place and record the outcome. After a kill in between, both are done again."""
        await self._resume(job)
        job.batch = await in_thread(self._store.conclude, job, outcome, problems)
        self._webhooks.wake()

    async def _resume(self, job: BatchJob) -> None:
        """Read which lines are done."""
        if job.done is None:
            await in_thread(self._store.read_done, job)

    async def _update(self, job: BatchJob, change: Callable[[BatchObject], None]) -> None:
        job.batch = await in_thread(self._store.change, job.batch.id, job.owner, change)

    def _left(self, job: BatchJob) -> float:
        """Return the seconds until a batch expires. One of a later time counts from the start of this process."""
        now = self._files.clock()
        if job.batch.created_at > now + _MAX_CLOCK_LAG:
            return WINDOW - (time.monotonic() - self._started)
        return (job.batch.expires_at or 0) - now

    # -- in threads ------------------------------------------------------------------------------------------------

    def _cancelled(self, batch: BatchObject) -> None:
        if batch.status in ("cancelling", "cancelled"):
            return
        if batch.status not in UNFINISHED:
            raise InputError(f"Cannot cancel a batch with status '{batch.status}'.", param="batch_id")
        batch.status, batch.cancelling_at = "cancelling", self._store.now()
