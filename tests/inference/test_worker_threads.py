"""Threads of preparation: calls that fail together, and what asyncio says of errors that nothing awaits."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from nearfield.errors import DeadlineExceeded, InputError
from nearfield.inference.preparation.worker_threads import MediaThreads, WorkerThreads, in_order
from nearfield.media.decoder_process.pool import MAX_PROCESSES, DecoderPool
from nearfield.media.image import Image
from nearfield.media.limits import stop_if_abandoned
from tests.support import odd_pictures


async def watched(call: Callable[[], Any]) -> list[str]:
    """Await a call that raises InputError; return what asyncio's handler of exceptions is given then and later."""
    messages: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: messages.append(context["message"]))
    text = ""
    try:
        await call()
    except InputError as error:  # not pytest.raises, which holds on to the frames with the tasks
        text = str(error)
    assert text == "Input 0 is bad."
    await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)
    return messages


async def test_calls_that_fail_at_the_same_time_leave_no_error_unawaited() -> None:
    async def fail(number: int) -> None:
        raise InputError(f"Input {number} is bad.")

    assert await watched(lambda: in_order([fail(number) for number in range(5)])) == []


async def test_calls_that_fail_after_the_first_leave_no_error_unawaited() -> None:
    async def fail(number: int) -> None:
        try:
            await asyncio.sleep(10 if number else 0)
        finally:
            raise InputError(f"Input {number} is bad.")

    assert await watched(lambda: in_order([fail(number) for number in range(5)])) == []


@pytest.mark.parametrize("threads", [1, 4])
async def test_functions_that_fail_in_threads_leave_no_error_unawaited(threads: int) -> None:
    together = threading.Barrier(threads)

    def fail(number: int) -> None:
        together.wait(10)
        raise InputError(f"Input {number} is bad.")

    pool = WorkerThreads(threads, "test")
    functions = [lambda number=number: fail(number) for number in range(threads)]
    assert await watched(lambda: pool.map_until(functions, None, "read")) == []


async def test_results_are_in_order() -> None:
    async def sleep(number: int) -> int:
        await asyncio.sleep(0.01 * (3 - number))
        return number

    assert await in_order([sleep(number) for number in range(4)]) == [0, 1, 2, 3]
    assert await in_order([]) == []


async def test_files_that_occupy_their_processes_hold_up_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without threads for those that wait, one TIFF for each core would stop all JPEGs until the deadline."""
    pictures = {kind: odd_pictures.encode(odd_pictures.smooth(50, 40), kind) for kind in ("TIFF", "JPEG")}
    release, run = threading.Event(), DecoderPool.run

    def wait(*arguments: Any) -> Any:
        release.wait(20)
        return run(*arguments)

    monkeypatch.setattr(DecoderPool, "run", wait)
    pool = MediaThreads(2, "test")
    waiting = [asyncio.create_task(pool.run(Image(pictures["TIFF"]).read)) for _ in range(2 * MAX_PROCESSES)]
    await asyncio.sleep(0.05)
    picture = await pool.run_until(Image(pictures["JPEG"]).read, time.monotonic() + 10, "decoded")
    assert picture.width == 50 and not any(task.done() for task in waiting)
    release.set()
    assert [picture.format for picture in await asyncio.gather(*waiting)] == ["TIFF"] * len(waiting)


def test_a_call_whose_time_is_over_ends_where_it_looks() -> None:
    ended = threading.Event()

    def work() -> None:
        try:
            while True:
                stop_if_abandoned()
                ended.wait(0.001)
        finally:
            ended.set()

    async def call() -> None:
        with pytest.raises(DeadlineExceeded, match="while the inputs were decoded"):
            await MediaThreads(1, "test").run_until(work, time.monotonic() + 0.05, "decoded")

    asyncio.run(call())
    assert ended.wait(5)
