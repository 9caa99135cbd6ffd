"""A front's view of the engines: choice, retry, waiting. Engines are fakes; Ray is not needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from nearfield.cluster.serving.cluster_engine import ClusterEngine, EngineLost, NoEngine, WaitLimits
from nearfield.cluster.serving.messages import EngineState, with_durations, with_times
from nearfield.engine.ipc.remote_engine import EngineReply, EngineRequest, Snapshot
from nearfield.engine.job import Ticket
from nearfield.engine.stats import EngineStats
from nearfield.errors import InputError, NearfieldError, Overloaded, ShuttingDown


@dataclass(eq=False)
class FakeRunner:
    """A model without weights, with rows of length 2."""

    name: str = "model"
    width: int = 2
    batch_tokens: int = 64
    shared_length: int = 0

    def create_lane_function(self) -> Any:
        """Never run here."""
        raise NotImplementedError


@dataclass(eq=False)
class FakeEngine:
    """An engine actor: replies with its number, or fails as often as ``failures`` says."""

    number: int
    failures: list[Exception] = field(default_factory=list)
    pause: float = 0.0
    requests: list[EngineRequest] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)

    async def run(self, front: str, request: EngineRequest) -> EngineReply:
        """Answer a ticket."""
        self.requests.append(request)
        await asyncio.sleep(self.pause)
        if self.failures:
            error = self.failures.pop(0)
            if isinstance(error, EngineLost):
                raise error
            return EngineReply(request.number, error=error, index=0 if isinstance(error, InputError) else None)
        return EngineReply(request.number, np.full((1, 2), self.number, np.float32), None, None, 0.0, 0.1)

    async def cancel(self, front: str, number: int) -> None:
        """Note the number."""
        self.cancelled.append(number)


def _state(engine: FakeEngine, queued: int = 0, refusal: NearfieldError | None = None, group: int = 0) -> EngineState:
    stats = EngineStats(0, 0, queued, 0, 0, 100.0, 1, 1, False)
    return EngineState(engine.number, group, engine, Snapshot(stats, (), refusal))


async def _call(method: Any, *values: Any) -> Any:
    return await method(*values)


def _front(states: Sequence[EngineState], runner: FakeRunner, seconds: float = 5.0, tokens: int = 100) -> ClusterEngine:
    engine = ClusterEngine("front", WaitLimits(seconds, tokens), _call)
    engine.serve([runner])
    engine.update(states)
    return engine


def _ticket(runner: FakeRunner, tokens: int = 3, **options: Any) -> Ticket:
    return Ticket.from_ids(runner, [list(range(tokens))], **options)


async def test_a_ticket_goes_to_the_shortest_queue_including_what_was_sent_since() -> None:
    runner, engines = FakeRunner(), [FakeEngine(1, pause=0.05), FakeEngine(2, pause=0.05)]
    front = _front([_state(engines[0], 10), _state(engines[1], 4)], runner)
    await asyncio.gather(*(front.run(_ticket(runner)) for _ in range(8)))
    # Of 24 tokens, so many to each that the queues of 10 and 4 become equal.
    assert [len(engine.requests) for engine in engines] == [3, 5]


async def test_a_ticket_of_a_lost_engine_is_computed_by_another() -> None:
    runner, engines = FakeRunner(), [FakeEngine(1, [EngineLost("gone")]), FakeEngine(2)]
    front = _front([_state(engines[0]), _state(engines[1], 50)], runner)
    assert (await front.run(_ticket(runner)))[0, 0] == 2
    assert front.lost == [1]
    assert (await front.run(_ticket(runner)))[0, 0] == 2
    assert len(engines[0].requests) == 1


async def test_a_ticket_that_ends_two_engines_is_not_sent_to_a_third() -> None:
    runner, engines = FakeRunner(), [FakeEngine(number, [EngineLost("gone")]) for number in range(3)]
    front = _front([_state(engine) for engine in engines], runner)
    with pytest.raises(EngineLost):
        await front.run(_ticket(runner))
    assert sum(len(engine.requests) for engine in engines) == 2


async def test_a_refusal_is_tried_elsewhere_and_an_error_of_the_input_is_not() -> None:
    runner, engines = FakeRunner(), [FakeEngine(1, [Overloaded("full"), InputError("bad")]), FakeEngine(2)]
    front = _front([_state(engines[0]), _state(engines[1], 50)], runner)
    assert (await front.run(_ticket(runner)))[0, 0] == 2
    with pytest.raises(InputError, match=r"^bad$"):
        await front.run(_ticket(runner))
    assert len(engines[1].requests) == 1


async def test_the_refusal_of_all_engines_is_that_of_the_last() -> None:
    runner, engine = FakeRunner(), FakeEngine(1, [Overloaded("full", retry_after=7.0)])
    with pytest.raises(Overloaded) as caught:
        await _front([_state(engine)], runner).run(_ticket(runner))
    assert caught.value.retry_after == 7.0
    front = _front([_state(engine, refusal=Overloaded("full")), _state(FakeEngine(2))], runner)
    front.check_room()
    front.update([_state(engine, refusal=Overloaded("full"))])
    with pytest.raises(Overloaded):
        front.check_room()


async def test_a_ticket_that_an_ending_engine_refuses_waits_for_the_next_engine() -> None:
    runner, last, new = FakeRunner(), FakeEngine(1, [ShuttingDown("ends")]), FakeEngine(2)
    front = _front([_state(last)], runner)
    waiting = asyncio.ensure_future(front.run(_ticket(runner)))
    await asyncio.sleep(0.01)
    assert front.waiting_tokens == 3
    front.update([_state(new)])
    assert (await waiting)[0, 0] == 2


async def test_a_ticket_waits_for_an_engine_and_counts_as_queued() -> None:
    runner, engine = FakeRunner(), FakeEngine(1)
    front = _front([], runner)
    waiting = asyncio.ensure_future(front.run(_ticket(runner)))
    await asyncio.sleep(0.01)
    assert front.waiting_tokens == front.stats().queued_tokens == 3
    front.update([_state(engine)])
    assert (await waiting)[0, 0] == 1
    assert front.waiting_tokens == 0


async def test_waiting_ends_before_the_deadline_with_the_time_that_loading_takes() -> None:
    runner = FakeRunner()
    front = _front([], runner)
    front.load_seconds = 12.0
    with pytest.raises(NoEngine) as caught:
        await front.run(_ticket(runner, deadline=time.monotonic() + 0.55))
    assert (caught.value.status, caught.value.retry_after) == (503, 12.0)
    assert front.waiting_tokens == 0


async def test_waiting_tokens_are_bounded() -> None:
    runner = FakeRunner()
    front = _front([], runner, seconds=0.2, tokens=5)
    first = asyncio.ensure_future(front.run(_ticket(runner, 4)))
    await asyncio.sleep(0.01)
    with pytest.raises(NoEngine, match="4 tokens wait already"):
        await front.run(_ticket(runner, 4))
    with pytest.raises(NoEngine, match="one is being started"):
        await first


async def test_a_caller_that_leaves_cancels_its_ticket() -> None:
    runner, engine = FakeRunner(), FakeEngine(1, pause=5.0)
    front = _front([_state(engine)], runner)
    task = asyncio.ensure_future(front.run(_ticket(runner)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.01)
    assert engine.cancelled == [engine.requests[0].number]


def test_times_are_sent_as_durations() -> None:
    now = time.monotonic()
    request = EngineRequest.from_ticket(1, 0, _ticket(FakeRunner(), deadline=now + 10.0, created=now - 2.0))
    sent = with_durations(request)
    assert sent.deadline == pytest.approx(10.0, abs=0.5)
    assert sent.created == pytest.approx(2.0, abs=0.5)
    received = with_times(sent)
    assert received.deadline == pytest.approx(now + 10.0, abs=0.5)
    assert received.created == pytest.approx(now - 2.0, abs=0.5)
