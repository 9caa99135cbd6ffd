"""Turns and shares of owners in the threads for collections."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any

import pytest

from nearfield.engine.turns import CALLER, Caller
from nearfield.errors import Overloaded
from nearfield.server.collections.thread_pool import BoundedThreadPool


def start(owner: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start a task whose caller is an owner."""
    context = copy_context()
    context.run(CALLER.set, Caller(owner))
    task: asyncio.Task[Any] = context.run(asyncio.get_running_loop().create_task, work)
    return task


async def test_a_greedy_owner_leaves_a_thread_and_a_share_to_others() -> None:
    pool, gate, order = BoundedThreadPool(4, "test", 8), threading.Event(), list[str]()

    def work(owner: str, wait: bool) -> None:
        if wait:
            assert gate.wait(60)
        order.append(owner)

    greedy = [start("a", pool.run(work, "a", True)) for _ in range(20)]
    await asyncio.sleep(0)
    refused = [task for task in greedy if task.done()]
    assert len(refused) == 20 - 3 - 4  # three threads, and half of the places in the queue
    assert all(isinstance(task.exception(), Overloaded) for task in refused)
    await asyncio.wait_for(start("b", pool.run(work, "b", False)), 60)  # while all calls of the other one wait
    assert order == ["b"]
    forced = start("a", pool.run(work, "a", True, force=True))
    gate.set()
    await asyncio.wait_for(asyncio.gather(*(task for task in greedy if task not in refused), forced), 60)
    assert order == ["b"] + ["a"] * 8
    assert pool._running == pool._waiting == {}
    assert (pool._free, pool._waiting_calls) == (4, 0)
    pool.close()


async def test_owners_take_turns_and_newcomers_are_not_refused() -> None:
    pool, gate, order = BoundedThreadPool(1, "test", 4), threading.Event(), list[str]()
    first = start("x", pool.run(gate.wait, 60))
    await asyncio.sleep(0)
    names = ["a", "a", "b", "b", "c", "d", "e"]
    tasks = [start(name, pool.run(order.append, name)) for name in names]
    await asyncio.sleep(0)
    late = start("a", pool.run(order.append, "a"))
    with pytest.raises(Overloaded):
        await asyncio.wait_for(late, 60)
    gate.set()
    await asyncio.wait_for(asyncio.gather(first, *tasks), 60)
    assert order == ["a", "b", "c", "d", "e", "a", "b"]
    pool.close()


async def test_a_cancelled_call_frees_its_place_and_its_thread() -> None:
    pool, gate = BoundedThreadPool(1, "test", 2), threading.Event()
    running, waiting = start("a", pool.run(gate.wait, 60)), start("a", pool.run(int))
    await asyncio.sleep(0)
    waiting.cancel()
    running.cancel()
    await asyncio.gather(running, waiting, return_exceptions=True)
    assert (pool._free, pool._waiting_calls) == (0, 0)  # the thread is still busy
    gate.set()
    assert await asyncio.wait_for(start("b", pool.run(int)), 60) == 0
    pool.close()
