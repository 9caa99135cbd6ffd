"""Values and locks that each process has for itself."""

from __future__ import annotations

import copy
import os
import pickle
import threading
from collections.abc import Callable

import pytest

from nearfield.fork_safety import PerProcess, ProcessLock, fork_count

# LanceDB, where another test has imported it, warns of each fork.
pytestmark = pytest.mark.filterwarnings("ignore")


def _forked(function: Callable[[], bool]) -> bool:
    """Run a function in a forked process and return its result."""
    process = os.fork()
    if process:
        return os.waitpid(process, 0)[1] == 0
    try:
        right = function()
    except BaseException:  # noqa: BLE001 - nothing may leave the forked process
        right = False
    os._exit(0 if right else 1)


def test_a_forked_process_creates_its_own_value() -> None:
    value = PerProcess[list[int]]()
    assert value.peek() is None
    first = value.get(list)
    assert value.get(list) is first is value.peek()
    before = fork_count()
    assert _forked(lambda: value.peek() is None and value.get(list) is not first and fork_count() == before + 1)
    assert value.peek() is first


def test_a_lock_of_another_thread_is_free_in_a_forked_process() -> None:
    lock, started, end = ProcessLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            started.set()
            end.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    started.wait()
    assert not lock.acquire(timeout=0.01)
    assert _forked(lambda: lock.acquire(timeout=0.01))
    end.set()
    thread.join()
    assert lock.acquire(timeout=1)
    lock.release()
    with pytest.raises(RuntimeError):
        lock.release()


def test_a_block_that_began_before_the_fork_ends_in_the_child() -> None:
    lock = ProcessLock()
    with lock:
        child = os.fork()
    if not child:
        os._exit(0 if lock.acquire(timeout=0.01) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_copies_are_empty() -> None:
    value = PerProcess[object]()
    value.set(threading.Event())
    assert pickle.loads(pickle.dumps(value)).peek() is None
    assert copy.deepcopy(value).peek() is None
    with pickle.loads(pickle.dumps(ProcessLock())):
        pass
