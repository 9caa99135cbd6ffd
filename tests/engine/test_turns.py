"""Turns and shares of owners and flows, on a scheduler without lanes: each batch is taken by the test."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nearfield.engine import scheduler as scheduler_module
from nearfield.engine.admission import EngineLimits
from nearfield.engine.engine import Engine
from nearfield.engine.job import Batch, Ticket
from nearfield.engine.scheduler import Scheduler
from nearfield.engine.turns import CALLER, Caller
from nearfield.errors import Cancelled, Overloaded
from nearfield.testing import tiny_encoder
from tests.engine.test_engine import FakeRunner

POLITE, GREEDY = "polite", "greedy"


class ManualEngine:
    """A scheduler whose batches the test takes one at a time; it counts the tokens and ends of all tickets."""

    def __init__(self, limits: EngineLimits | None = None, speed: float = 10_000.0) -> None:
        self.scheduler = Scheduler(0, limits or EngineLimits())
        self.scheduler._throughput.tokens_per_second = speed
        self.served: Counter[str] = Counter()
        self.ends: Counter[int] = Counter()
        self.largest = 0
        self._unequal = itertools.count()

    def submit(self, runner: FakeRunner, owner: str, lengths: list[int], flow: Any = None, **options: Any) -> Ticket:
        inputs = [[next(self._unequal)] * length for length in lengths]  # equal ones would be computed once
        ticket = Ticket.from_ids(runner, inputs, caller=Caller(owner, flow), on_done=self._on_done, **options)
        return self.scheduler.submit(ticket)

    def _on_done(self, ticket: Ticket) -> None:
        self.ends[id(ticket)] += 1

    def take(self) -> Batch | None:
        with self.scheduler._state.lock:
            batch = self.scheduler._next_batch()
        if batch is not None:
            self.largest = max(self.largest, batch.tokens)
            for job in batch.jobs:
                self.served[job.ticket.caller.owner] += job.length
        return batch

    def end(self, batch: Batch) -> None:
        for job in batch.jobs:
            if job.ticket.record_end(job):
                job.ticket.notify_done()

    def run(self) -> Batch | None:
        batch = self.take()
        if batch is not None:
            self.end(batch)
        return batch

    @property
    def waiting(self) -> int:
        return self.scheduler.stats().queued_jobs


def _owners(batch: Batch | None) -> list[str]:
    assert batch is not None
    return [job.ticket.caller.owner for job in batch.jobs]


def _runner(shared: int = 1000, batch_tokens: int = 500) -> FakeRunner:
    runner = FakeRunner(batch_tokens=batch_tokens)
    runner.shared_length = shared
    return runner


@pytest.mark.parametrize(
    ("requests", "items", "bulk"), [(64, 1, False), (64, 20, False), (16, 200, False), (4, 500, True)]
)
@pytest.mark.parametrize("shared", [0, 1000])
def test_a_polite_single_is_in_the_next_batch(requests: int, items: int, bulk: bool, shared: int) -> None:
    engine, runner = ManualEngine(), _runner(shared)
    for number in range(requests):
        engine.submit(runner, GREEDY, [40] * items, flow=number, bulk=bulk)
    for _ in range(5):
        engine.run()
        single = engine.submit(runner, POLITE, [12])
        assert POLITE in _owners(engine.run())
        assert single.done


@pytest.mark.parametrize("shared", [0, 1000])
def test_a_single_of_the_same_owner_is_in_the_next_batch(shared: int) -> None:
    engine, runner = ManualEngine(), _runner(shared)
    for number in range(16):
        engine.submit(runner, GREEDY, [40] * 200, flow=number)
    for number in range(5):
        engine.run()
        single = engine.submit(runner, GREEDY, [40], flow=f"single {number}")
        engine.run()
        assert single.done


def test_a_flow_is_not_starved_by_endless_new_ones() -> None:
    engine, runner = ManualEngine(), _runner()
    large = engine.submit(runner, GREEDY, [50] * 100, flow="large")
    for number in range(300):
        for part in range(10):
            engine.submit(runner, GREEDY, [50], flow=(number, part))
        engine.run()
    assert large.remaining < 75


def test_an_owner_is_not_starved_by_endless_new_ones() -> None:
    engine, runner = ManualEngine(), _runner()
    large = engine.submit(runner, GREEDY, [50] * 100, bulk=True)
    for number in range(300):
        for part in range(10):
            engine.submit(runner, f"owner {number}.{part}", [50], bulk=True)
        engine.run()
    assert large.remaining < 75


def test_requests_of_one_size_end_one_after_another() -> None:
    """If all ended together, the lanes would wait until clients send the next ones."""
    engine, runner = ManualEngine(), _runner()
    tickets = [engine.submit(runner, "", [50] * 20, flow=flow) for flow in range(8)]
    for done in range(1, 9):
        engine.run(), engine.run()
        assert [ticket.done for ticket in tickets] == [True] * done + [False] * (8 - done)


@pytest.mark.parametrize("shared", [0, 16])
def test_requests_of_many_lengths_end_one_after_another(shared: int) -> None:
    """Batches of like lengths take little from requests that are far from their turn."""
    engine, runner, chance = ManualEngine(), _runner(shared), random.Random(0)
    lengths = [min(250, int(chance.lognormvariate(4, 0.8)) + 1) for _ in range(500)]
    tickets = [engine.submit(runner, GREEDY, chance.sample(lengths, 500), flow=flow, bulk=True) for flow in range(8)]
    while not any(ticket.done for ticket in tickets):
        engine.run()
    begun = sorted(500 - ticket.remaining for ticket in tickets)
    assert begun[-1] == 500
    assert sum(begun[:-3]) < 50  # the two that are next help to fill batches


def test_tickets_of_one_flow_run_in_order() -> None:
    engine, runner = ManualEngine(), _runner()
    first, second = (engine.submit(runner, "", [50] * 20) for _ in range(2))
    engine.run(), engine.run()
    assert first.done
    assert second.remaining == 20


@pytest.mark.parametrize("seed", range(6))
def test_owners_that_wait_are_served_alike(seed: int) -> None:
    rng = random.Random(seed)
    engine = ManualEngine()
    runners = [_runner(rng.choice([0, 1000])) for _ in range(2)]
    names, bulk = ["a", "b", "c"], rng.random() < 0.5
    for name in names:
        for flow in range(rng.randint(1, 40)):
            lengths = [rng.randint(1, 120) for _ in range(rng.randint(1, 200))]
            engine.submit(rng.choice(runners), name, lengths, flow=flow, bulk=bulk)
        engine.submit(runners[0], name, [100] * 150, bulk=bulk)
    start = Counter(engine.served)
    while all(engine.scheduler._state.owner(name).tokens > scheduler_module.UNKNOWN_HEAVY_TOKENS for name in names):
        engine.run()
        served = [engine.served[name] - start[name] for name in names]
        # One batch that is an owner's turn, and one in which its jobs fill what another's turn left empty.
        assert max(served) - min(served) <= 2 * (engine.largest + 120)


@pytest.mark.parametrize("seed", range(8))
def test_every_ticket_ends_once_and_no_lane_is_idle_while_work_waits(seed: int) -> None:
    rng = random.Random(seed)
    engine = ManualEngine(speed=rng.choice([0.0, 1000.0, 50_000.0]))
    runners = [_runner(rng.choice([0, 60]), rng.choice([100, 1000])) for _ in range(3)]
    tickets: list[Ticket] = []
    running: list[Batch] = []
    expected: dict[int, int] = {}
    for _ in range(400):
        action = rng.random()
        if action < 0.45:
            lengths = [rng.randint(1, 150) for _ in range(rng.choice([1, 1, 5, 60]))]
            owner, flow, bulk = rng.choice("abcd"), rng.randint(0, 5), rng.random() < 0.4
            tickets.append(engine.submit(rng.choice(runners), owner, lengths, flow=flow, bulk=bulk))
            expected[id(tickets[-1])] = sum(lengths)
        elif action < 0.55 and tickets:
            engine.scheduler.cancel(rng.choice(tickets))
        elif action < 0.6 and running:
            batch = running.pop(rng.randrange(len(running)))  # its lane dies
            with engine.scheduler._state.lock:
                guilty = engine.scheduler._supervisor._requeue(batch)
            engine.scheduler._state.fail(guilty, Cancelled("guilty"))
        elif action < 0.8 and running:
            engine.end(running.pop(rng.randrange(len(running))))
        else:
            waiting = engine.waiting
            taken = engine.take()
            assert (taken is not None) == (waiting > 0)
            if taken is not None:
                assert taken.jobs
                assert all(job.ticket.runner is taken.runner for job in taken.jobs)
                running.append(taken)
    for batch in running:
        engine.end(batch)
    while (last := engine.run()) is not None:
        assert last.jobs
    stats = engine.scheduler.stats()
    assert (stats.queued_jobs, stats.queued_tokens, stats.queued_tokens_bulk) == (0, 0, 0)
    assert all(ticket.done for ticket in tickets)
    assert engine.ends == Counter({id(ticket): 1 for ticket in tickets})
    assert all(0 <= ticket.unstarted_tokens <= expected[id(ticket)] for ticket in tickets)


def test_an_owner_with_much_interactive_work_counts_as_bulk_beside_others() -> None:
    engine, runner = ManualEngine(speed=10_000.0), _runner(batch_tokens=4000)
    engine.scheduler._throughput._by_runner[runner] = (10_000.0, 1.0)
    for number in range(100):
        engine.submit(runner, GREEDY, [40], flow=number)
    batch = engine.run()
    assert batch is not None and batch.tokens == 4000, "alone it uses whole batches"
    for number in range(100):
        engine.submit(runner, GREEDY, [40], flow=number)
    engine.submit(runner, POLITE, [12])
    assert _owners(engine.run()) == [POLITE]
    batch = engine.run()
    assert batch is not None and batch.tokens <= 1040, "others may send another single: a tenth of a second"


def test_bulk_of_one_owner_and_singles_of_many_are_both_served() -> None:
    engine, runner = ManualEngine(), _runner(batch_tokens=400)
    bulk = engine.submit(runner, "indexing", [40] * 100, bulk=True)
    single = [engine.submit(runner, f"user {number}", [40]) for number in range(10)]
    engine.run()
    assert all(ticket.done for ticket in single)
    assert bulk.remaining == 100


# -- shares of the queue ---------------------------------------------------------------------------------------


def test_one_owner_may_fill_the_queue_and_still_others_are_accepted() -> None:
    engine, runner = ManualEngine(EngineLimits(max_queued_tokens=1000)), _runner()
    for _ in range(10):
        engine.submit(runner, GREEDY, [100])
    with pytest.raises(Overloaded, match="1000 tokens wait already"):
        engine.submit(runner, GREEDY, [1])
    for number in range(8):
        engine.submit(runner, f"polite {number}", [30])
    engine.submit(runner, POLITE, [30] * 1)
    with pytest.raises(Overloaded):
        engine.submit(runner, POLITE, [30])  # it has half of its share, a twentieth of the queue
    with pytest.raises(Overloaded):
        engine.scheduler.check_room(GREEDY)
    engine.scheduler.check_room("new")
    assert GREEDY in engine.scheduler.refusals()
    assert "new" not in engine.scheduler.refusals()


def test_a_deadline_is_judged_by_the_owners_position() -> None:
    engine, runner = ManualEngine(speed=1000.0), _runner()
    for number in range(16):
        engine.submit(runner, GREEDY, [50] * 200, flow=number, bulk=True)
        engine.submit(runner, GREEDY, [50] * 20, flow=-number)
    engine.submit(runner, POLITE, [50], deadline=time.monotonic() + 1)
    engine.submit(runner, "polite bulk", [50], deadline=time.monotonic() + 1, bulk=True)
    engine.submit(runner, GREEDY, [50], flow="small", deadline=time.monotonic() + 1)
    with pytest.raises(Overloaded, match="must be done in"):
        engine.submit(runner, GREEDY, [50] * 20, flow="as large", deadline=time.monotonic() + 3)
    with pytest.raises(Overloaded, match="must be done in"):
        engine.submit(runner, GREEDY, [50], flow=0, deadline=time.monotonic() + 1)


def test_owners_that_no_longer_wait_are_forgotten() -> None:
    engine, runner = ManualEngine(), _runner()
    for number in range(1000):
        engine.submit(runner, f"owner {number}", [10])
        engine.run()
    assert len(engine.scheduler._state.owners) <= 65
    engine.submit(runner, GREEDY, [50] * 100, bulk=True)
    for number in range(1000):
        engine.submit(runner, f"owner {number}", [10], bulk=True)
        engine.run()
    assert len(engine.scheduler._state.owners) < 300


# -- what is not begun -----------------------------------------------------------------------------------------


def _reports(runner: FakeRunner, inputs: list[list[int]], **options: Any) -> tuple[Ticket, list[int]]:
    reports: list[int] = []
    return Ticket.from_ids(runner, inputs, on_unstarted=reports.append, **options), reports


def test_tokens_that_no_batch_took_are_reported() -> None:
    import asyncio

    engine, runner = Engine(1, EngineLimits(max_queued_tokens=400)), FakeRunner(batch_tokens=100)
    runner.gate.clear()

    async def work() -> None:
        ticket, reports = _reports(runner, [[1] * 100, [2] * 100, [1] * 50])
        task = asyncio.create_task(engine.run(ticket))
        while not engine.stats().running_batches:
            await asyncio.sleep(0.005)
        refused, refused_reports = _reports(runner, [[1] * 300])
        with pytest.raises(Overloaded):
            await engine.run(refused)
        assert refused_reports == [300]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert reports == [150]
        expired, expired_reports = _reports(runner, [[1] * 7], deadline=time.monotonic() + 0.01)
        with pytest.raises(Overloaded):  # DeadlineExceeded
            await engine.run(expired)
        assert expired_reports == [7]
        runner.gate.set()
        done, done_reports = _reports(runner, [[1] * 7])
        await engine.run(done)
        assert done_reports == []

    try:
        asyncio.run(asyncio.wait_for(work(), 30))
    finally:
        runner.gate.set()
        engine.close(drain=False)


def test_tickets_have_the_caller_of_their_task() -> None:
    def create(make: Callable[[], Ticket]) -> Caller:
        return make().caller

    token = CALLER.set(Caller("someone", 1))
    try:
        assert create(lambda: Ticket.from_ids(FakeRunner(), [[1]])) == Caller("someone", 1)
    finally:
        CALLER.reset(token)
    assert create(lambda: Ticket.from_ids(FakeRunner(), [[1]])) == Caller()


@pytest.mark.parametrize("count", [1, 200])
def test_tickets_of_the_server_have_their_owner_however_large(tmp_path: Path, count: int) -> None:
    """Also where inputs are tokenised in a thread."""
    import asyncio

    callers: list[Caller] = []
    engine = Engine(1)
    submit = engine._scheduler.submit

    def record(ticket: Ticket, **options: Any) -> Ticket:
        callers.append(ticket.caller)
        return submit(ticket, **options)

    engine._scheduler.submit = record  # type: ignore[method-assign]

    async def encode(encoder: Any) -> None:
        CALLER.set(Caller("key a", 7))
        await encoder.aencode(["cat " * 50] * count)
        await encoder.aencode_late([["cat " * 20, "dog " * 20]] * (2 * count))

    with tiny_encoder(tmp_path / "tiny", engine=engine) as encoder:
        asyncio.run(encode(encoder))
    engine.close(drain=False)
    assert callers == [Caller("key a", 7)] * 2
