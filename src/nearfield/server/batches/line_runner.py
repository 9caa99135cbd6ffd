"""`LineRunner`: answers the lines of batches and stores the answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from nearfield.errors import Cancelled, ModelUnavailable, NearfieldError, Overloaded, RateLimited, ShuttingDown
from nearfield.server.batches.batch import BatchJob
from nearfield.server.batches.batch_lines import BatchLine
from nearfield.server.batches.batch_store import BatchStore
from nearfield.server.files.file_store import new_id
from nearfield.server.files.file_threads import in_thread

#: Seconds of the shortest and longest wait for capacity, and tries for a model that is not available.
_MIN_WAIT, _MAX_WAIT, _MODEL_TRIES = 0.05, 30.0, 10


@dataclass(frozen=True)
class LineResponse:
    """The reply to one line, as it would have come to a request."""

    status: int
    body: bytes
    tokens: int = 0


class LineHandler(Protocol):
    """Answers the lines of batches."""

    def check_owner(self, owner: str) -> None:
        """Raise AccessDenied or RateLimited where the owner may not send requests (now)."""

    async def answer_line(self, url: str, body: Mapping[str, Any], owner: str, seconds: float) -> LineResponse:
        """Answer a request in the bulk class. Raises only what may be retried: Overloaded, ShuttingDown."""

    def refuse_line(self, url: str, error: NearfieldError) -> LineResponse:
        """Return the error as a batch line's response."""


class RunnerStopped(Exception):
    """The server is stopping; the batch goes on at the next start."""


class _EngineFull(Exception):
    """A line must be tried again later."""


class LineRunner:
    """Answers windows of lines.

    Args:
        handler: answers single lines.
        store: stores the answers.
        stop: set when the server stops.
        seconds_left: returns the seconds until a batch expires.
    """

    def __init__(
        self, handler: LineHandler, store: BatchStore, stop: asyncio.Event, seconds_left: Callable[[BatchJob], float]
    ) -> None:
        self._handler = handler
        self._store = store
        self._stop = stop
        self._left = seconds_left

    async def answer(self, job: BatchJob, window: Sequence[BatchLine]) -> tuple[list[BatchLine], float]:
        """Answer lines concurrently: they share the engine's batches.

        Return those that are not done, for want of tokens or capacity, and the seconds until the first of them may be
        tried.
        """
        now = time.monotonic()
        due = [line for line in window if job.retry_time(line.custom_id) <= now]
        tasks = [asyncio.create_task(self._one(job, line)) for line in due]
        try:
            results = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await end_tasks(tasks)
        error = next((result for result in results if isinstance(result, BaseException)), None)
        if error is not None:
            raise error
        done = {line.custom_id for line, result in zip(due, results, strict=True) if result}
        left = [line for line in window if line.custom_id not in done]
        first = min((job.retry_time(line.custom_id) for line in left), default=0.0)
        return left, max(0.0, first - time.monotonic())

    async def _one(self, job: BatchJob, line: BatchLine) -> bool:
        """Answer a line and store the answer; return whether there is nothing left to do for it."""
        try:
            answer = await self._answer(job, line)
        except RateLimited:
            return False  # the batch waits until there are tokens again
        except _EngineFull:
            return False
        job.attempts.pop(line.custom_id, None)
        if answer is None:
            return True  # the batch has expired; the remaining lines get their error later
        good = answer.status == 200
        response = b'{"status_code":%d,"request_id":"%s","body":%s}' % (
            answer.status,
            new_id("req_").encode(),
            answer.body,
        )
        async with job.write_lock:
            await in_thread(partial(self._store.write, job, line.custom_id, response, answer.tokens, good=good))
        return True

    async def _answer(self, job: BatchJob, line: BatchLine) -> LineResponse | None:
        """Answer a line; None once the batch has expired.

        Raises:
            _EngineFull: it must be tried again later.
            RateLimited: the key has used up its tokens of this minute.
        """
        left = self._left(job)
        if left <= 0:
            return None
        if self._stop.is_set():
            raise RunnerStopped
        body = {name: value for name, value in line.body.items() if value is not None}
        try:
            return await self._handler.answer_line(line.url, body, job.owner, left)
        except RateLimited:
            raise
        except Overloaded as error:
            tries = job.attempts.get(line.custom_id, (0, 0.0))[0] + 1
            if isinstance(error, ModelUnavailable) and tries > _MODEL_TRIES:
                return self._handler.refuse_line(line.url, error)
            wait = max(error.retry_after, _MIN_WAIT * 2 ** min(tries, 20))
            job.attempts[line.custom_id] = tries, time.monotonic() + min(wait, _MAX_WAIT)
            raise _EngineFull from error
        except Cancelled as error:
            raise ShuttingDown(str(error)) from error


async def end_tasks(tasks: Any) -> None:
    """Cancel the tasks that still run, and wait for them."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
