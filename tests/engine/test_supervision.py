"""When the supervisor looks at deadlines: at the next one, but neither without pause nor too rarely for lanes."""

from __future__ import annotations

import math
import time

import pytest

from nearfield.engine.engine import Engine
from nearfield.engine.job import Ticket
from nearfield.engine.supervision import DeadlineQueue
from nearfield.errors import DeadlineExceeded
from tests.engine.test_engine import FakeRunner


def test_the_earliest_deadline_is_the_first() -> None:
    queue, runner = DeadlineQueue(), FakeRunner()
    assert queue.seconds_left(0.0) == math.inf
    tickets = [Ticket.from_ids(runner, [[1]], deadline=deadline) for deadline in (30.0, 10.0, 20.0)]
    for ticket in tickets:
        queue.add(ticket)
    assert queue.seconds_left(4.0) == 6.0
    assert queue.pop_expired(10.0) == tickets[1].jobs
    assert queue.seconds_left(12.0) == 8.0


@pytest.mark.parametrize(
    ("seconds_left", "expected"),
    [(None, 0.25), (3600.0, 0.25), (0.25, 0.25), (0.1, 0.1), (0.001, 0.01), (0.0, 0.01), (-5.0, 0.01)],
)
def test_the_supervisor_sleeps_until_the_next_deadline(
    seconds_left: float | None, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(lanes=1)
    supervisor = engine._scheduler._supervisor
    engine.close()
    supervisor._thread.join(5)  # it would remove what has expired
    now = time.monotonic()
    monkeypatch.setattr("nearfield.engine.supervision.time.monotonic", lambda: now)
    deadline = None if seconds_left is None else now + seconds_left
    ticket = Ticket.from_ids(FakeRunner(), [[1]], deadline=deadline)
    supervisor.deadlines.add(ticket)
    assert supervisor._seconds_to_wait() == pytest.approx(expected)


def test_a_job_is_dropped_within_moments_of_its_deadline() -> None:
    """With looks every quarter of a second, each of these would be dropped 0.15 s after its deadline."""
    engine, runner, late = Engine(lanes=1), FakeRunner(), []
    runner.gate.clear()
    hold = engine.submit(Ticket.from_ids(runner, [[1]]))
    while not runner.batches:
        time.sleep(0.001)
    for _ in range(3):
        deadline = time.monotonic() + 0.35
        with pytest.raises(DeadlineExceeded):
            engine.submit(Ticket.from_ids(runner, [[7]], deadline=deadline)).result(5)
        late.append(time.monotonic() - deadline)
    runner.gate.set()
    hold.result(5)
    engine.close()
    assert min(late) < 0.1, late
