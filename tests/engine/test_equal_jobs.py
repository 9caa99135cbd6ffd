"""Equal inputs that wait at the same time are computed once, and each caller gets its own result."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import numpy as np
import pytest

from nearfield.engine.engine import Batch, Engine, EngineLimits, Ticket
from nearfield.engine.equal_jobs import EqualJobs, job_key
from nearfield.engine.turns import Caller
from nearfield.errors import Cancelled, DeadlineExceeded, ExecutionFailed, InputError
from nearfield.features import PatchFeatures, PatchLayout, TextFeatures
from nearfield.heads import OutputRequest
from nearfield.testing import tiny_encoder
from tests.engine.test_engine import FRAIL, KILLER, POISON, FakeRunner, _hold, _until, engine

__all__ = ["engine"]

#: Requests of which no two have the same result.
DIFFERENT = (
    None,
    OutputRequest(),
    OutputRequest(("sparse",)),
    OutputRequest(second=1),
    OutputRequest(spans=((0, 1),)),
    OutputRequest(kept_tokens=np.array([0])),
    OutputRequest(kept_tokens=np.array([1])),
    OutputRequest(unattended=1),
    OutputRequest(adapter=1),
)


class NamedRunner(FakeRunner):
    """Gives outputs by name, as views of one array of the batch."""

    width = 0

    def _run(self, batch: Batch) -> Any:
        rows = super()._run(batch)
        return [{"dense": row, "sparse": (row[:1], row[1:])} for row in rows]


def _inputs(runner: FakeRunner) -> list[list[int]]:
    """Return what was computed, except the first batch."""
    return [ids for batch in runner.batches[1:] for ids in batch]


def test_equal_inputs_of_a_call_are_computed_once(engine: Engine) -> None:
    runner = FakeRunner()
    inputs = [[1, 2], [3], [1, 2], [3], [2, 1], [1, 2]]
    rows = engine.submit(Ticket.from_ids(runner, inputs)).result(5)
    assert np.array_equal(rows, [[len(ids), sum(ids)] for ids in inputs])
    assert sorted(ids for batch in runner.batches for ids in batch) == [[1, 2], [2, 1], [3]]


def test_equal_inputs_of_callers_that_wait_are_computed_once(engine: Engine) -> None:
    runner = FakeRunner()
    hold = _hold(engine, runner)
    callers = [Caller("a"), Caller("a", 1), Caller("b"), Caller("c")]
    tickets = [
        engine.submit(Ticket.from_ids(runner, [[7, n], [8, 8]], caller=caller, bulk=n % 2 == 1))
        for n, caller in enumerate(callers)
    ]
    runner.gate.set()
    assert [ticket.result(5).tolist() for ticket in tickets] == [[[2, 7 + n], [2, 16]] for n in range(4)]
    assert sorted(_inputs(runner)) == [[7, 0], [7, 1], [7, 2], [7, 3], [8, 8]]
    hold.result(5)
    stats = engine.stats()
    assert (stats.queued_jobs, stats.queued_tokens, len(engine._scheduler._state.equal)) == (0, 0, 0)


def test_a_batch_that_equal_inputs_leave_free_is_filled(engine: Engine) -> None:
    runner = FakeRunner(batch_tokens=128)
    runner.shared_length = 1000
    hold = _hold(engine, runner)
    ticket = engine.submit(Ticket.from_ids(runner, [[n // 4 + 10] * 2 for n in range(512)]))
    runner.gate.set()
    assert ticket.result(5)[:, 1].tolist() == [2 * (n // 4 + 10) for n in range(512)]
    assert [len(batch) for batch in runner.batches[1:]] == [64, 64]
    hold.result(5)


def test_a_caller_that_writes_into_its_result_changes_no_other(engine: Engine) -> None:
    for runner in (FakeRunner(), NamedRunner()):
        hold = _hold(engine, runner)
        tickets = [engine.submit(Ticket.from_ids(runner, [[1, 2], [1, 2]])) for _ in range(2)]
        runner.gate.set()
        rows = [row for ticket in tickets for row in ticket.result(5)]
        arrays = [part for row in rows for part in ([row] if runner.width else [row["dense"], *row["sparse"]])]
        assert len(_inputs(runner)) == 1 and len(arrays) == (4 if runner.width else 12)
        for first, one in enumerate(arrays):
            own = range(first - first % 3, first - first % 3 + 3) if not runner.width else [first]
            assert not any(np.shares_memory(one, arrays[other]) for other in set(range(len(arrays))) - set(own))
        hold.result(5)


def test_what_changes_the_result_is_not_equal() -> None:
    runners = FakeRunner("one"), FakeRunner("two")
    tickets = [Ticket.create(runner, [TextFeatures([1, 2])], [1], [DIFFERENT[0]]) for runner in runners]
    tickets += [Ticket.create(runners[0], [TextFeatures([1, 2])], None, [request]) for request in DIFFERENT]
    layout = PatchLayout(1)
    pictures = [np.zeros((1, 2, 3), np.uint8), np.zeros((2, 1, 3), np.uint8), np.ones((1, 2, 3), np.uint8)]
    tickets += [Ticket.create(runners[0], [PatchFeatures(pixels, layout)]) for pixels in pictures]
    keys = [job_key(ticket.jobs[0]) for ticket in tickets]
    assert len(set(keys)) == len(keys)
    again = Ticket.create(runners[0], [PatchFeatures(pictures[0].copy(), layout)]).jobs[0]
    sent = Ticket.create(runners[1], [TextFeatures(np.array([1, 2], np.int32))], [1]).jobs[0]  # type: ignore[arg-type]
    assert job_key(again) in keys and job_key(sent) == keys[1]


@pytest.mark.parametrize("cancelled", [0, 1, 2])
def test_a_caller_that_leaves_takes_no_result_along(engine: Engine, cancelled: int) -> None:
    runner = FakeRunner()
    hold = _hold(engine, runner)
    tickets = [engine.submit(Ticket.from_ids(runner, [[5, 5], [5, 5], [6, n]])) for n in range(3)]
    engine.cancel(tickets[cancelled])
    runner.gate.set()
    for n, ticket in enumerate(tickets):
        if n == cancelled:
            with pytest.raises(Cancelled):
                ticket.result(5)
            assert ticket.unstarted_tokens == 6
        else:
            assert ticket.result(5)[:, 1].tolist() == [10, 10, 6 + n]
    assert sorted(_inputs(runner)) == sorted([[5, 5], *([6, n] for n in range(3) if n != cancelled)])
    hold.result(5)


def test_a_caller_that_leaves_while_its_input_runs_takes_no_result_along(engine: Engine) -> None:
    held, runner = FakeRunner("held"), FakeRunner()
    _hold(engine, held)
    runner.gate.clear()
    first, second = (engine.submit(Ticket.from_ids(runner, [[5, 5]])) for _ in range(2))
    held.gate.set()
    _until(lambda: len(runner.batches) == 1)
    engine.cancel(first)
    runner.gate.set()
    assert second.result(5)[0, 1] == 10 and runner.batches == [[[5, 5]]]


def test_a_deadline_that_passes_drops_one_caller_alone(engine: Engine) -> None:
    runner = FakeRunner()
    hold = _hold(engine, runner)
    late = engine.submit(Ticket.from_ids(runner, [[5, 5]], deadline=time.monotonic() + 0.02))
    other = engine.submit(Ticket.from_ids(runner, [[5, 5]]))
    with pytest.raises(DeadlineExceeded):
        late.result(5)
    runner.gate.set()
    assert other.result(5)[0, 1] == 10 and hold.result(5)[0, 1] == 1


def test_a_failing_input_fails_for_each_of_its_callers(engine: Engine) -> None:
    runner = FakeRunner()
    hold = _hold(engine, runner)
    tickets = [engine.submit(Ticket.from_ids(runner, [*[[n]] * n, [POISON]])) for n in (0, 1, 2)]
    runner.gate.set()
    messages = []
    for ticket in tickets:
        for _ in range(2):  # a second look gets the same message
            with pytest.raises(ExecutionFailed) as raised:
                ticket.result(5)
            messages.append(str(raised.value).partition(" The")[0])
    assert [message[:8] for message in messages] == ["The runt"] * 2 + ["Input 1:"] * 2 + ["Input 2:"] * 2
    hold.result(5)


def test_a_lane_that_dies_loses_no_equal_input(engine: Engine) -> None:
    runner, other = FakeRunner(), FakeRunner("other")
    hold = _hold(engine, runner)
    frail = [engine.submit(Ticket.from_ids(runner, [[FRAIL]])) for _ in range(3)]
    deadly = [engine.submit(Ticket.from_ids(other, [[KILLER]])) for _ in range(2)]
    runner.gate.set()
    for ticket in deadly:
        with pytest.raises(ExecutionFailed, match="A lane died each time"):
            ticket.result(5)
    for ticket in frail:
        assert ticket.result(5)[0, 1] == FRAIL
    hold.result(5)
    _until(lambda: engine.ready)
    assert engine.submit(Ticket.from_ids(runner, [[4], [4]])).result(5)[:, 1].tolist() == [4, 4]


def test_a_hung_batch_fails_for_all_of_its_callers() -> None:
    engine, runner = Engine(lanes=1, limits=EngineLimits(stall=0.05)), FakeRunner()
    runner.gate.clear()
    try:
        ticket = engine.submit(Ticket.from_ids(runner, [[1], [1]]))
        with pytest.raises(ExecutionFailed, match="did not answer"):
            ticket.result(5)
        assert set(ticket.errors) == {0, 1}
    finally:
        runner.gate.set()
        engine.close(drain=False)


def test_the_index_finds_and_forgets_each_job() -> None:
    equal = EqualJobs()
    jobs = Ticket.from_ids(FakeRunner(), [[1], [2], [1], [1], [3]]).jobs
    for job in jobs:
        job.key = job_key(job)
    equal.add(jobs)
    equal.remove(jobs[0])
    equal.remove(jobs[4])
    assert equal.lead([jobs[2], jobs[3], jobs[1]]) == [jobs[2], jobs[1]]
    assert list(jobs[2].twins) == [jobs[3]] and not jobs[1].twins and not len(equal)


def test_many_callers_of_few_texts_get_the_right_results() -> None:
    engine, runner = Engine(lanes=2), FakeRunner(batch_tokens=40)
    runner.shared_length = 3
    wrong: list[object] = []

    def call(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(40):
            inputs = [[chance.randrange(4)] * chance.randint(1, 6) for _ in range(chance.randint(1, 9))]
            options: Any = {"caller": Caller(str(seed % 3), seed), "bulk": chance.random() < 0.3}
            ticket = engine.submit(Ticket.from_ids(runner, inputs, **options))
            if chance.random() < 0.2:
                engine.cancel(ticket)
            try:
                rows = ticket.result(5)
            except Cancelled:
                continue
            wrong.extend([inputs] * (rows.tolist() != [[len(ids), sum(ids)] for ids in inputs]))

    threads = [threading.Thread(target=call, args=[seed]) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not wrong and engine.drain(5) and not len(engine._scheduler._state.equal)
    assert engine.stats().queued_tokens == 0
    engine.close()


def test_equal_texts_are_tokenised_once_and_counted_each() -> None:
    texts = ["a cat sat", "a dog", "a cat sat", "a cat sat"]
    with tiny_encoder() as encoder:
        tokens, vectors = encoder.tokenize(texts), encoder.encode(texts)
        alone = [encoder.tokenize([text])[0] for text in texts]
        assert tokens == alone and len({id(item.ids) for item in tokens}) == 4
        assert vectors.tokens.tolist() == [len(item.ids) for item in alone]
        assert np.array_equal(vectors[[0, 0]], vectors[[2, 3]]) and not np.array_equal(vectors[0], vectors[1])
        with pytest.raises(InputError, match="input 2 is not Unicode"):
            encoder.encode(["a", "a", "\ud800"])
