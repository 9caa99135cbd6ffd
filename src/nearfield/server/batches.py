"""Batches: many requests in one file, done when there is room, as OpenAI's Batch API has it.

Each finished line is added to a partial file at once, and what such a file holds is not done again: a process may be
killed at any moment, and the next goes on where it was.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
import orjson

from nearfield.errors import (
    AccessDenied,
    BatchesElsewhere,
    Cancelled,
    InputError,
    ModelUnavailable,
    NearfieldError,
    NotThere,
    Overloaded,
    RateLimited,
    ShuttingDown,
    StorageFailed,
)
from nearfield.server.batch_file import Checker, Line, Problem, answers, append, decode, lines, mark, written
from nearfield.server.files import File, Files, guarding, in_thread, new_id
from nearfield.server.logs import LOG

Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
Outcome = Literal["failed", "completed", "expired", "cancelled"]
#: States in which there is work left.
UNFINISHED = ("validating", "in_progress", "finalizing", "cancelling")
#: Seconds within which a batch is done, or expires.
WINDOW = 86_400
#: Lines that are worked on at once, and their bytes: what is repeated after a kill, and waited for at a shutdown.
_WINDOW_LINES, _WINDOW_BYTES = 256, 256 * 1024
#: Batches that are open at once, and those of them that compute.
_OPEN, _COMPUTING = 32, 2
#: Seconds of the shortest and longest wait for room, and tries for a model that cannot be had.
_SHORTEST_WAIT, _LONGEST_WAIT, _MODEL_TRIES = 0.05, 30.0, 10


class Problems(msgspec.Struct):
    """All that is wrong, or the first hundred."""

    object: str
    data: list[Problem]


class Counts(msgspec.Struct):
    """Requests: all, those answered, and those refused or not done."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class InputDetails(msgspec.Struct):
    """Of the tokens read, those that were known."""

    cached_tokens: int = 0


class OutputDetails(msgspec.Struct):
    """Of the tokens written, those of reasoning."""

    reasoning_tokens: int = 0


class BatchUsage(msgspec.Struct):
    """Tokens read; none are written."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Batch(msgspec.Struct):
    """One batch, in the shape of OpenAI's API: https://platform.openai.com/docs/api-reference/batch/object"""

    id: str
    object: str
    endpoint: str
    input_file_id: str
    completion_window: str
    status: Status
    created_at: int
    expires_at: int | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: Problems | None = None
    request_counts: Counts = msgspec.field(default_factory=Counts)
    metadata: dict[str, str] | None = None
    model: str | None = None
    usage: BatchUsage | None = None


@dataclass(frozen=True)
class Answer:
    """The reply to one line, as it would have come to a request."""

    status: int
    body: bytes
    tokens: int = 0


class Desk(Protocol):
    """Who answers the lines."""

    def check_owner(self, owner: str) -> None:
        """Refuse what the owner may not have, or not now (AccessDenied, RateLimited)."""

    async def answer_line(self, url: str, body: Mapping[str, Any], owner: str, seconds: float) -> Answer:
        """Answer a request in the bulk class. Raises only what may be tried again: Overloaded, ShuttingDown."""

    def refuse_line(self, url: str, error: NearfieldError) -> Answer:
        """Give the reply that an error would have been."""


class Worker(Protocol):
    """The process that works on the batches of this folder, for those that only take them."""

    def wake(self) -> None:
        """Have it look for work."""

    async def hold(self) -> bool:
        """Say whether it may: whether it holds the lock, or has just taken it."""


@dataclass
class Job:
    """A batch, and what is known of its work."""

    batch: Batch
    owner: str
    output_id: str
    error_id: str
    #: Seconds for which the results are kept.
    seconds: int | None = None
    #: Marks of the lines that are done; None until the partial files were read.
    done: set[bytes] | None = None
    tokens: int = 0
    #: One line after another is written.
    pen: asyncio.Lock = field(default_factory=asyncio.Lock)


class _Stopped(Exception):
    """The server is stopping; the batch goes on at the next start."""


