"""The end of a process whose shutdown takes too long."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from nearfield.server.lifecycle import exit_timer
from nearfield.server.lifecycle.exit_timer import ExitTimer

HANGING = """
import threading, time
from concurrent.futures import ThreadPoolExecutor
from nearfield.server.lifecycle import exit_timer
from nearfield.server.lifecycle.exit_timer import ExitTimer
exit_timer._EXIT_SECONDS = 0.5
timer = ExitTimer(lambda: print("cleaned up", flush=True))
ThreadPoolExecutor(1).submit(time.sleep, 600)
timer.start(0.1)
timer.stop()
"""


def test_a_server_that_has_not_stopped_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exit_timer, "_EXIT_SECONDS", 0.0)
    codes: list[int] = []
    ended, cleaned = threading.Event(), threading.Event()

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    ExitTimer(cleaned.set, end).start(0.01)
    assert ended.wait(30)
    assert cleaned.is_set()
    assert codes == [1]


def test_a_server_that_has_stopped_lives_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exit_timer, "_EXIT_SECONDS", 0.0)
    codes: list[int] = []
    timer = ExitTimer(end=codes.append)
    timer.stop()
    timer.start(0.01)
    other = threading.Event()
    ExitTimer(end=lambda _: other.set()).start(0.3)
    assert other.wait(30)
    assert codes == []


@pytest.mark.slow
def test_threads_that_never_end_do_not_keep_the_process_alive() -> None:
    result = subprocess.run([sys.executable, "-c", HANGING], timeout=120, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "cleaned up\n")
