"""The engine's promises, on a runner whose every step the test controls."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from nearfield.engine import scheduler
from nearfield.engine.backlog import Backlog
from nearfield.engine.engine import Batch, BatchReport, Engine, EngineLimits, Ticket
from nearfield.engine.job import Job
from nearfield.errors import Cancelled, DeadlineExceeded, ExecutionFailed, Overloaded, ShuttingDown

POISON, NAN, KILLER, FRAIL = 666, 667, 668, 669


class Death(BaseException):
    """What no handler for ordinary errors catches."""


class FakeRunner:
    """Gives each input's length and sum as its vector; blocks while ``gate`` is closed; fails on marked ids."""

    width = 2
    shared_length = 0

    def __init__(self, name: str = "fake", batch_tokens: int = 100, seconds: float = 0.0) -> None:
        self.name = name
        self.batch_tokens = batch_tokens
        self.seconds = seconds
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[list[list[int]]] = []
        self.frail_deaths = 1

    def create_lane_function(self) -> Callable[[Batch], Any]:
        return self._run

    def _run(self, batch: Batch) -> Any:
        inputs = [job.features.arrays()["ids"].tolist() for job in batch.jobs]
        self.batches.append(inputs)
        self.gate.wait(10)
        time.sleep(self.seconds)
        flat = {token for ids in inputs for token in ids}
        if KILLER in flat or (FRAIL in flat and self.frail_deaths > 0):
            self.frail_deaths -= 1
            raise Death("the runtime took the thread down")
        if POISON in flat:
            raise RuntimeError("the kernel choked")
        rows = np.array([[len(ids), sum(ids)] for ids in inputs], np.float32)
        rows[[NAN in ids for ids in inputs]] = np.nan
        return rows


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(lanes=1)
    yield engine
    engine.close(drain=False)


def _until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition was never true"
        time.sleep(0.005)


def _hold(engine: Engine, runner: FakeRunner) -> Ticket:
    """Occupy the one lane until the gate opens."""
    runner.gate.clear()
    ticket = engine.submit(Ticket.from_ids(runner, [[1]]))
    _until(lambda: len(runner.batches) == 1)
    return ticket


def unequal(first: int, length: int, count: int) -> list[list[int]]:
    """Return inputs of one length that begin alike: equal ones would be computed once."""
    return [[first] * (length - 1) + [number] for number in range(count)]


def test_rows_come_back_in_the_order_of_the_inputs(engine: Engine) -> None:
    runner = FakeRunner()
    inputs = [[n] * (n % 17 + 1) for n in range(200)]
    rows = engine.submit(Ticket.from_ids(runner, inputs)).result(10)
    assert np.array_equal(rows, [[len(ids), sum(ids)] for ids in inputs])


def test_no_inputs_give_no_rows(engine: Engine) -> None:
    assert engine.submit(Ticket.from_ids(FakeRunner(), [])).result(1).shape == (0, 2)


def test_batches_keep_to_the_budget_of_padded_tokens(engine: Engine) -> None:
    runner = FakeRunner(batch_tokens=200)
    hold = _hold(engine, runner)
    ticket = engine.submit(Ticket.from_ids(runner, [[1] * (n % 50 + 1) for n in range(300)]))
    runner.gate.set()
    ticket.result(10), hold.result(10)
    assert all(len(batch) * max(map(len, batch)) <= 200 for batch in runner.batches)
    assert max(len(batch) * max(map(len, batch)) for batch in runner.batches) > 150


def test_an_input_longer_than_the_budget_runs_alone(engine: Engine) -> None:
    runner = FakeRunner(batch_tokens=10)
    assert engine.submit(Ticket.from_ids(runner, [[1] * 500, [1]])).result(5)[0, 0] == 500


def test_like_lengths_share_a_batch(engine: Engine) -> None:
    runner = FakeRunner(batch_tokens=400)
    hold = _hold(engine, runner)
    lengths = [3, 90, 4, 88, 5, 91, 3, 89] * 5
    ticket = engine.submit(Ticket.from_ids(runner, [[1] * n for n in lengths]))
    runner.gate.set()
    ticket.result(5), hold.result(5)
    for batch in runner.batches[1:]:
        sizes = [len(ids) for ids in batch]
        assert max(sizes) - min(sizes) < 10, sizes