class Batches:
    """The batches of all keys, and the task that works on them: it runs while there is work, and holds a lock."""

    def __init__(self, files: Files, desk: Desk) -> None:
        self._files = files
        self._desk = desk
        self._stop = asyncio.Event()
        self._more = asyncio.Event()
        self._turn = asyncio.Semaphore(_COMPUTING)
        self._task: asyncio.Task[None] | None = None
        self._lock: int | None = None
        #: Batches that nothing more can be done for, until somebody asks again.
        self._given_up: set[str] = set()
        #: Who works on them, where that is another process than this.
        self.worker: Worker | None = None

    # -- for routes ------------------------------------------------------------------------------------------------

    async def create(
        self, owner: str, *, endpoint: str, input_file_id: str, metadata: dict[str, str] | None, seconds: int | None
    ) -> Batch:
        """Take a batch; its file is read later.

        Raises:
            NotThere: there is no such file.
            InputError: the file is for another purpose.
            BatchesElsewhere: another process runs the batches of this folder.
            StorageFull, StorageFailed: it cannot be recorded.
        """
        try:
            file = await self._files.find(input_file_id, owner)
        except NotThere as error:
            raise NotThere(str(error), param="input_file_id") from error
        if file.purpose != "batch":
            raise InputError(f"{file.id} is of purpose {file.purpose!r}, not 'batch'.", param="input_file_id")
        now = int(self._files.clock())
        batch = Batch(
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
        job = Job(batch, owner, new_id("file-"), new_id("file-"), seconds)
        if not await self.hold():
            raise BatchesElsewhere(
                "Another server process runs the batches of this data_dir: ask that one, or give this its own."
            )
        try:
            await in_thread(self._insert, job)
        finally:
            self.wake()
        return batch

    async def find(self, name: str, owner: str) -> Batch:
        """Return a batch of an owner's.

        Raises:
            NotThere: there is none.
        """
        batch = await in_thread(self._find, name, owner)
        if batch.status in UNFINISHED:
            self.wake()
        return batch

    async def page(self, owner: str, *, after: str | None, limit: int) -> tuple[list[Batch], bool]:
        """Return batches of an owner's, the newest first, and whether there are more.

        Raises:
            InputError: there is no batch ``after`` which to go on.
        """
        rows, more = await in_thread(self._files.rows, "batches", owner, after, limit, False, "1", [])
        found = [_batch(row) for row in rows]
        if any(batch.status in UNFINISHED for batch in found):
            self.wake()
        return found, more

    async def cancel(self, name: str, owner: str) -> Batch:
        """Have a batch stop after the lines at hand; what is done is kept.

        Raises:
            NotThere: there is none.
            InputError: it has ended.
        """
        batch = await in_thread(self._change, name, owner, self._cancelled)
        self.wake()
        return batch

    # -- starting and stopping -------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Look for work, in a task of its own: at the start, and whenever there may be some."""
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
        """Begin no further lines."""
        self._stop.set()
        self._more.set()

    async def stopped(self, seconds: float) -> None:
        """Wait for the lines at hand, or give them up after so many seconds: the next start does them."""
        if self._task is None:
            return
        await asyncio.wait([self._task], timeout=seconds)
        self._task.cancel()
        await asyncio.wait([self._task])

    async def hold(self) -> bool:
        """Take the lock that only one process may have; return whether that, or whoever works for this one, has it."""
        return self._hold() if self.worker is None else await self.worker.hold()

    def _hold(self) -> bool:
        """Take the lock that only one process may have; the system frees it when the process ends."""
        if self._lock is not None:
            return True
        with guarding():
            held = os.open(self._files.folder / "batches.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            return False
        self._lock = held
        return True

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _work(self) -> None:
        """Work on all batches until there are none; each has a task, and few compute at a time."""
        running: dict[str, asyncio.Task[None]] = {}
        try:
            while self._files.used and self._hold() and not self._stop.is_set():
                self._more.clear()
                for job in await in_thread(self._unfinished):
                    if job.batch.id not in running and len(running) < _OPEN:
                        running[job.batch.id] = asyncio.create_task(self._attend(job))
                if not running and not self._more.is_set():
                    return
                await self._any_done(list(running.values()))
                running = {name: task for name, task in running.items() if not task.done()}
            await asyncio.gather(*running.values())
        except StorageFailed:
            pass  # it is logged, and the next request tries again
        finally:
            await _end(running.values())
            self._release()

    async def _any_done(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        more = asyncio.create_task(self._more.wait())
        try:
            await asyncio.wait([more, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            more.cancel()

    async def _attend(self, job: Job) -> None:
        """Do all that there is to do for a batch, and let no error reach the others."""
        try:
            try:
                await self._advance(job)
            except (StorageFailed, AccessDenied, NotThere) as error:
                await self._fail(job, Problem(error.code, str(error), param=getattr(error, "param", None)))
            LOG.info("batch %s %s", job.batch.id, job.batch.status)
        except (_Stopped, ShuttingDown):
            self._given_up.add(job.batch.id)
        except Exception as error:  # noqa: BLE001 - the other batches go on
            LOG.error("batch %s stands still: %s", job.batch.id, type(error).__name__, exc_info=error)
            self._given_up.add(job.batch.id)

    async def _advance(self, job: Job) -> None:
        steps: dict[str, Callable[[Job], Awaitable[None]]] = {
            "validating": self._validate,
            "in_progress": self._progress,
            "finalizing": lambda job: self._finish(job, "completed"),
            "cancelling": self._cancel,
        }
        while job.batch.status in UNFINISHED:
            if self._stop.is_set():
                raise _Stopped
            await steps[job.batch.status](job)

    # -- steps -----------------------------------------------------------------------------------------------------

    async def _validate(self, job: Job) -> None:
        """Read the whole file once: what has not the shape of requests fails the batch before anything is done."""
        total, model, problems = await in_thread(self._check, job)

        def change(batch: Batch) -> None:
            if batch.status == "validating":
                batch.status, batch.in_progress_at = "in_progress", self._now()
                batch.request_counts.total, batch.model = total, model

        if problems:
            await self._fail(job, *problems)
        else:
            await self._update(job, change)

    async def _progress(self, job: Job) -> None:
        """Do all lines that are not done, a window at a time."""
        at = 0
        await self._resume(job)
        while job.batch.status == "in_progress":
            if self._left(job) <= 0:
                await in_thread(self._give_up_rest, job)
                await self._finish(job, "expired")
                return
            window, at = await in_thread(self._window, job, at)
            if not window:
                break
            await self._wait_for_rate(job)
            async with self._turn:
                await self._do(job, window)
            await self._update(job, lambda batch: _tell(job, batch))
        if job.batch.status == "in_progress":
            await self._update(job, self._finalizing)

    def _finalizing(self, batch: Batch) -> None:
        if batch.status == "in_progress":
            batch.status, batch.finalizing_at = "finalizing", self._now()

    async def _do(self, job: Job, window: Sequence[Line]) -> None:
        """Answer lines side by side: they share the engine's batches."""
        tasks = [asyncio.create_task(self._one(job, line)) for line in window]
        try:
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await _end(tasks)
        error = next((each for each in ended if each is not None), None)
        if error is not None:
            raise error

    async def _one(self, job: Job, line: Line) -> None:
        answer = await self._answer(job, line)
        if answer is None:
            return  # the time is up; what is left is told later
        good = answer.status == 200
        response = b'{"status_code":%d,"request_id":"%s","body":%s}' % (
            answer.status,
            new_id("req_").encode(),
            answer.body,
        )
        async with job.pen:
            name = job.output_id if good else job.error_id
            await in_thread(append, self._partial(name), written(line.custom_id, response, b"null"))
            _count(job, line.custom_id, good, answer.tokens)

    async def _answer(self, job: Job, line: Line) -> Answer | None:
        """Answer a line, and try again while there is no room; None once the batch has expired."""
        tries = 0
        while (left := self._left(job)) > 0:
            if self._stop.is_set():
                raise _Stopped
            body = {name: value for name, value in line.body.items() if value is not None}
            try:
                return await self._desk.answer_line(line.url, body, job.owner, left)
            except Overloaded as error:
                tries += 1
                if isinstance(error, ModelUnavailable) and tries > _MODEL_TRIES:
                    return self._desk.refuse_line(line.url, error)
                await self._pause(max(error.retry_after, _SHORTEST_WAIT * 2 ** min(tries, 20)))
            except Cancelled as error:
                raise ShuttingDown(str(error)) from error
        return None

    async def _wait_for_rate(self, job: Job) -> None:
        """Wait until the owner's tokens a minute leave room."""
        while self._left(job) > 0:
            if self._stop.is_set():
                raise _Stopped
            try:
                self._desk.check_owner(job.owner)
            except RateLimited as error:
                await self._pause(error.retry_after)
            else:
                return

    async def _pause(self, seconds: float) -> None:
        """Wait, but not when the server stops."""
        try:
            await asyncio.wait_for(self._stop.wait(), min(seconds, _LONGEST_WAIT))
        except asyncio.TimeoutError:
            return
        raise _Stopped

    async def _cancel(self, job: Job) -> None:
        await self._resume(job)
        await self._finish(job, "cancelled")

    async def _fail(self, job: Job, *problems: Problem) -> None:
        await self._finish(job, "failed", problems)

    async def _finish(self, job: Job, outcome: Outcome, problems: Sequence[Problem] = ()) -> None:
        """Put the results in place and record the end: both, or, after a kill, once more."""
        await self._resume(job)
        job.batch = await in_thread(self._conclude, job, outcome, problems)

    async def _resume(self, job: Job) -> None:
        """Learn what is done."""
        if job.done is None:
            await in_thread(self._read_done, job)

    async def _update(self, job: Job, change: Callable[[Batch], None]) -> None:
        job.batch = await in_thread(self._change, job.batch.id, job.owner, change)

    def _now(self) -> int:
        return int(self._files.clock())

    def _left(self, job: Job) -> float:
        return (job.batch.expires_at or 0) - self._files.clock()

    def _partial(self, name: str) -> Path:
        return self._files.path(name + ".partial")

    # -- in threads ------------------------------------------------------------------------------------------------

    def _insert(self, job: Job) -> None:
        with self._files.records(write=True) as database:
            database.execute(
                "INSERT INTO batches (id, owner, status, output_id, error_id, output_seconds, record)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    job.batch.id,
                    job.owner,
                    job.batch.status,
                    job.output_id,
                    job.error_id,
                    job.seconds,
                    msgspec.json.encode(job.batch),
                ),
            )

    def _find(self, name: str, owner: str) -> Batch:
        if not self._files.used:
            raise _missing(name)
        with self._files.records() as database:
            return _row(database, name, owner)

    def _change(self, name: str, owner: str, change: Callable[[Batch], None]) -> Batch:
        if not self._files.used:
            raise _missing(name)
        with self._files.records(write=True) as database:
            batch = _row(database, name, owner)
            change(batch)
            _store(database, batch)
        return batch

    def _cancelled(self, batch: Batch) -> None:
        if batch.status in ("cancelling", "cancelled"):
            return
        if batch.status not in UNFINISHED:
            raise InputError(f"Cannot cancel a batch with status '{batch.status}'.", param="batch_id")
        batch.status, batch.cancelling_at = "cancelling", self._now()

    def _unfinished(self) -> list[Job]:
        self._files.sweep()
        marks = ", ".join("?" * len(UNFINISHED))
        with self._files.records() as database:
            rows = database.execute(
                f"SELECT * FROM batches WHERE status IN ({marks}) ORDER BY seq", UNFINISHED
            ).fetchall()
        jobs = [
            Job(_batch(row), row["owner"], row["output_id"], row["error_id"], row["output_seconds"]) for row in rows
        ]
        return [job for job in jobs if job.batch.id not in self._given_up]

    def _check(self, job: Job) -> tuple[int, str | None, list[Problem]]:
        checker = Checker(job.batch.endpoint)
        for number, raw, _ in lines(self._input(job)):
            if not checker.take(number, raw):
                break
        problems = checker.verdict()
        return checker.total, checker.model, problems

    def _input(self, job: Job) -> Path:
        try:
            return self._files.path(self._files.look(job.batch.input_file_id, job.owner).id)
        except NotThere as error:
            raise NotThere(
                f"The file {job.batch.input_file_id} was deleted or has expired before the batch was done.",
                param="input_file_id",
            ) from error

    def _window(self, job: Job, at: int) -> tuple[list[Line], int]:
        """Return the next lines that are not done, and where to go on."""
        found: list[Line] = []
        size = 0
        for _, raw, end in lines(self._input(job), at):
            at = end
            line = decode(raw)
            if mark(line.custom_id) in (job.done or ()):
                continue
            found.append(line)
            size += len(raw)
            if len(found) >= _WINDOW_LINES or size >= _WINDOW_BYTES:
                break
        return found, at

    def _give_up_rest(self, job: Job) -> None:
        """Tell of each line that is not done that its time is up."""
        text = "This request could not be executed before the completion window expired."
        error = orjson.dumps({"code": "batch_expired", "message": text})
        for _, raw, _ in lines(self._input(job)):
            custom_id = decode(raw).custom_id
            if mark(custom_id) not in (job.done or ()):
                append(self._partial(job.error_id), written(custom_id, b"null", error))
                _count(job, custom_id, False, 0)

    def _read_done(self, job: Job) -> None:
        """Read the partial files; a last line that is not whole is cut off."""
        job.done, job.tokens, job.batch.request_counts = set(), 0, Counts(job.batch.request_counts.total)
        for name, good in ((job.output_id, True), (job.error_id, False)):
            partial, final = self._partial(name), self._files.path(name)
            with guarding():
                if final.exists() and not partial.exists():
                    final.replace(partial)  # killed between this and the record of the end
                if not partial.exists():
                    continue
                whole = 0
                for custom_id, tokens, end in answers(partial):
                    _count(job, custom_id, good, tokens if good else 0)
                    whole = end
                if whole < partial.stat().st_size:
                    os.truncate(partial, whole)

    def _conclude(self, job: Job, outcome: Outcome, problems: Sequence[Problem]) -> Batch:
        results = [self._place(job, name, kind) for name, kind in ((job.output_id, "output"), (job.error_id, "error"))]
        with self._files.records(write=True) as database:
            batch = _row(database, job.batch.id, job.owner)
            for file in results:
                if file is not None:
                    self._files.add(database, file, job.owner)
            batch.output_file_id, batch.error_file_id = (file.id if file is not None else None for file in results)
            _tell(job, batch)
            if problems:
                batch.errors = Problems("list", list(problems))
            batch.status = outcome
            setattr(batch, f"{outcome}_at", self._now())
            _store(database, batch)
        return batch

    def _place(self, job: Job, name: str, kind: str) -> File | None:
        """Give a partial file its final name; one without lines is no file."""
        partial = self._partial(name)
        with guarding():
            if not partial.exists() or not (size := partial.stat().st_size):
                partial.unlink(missing_ok=True)
                return None
            with partial.open("rb") as content:
                os.fsync(content.fileno())
        self._files.place(partial, name)
        now = self._now()
        until = None if job.seconds is None else now + job.seconds
        return File(name, "file", size, now, f"{job.batch.id}_{kind}.jsonl", "batch_output", "processed", until)


def _count(job: Job, custom_id: str, good: bool, tokens: int) -> None:
    if job.done is None:
        raise RuntimeError("lines are counted once it is known what is done")
    job.done.add(mark(custom_id))
    counts = job.batch.request_counts
    counts.completed, counts.failed = counts.completed + good, counts.failed + (not good)
    job.tokens += tokens


def _tell(job: Job, batch: Batch) -> None:
    """Write into the record how far the work is."""
    counts = job.batch.request_counts
    batch.request_counts = Counts(batch.request_counts.total, counts.completed, counts.failed)
    batch.usage = BatchUsage(job.tokens, InputDetails(), 0, OutputDetails(), job.tokens)


async def _end(tasks: Any) -> None:
    """Cancel what still runs, and wait for it."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _row(database: sqlite3.Connection, name: str, owner: str) -> Batch:
    row = database.execute("SELECT * FROM batches WHERE id = ? AND owner = ?", (name, owner)).fetchone()
    if row is None:
        raise _missing(name)
    return _batch(row)


def _missing(name: str) -> NotThere:
    return NotThere(f"No batch found with id '{name[:100]}'.", param="batch_id")


def _store(database: sqlite3.Connection, batch: Batch) -> None:
    database.execute(
        "UPDATE batches SET status = ?, record = ? WHERE id = ?", (batch.status, msgspec.json.encode(batch), batch.id)
    )


def _batch(row: sqlite3.Row) -> Batch:
    return msgspec.json.decode(row["record"], type=Batch)