def test_a_free_lane_does_not_wait(engine: Engine) -> None:
    runner = FakeRunner()
    engine.submit(Ticket.from_ids(runner, [[1]])).result(5)
    waits = []
    for _ in range(20):
        time.sleep(0.002)
        waits.append(engine.submit(Ticket.from_ids(runner, [[1]])))
        waits[-1].result(5)
    assert np.median([ticket.total_seconds for ticket in waits]) < 0.02


def test_interactive_work_goes_before_bulk(engine: Engine) -> None:
    runner = FakeRunner(batch_tokens=128, seconds=0.01)
    hold = _hold(engine, runner)
    bulk = engine.submit(Ticket.from_ids(runner, unequal(2, 30, 60), bulk=True))
    quick = engine.submit(Ticket.from_ids(runner, [[3] * 30]))
    runner.gate.set()
    quick.result(5)
    assert bulk.remaining > 50
    bulk.result(10), hold.result(5)


def test_where_bulk_is_always_overdue_it_has_every_second_turn(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a large model, each batch of which takes longer than bulk may wait."""
    monkeypatch.setattr(scheduler, "MAX_BULK_WAIT_SECONDS", 0.0)
    runner = FakeRunner()
    hold = _hold(engine, runner)
    bulk = engine.submit(Ticket.from_ids(runner, unequal(2, 100, 6), bulk=True))
    single = [engine.submit(Ticket.from_ids(runner, [ids])) for ids in unequal(3, 100, 6)]
    runner.gate.set()
    for ticket in (hold, bulk, *single):
        ticket.result(10)
    assert [batch[0][0] for batch in runner.batches] == [1, *[2, 3] * 6]


def test_while_interactive_work_keeps_coming_bulk_goes_in_short_batches(engine: Engine) -> None:
    runner = FakeRunner(batch_tokens=1000, seconds=0.25)
    whole = engine.submit(Ticket.from_ids(runner, unequal(2, 50, 20), bulk=True))
    whole.result(10)
    assert runner.batches == [unequal(2, 50, 20)]  # 4,000 tokens a second, nothing interactive to be expected
    single = engine.submit(Ticket.from_ids(runner, [[3]]))
    single.result(10)
    runner.seconds = 0.0
    engine.submit(Ticket.from_ids(runner, unequal(2, 50, 20), bulk=True)).result(10)
    assert sum(map(len, runner.batches[2])) <= 450


def test_an_idle_engine_tries_what_its_past_speed_would_not_allow(engine: Engine) -> None:
    runner = FakeRunner(seconds=0.5)
    for _ in range(2):
        engine.submit(Ticket.from_ids(runner, [[1] * 40])).result(10)
    runner.seconds = 0.0
    assert engine.stats().tokens_per_second < 100
    ticket = engine.submit(Ticket.from_ids(runner, unequal(1, 100, 50), bulk=True, deadline=time.monotonic() + 10))
    assert len(ticket.result(10)) == 50
    assert engine.stats().tokens_per_second > 1000


@pytest.mark.slow
def test_bulk_is_not_starved(engine: Engine) -> None:
    runner = FakeRunner(batch_tokens=128, seconds=0.02)
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            engine.submit(Ticket.from_ids(runner, unequal(3, 60, 10))).result(10)

    floods = [threading.Thread(target=flood) for _ in range(4)]
    for thread in floods:
        thread.start()
    try:
        engine.submit(Ticket.from_ids(runner, unequal(2, 60, 4), bulk=True)).result(10)
    finally:
        stop.set()
        for thread in floods:
            thread.join()


def test_poison_fails_alone(engine: Engine) -> None:
    runner = FakeRunner(batch_tokens=1000)
    hold = _hold(engine, runner)
    good = [engine.submit(Ticket.from_ids(runner, [[n, n]])) for n in range(20)]
    bad = engine.submit(Ticket.from_ids(runner, [[POISON, 1]]))
    mixed = engine.submit(Ticket.from_ids(runner, [[1], [1, POISON], [2]]))
    runner.gate.set()
    for n, ticket in enumerate(good):
        assert np.array_equal(ticket.result(5), [[2, 2 * n]])
    with pytest.raises(ExecutionFailed, match="kernel choked"):
        bad.result(5)
    with pytest.raises(ExecutionFailed, match="Input 1"):
        mixed.result(5)
    hold.result(5)
    assert engine.ready


def test_a_vector_that_is_not_finite_is_an_error(engine: Engine) -> None:
    runner = FakeRunner(batch_tokens=1000)
    bad, good = engine.submit(Ticket.from_ids(runner, [[NAN]])), engine.submit(Ticket.from_ids(runner, [[1]]))
    with pytest.raises(ExecutionFailed, match="infinite or undefined"):
        bad.result(5)
    assert good.result(5)[0, 1] == 1


def test_a_lane_that_dies_is_replaced_and_its_work_is_done(engine: Engine) -> None:
    runner = FakeRunner(batch_tokens=1000)
    hold = _hold(engine, runner)
    tickets = [engine.submit(Ticket.from_ids(runner, [[n]])) for n in range(5)] + [
        engine.submit(Ticket.from_ids(runner, [[FRAIL]]))
    ]
    runner.gate.set()
    assert [ticket.result(5)[0, 1] for ticket in tickets] == [0, 1, 2, 3, 4, FRAIL]
    hold.result(5)
    _until(lambda: engine.ready)


def test_an_input_that_kills_lanes_does_not_kill_them_for_ever(engine: Engine) -> None:
    runner = FakeRunner()
    with pytest.raises(ExecutionFailed, match="A lane died each time"):
        engine.submit(Ticket.from_ids(runner, [[KILLER]])).result(5)
    assert engine.submit(Ticket.from_ids(runner, [[4]])).result(5)[0, 1] == 4


def test_not_ready_while_a_lane_is_missing(engine: Engine) -> None:
    state = engine._scheduler._state
    (lane,) = state.lanes
    with state.lock:
        state.lanes.remove(lane)
    assert not engine.ready
    assert "1 of 1 lanes" in engine.reasons[0]
    with state.lock:
        state.lanes.append(lane)
    assert engine.ready


def test_a_hung_batch_fails_and_its_lane_is_replaced() -> None:
    engine = Engine(lanes=1, limits=EngineLimits(stall=0.3))
    runner = FakeRunner()
    stuck = _hold(engine, runner)
    with pytest.raises(ExecutionFailed, match="did not answer"):
        stuck.result(5)
    other = FakeRunner("other")
    assert engine.submit(Ticket.from_ids(other, [[5]])).result(5)[0, 1] == 5
    runner.gate.set()
    engine.close(drain=False)


def test_deadlines_drop_jobs_before_they_cost_anything(engine: Engine) -> None:
    runner = FakeRunner()
    hold = _hold(engine, runner)
    late = engine.submit(Ticket.from_ids(runner, [[7]], deadline=time.monotonic() + 0.1))
    with pytest.raises(DeadlineExceeded):
        late.result(5)
    runner.gate.set()
    hold.result(5)
    engine.submit(Ticket.from_ids(runner, [[8]])).result(5)
    assert [[7]] not in runner.batches


def test_admission_is_by_queued_tokens() -> None:
    engine = Engine(lanes=1, limits=EngineLimits(max_queued_tokens=100))
    runner = FakeRunner()
    hold = _hold(engine, runner)
    accepted = engine.submit(Ticket.from_ids(runner, [[1] * 90]))
    with pytest.raises(Overloaded) as refusal:
        engine.submit(Ticket.from_ids(runner, [[1] * 20]))
    assert refusal.value.retry_after > 0
    assert "90 tokens wait" in str(refusal.value)
    runner.gate.set()
    accepted.result(5), hold.result(5)
    engine.submit(Ticket.from_ids(runner, [[1] * 500])).result(5)  # larger than the bound, but nothing else waits
    engine.close()


def test_waiting_for_space_in_the_queue() -> None:
    engine = Engine(lanes=1, limits=EngineLimits(max_queued_tokens=100))
    runner = FakeRunner(seconds=0.01)
    tickets = [engine.submit(Ticket.from_ids(runner, [ids], bulk=True), wait=True) for ids in unequal(1, 60, 10)]
    assert [ticket.result(5)[0, 0] for ticket in tickets] == [60] * 10
    engine.close()


def test_a_request_that_cannot_be_done_in_time_is_refused_at_once(engine: Engine) -> None:
    runner = FakeRunner(seconds=0.05)
    for _ in range(5):
        engine.submit(Ticket.from_ids(runner, [[1] * 50, [2] * 50])).result(5)  # sets the rate: 2,000 tokens a second
    hold = _hold_again(engine, runner)
    queue = engine.submit(Ticket.from_ids(runner, unequal(1, 50, 200)))
    start = time.monotonic()
    with pytest.raises(Overloaded, match="must be done in"):
        engine.submit(Ticket.from_ids(runner, [[1] * 50], deadline=time.monotonic() + 1))
    assert time.monotonic() - start < 0.5
    engine.cancel(queue)
    runner.gate.set()
    hold.result(5)


def _hold_again(engine: Engine, runner: FakeRunner) -> Ticket:
    runner.batches.clear()
    return _hold(engine, runner)


def test_cancelled_jobs_never_run(engine: Engine) -> None:
    runner = FakeRunner()
    hold = _hold(engine, runner)
    cancelled = engine.submit(Ticket.from_ids(runner, [[9], [9, 9]]))
    engine.cancel(cancelled)
    with pytest.raises(Cancelled):
        cancelled.result(5)
    assert engine.stats().queued_tokens == 0
    runner.gate.set()
    hold.result(5)
    assert not any(9 in ids for batch in runner.batches for ids in batch)


def test_cancelling_a_task_drops_its_jobs(engine: Engine) -> None:
    runner = FakeRunner()
    hold = _hold(engine, runner)

    async def scenario() -> None:
        task = asyncio.create_task(engine.run(Ticket.from_ids(runner, [[9]])))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert engine.stats().queued_jobs == 0
    runner.gate.set()
    hold.result(5)


def test_async_results(engine: Engine) -> None:
    async def scenario() -> list[Any]:
        return await asyncio.gather(*(engine.run(Ticket.from_ids(FakeRunner(), [[n]])) for n in range(20)))

    assert [rows[0, 1] for rows in asyncio.run(scenario())] == list(range(20))


def test_draining_finishes_what_was_accepted_and_refuses_the_rest(engine: Engine) -> None:
    runner = FakeRunner(seconds=0.01)
    accepted = [engine.submit(Ticket.from_ids(runner, [[n] * 50])) for n in range(20)]
    assert engine.drain(10)
    assert all(ticket.done for ticket in accepted)
    with pytest.raises(ShuttingDown):
        engine.submit(Ticket.from_ids(runner, [[1]]))
    assert not engine.ready


def test_stopping_ends_every_waiting_job() -> None:
    engine = Engine(lanes=1)
    runner = FakeRunner()
    _hold(engine, runner)
    waiting = engine.submit(Ticket.from_ids(runner, [[1], [2]]))
    threading.Timer(0.1, runner.gate.set).start()
    engine.close(drain=False)
    with pytest.raises(ShuttingDown):
        waiting.result(5)
    engine.close()


def test_one_engine_serves_many_models(engine: Engine) -> None:
    runners = [FakeRunner(f"model-{n}") for n in range(4)]
    tickets = [engine.submit(Ticket.from_ids(runner, [[n]])) for n, runner in enumerate(runners)]
    assert [ticket.result(5)[0, 1] for ticket in tickets] == [0, 1, 2, 3]
    engine.forget(runners[0])
    assert engine.submit(Ticket.from_ids(runners[1], [[1]])).result(5)[0, 1] == 1


def test_observers_hear_of_each_batch(engine: Engine) -> None:
    reports: list[BatchReport] = []
    engine.observers.append(reports.append)
    engine.submit(Ticket.from_ids(FakeRunner(), [[1, 2], [3]])).result(5)
    assert sum(report.rows for report in reports) == 2, "whoever holds an answer finds it counted"
    assert sum(report.tokens for report in reports) == 3
    assert all(len(report.queue_seconds) == report.rows for report in reports)


def test_an_observer_that_fails_costs_no_answer(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    def failing(report: BatchReport) -> None:
        raise ZeroDivisionError

    heard: list[BatchReport] = []
    engine.observers.extend([failing, heard.append])
    lanes = engine.stats().lanes_alive
    assert engine.submit(Ticket.from_ids(FakeRunner(), [[1, 2]])).result(5)[0, 0] == 2
    assert len(heard) == 1 and engine.stats().lanes_alive == lanes
    assert "observer" in caplog.text and "ZeroDivisionError" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("shared", [0, 1000])
def test_finished_tickets_are_released(engine: Engine, shared: int) -> None:
    """Jobs that share rows are found by age alone: the queues by length would hold all of them for ever."""
    runner = FakeRunner()
    runner.shared_length = shared
    tickets = [weakref.ref(engine.submit(Ticket.from_ids(runner, [[1] * (n % 7 + 1)] * 3))) for n in range(50)]
    late = Ticket.from_ids(runner, unequal(1, 9, 3), bulk=True)
    engine.submit(late)
    engine.cancel(late)
    tickets.append(weakref.ref(late))
    del late
    engine.submit(Ticket.from_ids(runner, [[1]])).result(10)
    engine.submit(Ticket.from_ids(FakeRunner("other"), [[1]])).result(10)  # a lane holds a batch until the next one

    def all_collected() -> bool:
        gc.collect()
        return not any(reference() for reference in tickets)

    _until(all_collected)


def test_a_collected_model_is_released_after_its_work(engine: Engine) -> None:
    runner, other = FakeRunner(), FakeRunner("other")
    engine.submit(Ticket.from_ids(runner, [[1]])).result(5)
    runner.gate.clear()
    running = engine.submit(Ticket.from_ids(runner, [[1, 2]]))
    batches, gate, reference = runner.batches, runner.gate, weakref.ref(runner)
    _until(lambda: len(batches) == 2)
    waiting = engine.submit(Ticket.from_ids(runner, [[3]], bulk=True))
    engine.release(runner)
    del runner
    time.sleep(0.6)  # the engine looks every quarter of a second
    assert not running.done and not waiting.done
    gate.set()
    assert running.result(5)[0, 1] == 3 and waiting.result(5)[0, 1] == 3
    running.runner = waiting.runner = other
    _until(lambda: reference() is None)
    assert engine.submit(Ticket.from_ids(other, [[1]])).result(5)[0, 1] == 1


def test_an_engine_stops_with_its_last_model() -> None:
    engine, runner = Engine(lanes=2), FakeRunner()
    ticket = engine.submit(Ticket.from_ids(runner, [[1]]))
    lanes = list(engine._scheduler._state.lanes)
    engine.release(runner, last=True)
    assert ticket.result(5)[0, 1] == 1
    _until(lambda: not any(lane.is_alive() for lane in lanes))
    engine.close()
    late = FakeRunner()
    reference = weakref.ref(late)
    engine.release(late)
    del late
    assert reference() is None


def test_a_waiting_ticket_retains_no_finished_ones() -> None:
    engine = Engine(lanes=2)
    slow, quick = FakeRunner("slow"), FakeRunner("quick")
    try:
        slow.gate.clear()
        first = engine.submit(Ticket.from_ids(slow, [[1]], deadline=time.monotonic() + 10))
        done = engine.submit(Ticket.from_ids(quick, [[1]], deadline=time.monotonic() + 20))
        done.result(5)
        reference = weakref.ref(done)
        del done
        _until(lambda: reference() is None)
        assert not first.done
    finally:
        slow.gate.set()
        engine.close(drain=False)


def test_a_backlog_removes_taken_jobs() -> None:
    backlog = Backlog()
    ticket = Ticket.from_ids(FakeRunner(), [[1] * n for n in (5, 5, 9, 5)])
    for job in ticket.jobs:
        backlog.push(job)
    assert backlog.tokens == 24
    backlog.claim(ticket.jobs[0])
    assert backlog.oldest() is ticket.jobs[1]
    taken = backlog.gather(budget=10, overhead=0)
    assert taken == [ticket.jobs[1], ticket.jobs[3]]
    assert backlog.waiting() == [ticket.jobs[2]]
    assert backlog.gather(budget=1, overhead=0) == [ticket.jobs[2]]
    assert backlog.gather(budget=1, overhead=0) == []
    assert (backlog.tokens, backlog.count) == (0, 0)


def test_a_returned_job_is_the_oldest_and_counted_once() -> None:
    backlog = Backlog()
    jobs: list[Job] = Ticket.from_ids(FakeRunner(), [[1], [2, 2], [3, 3]]).jobs
    for job in jobs:
        backlog.push(job)
    backlog.claim(jobs[2])
    backlog.push_front(jobs[2])
    assert backlog.oldest() is jobs[2]
    assert backlog.tokens == 5
    assert sorted(job.length for job in backlog.gather(100, 100)) == [1, 2, 2]
    assert backlog.oldest() is None
