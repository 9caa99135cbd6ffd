"""The engine over a channel: results equal those of the engine, whatever happens at either end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from nearfield.engine.engine import Batch, Engine, EngineLimits, Ticket
from nearfield.engine.ipc.host import EngineHost, snapshot
from nearfield.engine.ipc.remote_engine import RemoteEngine
from nearfield.engine.ipc.transport import Channel, ChannelClosed, frame, sendable
from nearfield.engine.turns import CALLER, Caller
from nearfield.errors import ExecutionFailed, InputError, InputTooLong, Overloaded, ShuttingDown
from nearfield.heads import OutputRequest
from tests.engine.test_engine import NAN, POISON, FakeRunner


class Kinds(FakeRunner):
    """Gives what jobs with extras get, a dictionary of arrays, and keeps their extras."""

    width = 0

    def __init__(self) -> None:
        super().__init__()
        self.extras: list[Any] = []

    def create_lane_function(self) -> Callable[[Batch], Any]:
        return self._pairs

    def _pairs(self, batch: Batch) -> Any:
        self.extras += [job.extra for job in batch.jobs]
        return [{"sparse": (job.features.arrays()["ids"], np.array([job.skip], np.float32))} for job in batch.jobs]


class Pair:
    """Both ends of a channel in one loop, with an engine behind one of them."""

    def __init__(self, *runners: Any, limits: EngineLimits | None = None) -> None:
        self.runners = runners
        self.engine = Engine(1, limits)
        self.failed: list[Exception] = []

    async def __aenter__(self) -> Pair:
        ours, theirs = socket.socketpair()
        self.link, self.other = await Channel.over(ours), await Channel.over(theirs)
        self.remote = RemoteEngine(self.link, snapshot(self.engine))
        self.remote.serve(self.runners)
        self.host = EngineHost(self.engine, self.runners, self.other, self.failed.append)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.link.close()
        self.other.close()
        self.engine.close(drain=False)
        await asyncio.sleep(0)

    async def run(self, *inputs: list[int], **options: Any) -> Any:
        return await self.remote.run(Ticket.from_ids(self.runners[0], inputs, **options))


def _run(work: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(work(), 30))


def test_rows_come_back_in_order_with_the_seconds_they_took() -> None:
    async def work() -> None:
        async with Pair(FakeRunner("a"), FakeRunner("b")) as pair:
            ticket = Ticket.from_ids(pair.runners[1], [[1], [2, 3], [4, 5, 6]])
            np.testing.assert_array_equal(await pair.remote.run(ticket), [[1, 1], [2, 5], [3, 15]])
            assert set(ticket.seconds) == {"queue", "run"}
            assert all(seconds >= 0 for seconds in ticket.seconds.values())
            assert pair.runners[1].batches
            assert not pair.runners[0].batches
            assert (await pair.remote.run(Ticket.from_ids(pair.runners[0], []))).shape == (0, 2)

    _run(work)


def test_requests_reach_the_runner_and_results_come_back() -> None:
    async def work() -> None:
        async with Pair(Kinds()) as pair:
            extra = OutputRequest(
                ("sparse",), second=3, spans=((0, 1),), kept_tokens=np.array([2, 5]), unattended=1, adapter=4
            )
            first, second = await pair.run([7, 8], [9], skips=[0, 1], extras=[extra, extra])
            np.testing.assert_array_equal(first["sparse"][0], np.array([7, 8], np.int32))
            assert first["sparse"][0].dtype == np.int32
            np.testing.assert_array_equal(second["sparse"][1], np.array([1], np.float32))
            request = pair.runners[0].extras[1]
            np.testing.assert_array_equal(request.kept_tokens, [2, 5])
            assert (request.outputs, request.second, request.spans, request.unattended, request.adapter) == (
                ("sparse",),
                3,
                ((0, 1),),
                1,
                4,
            )

    _run(work)


@pytest.mark.slow
def test_large_results_and_many_at_once() -> None:
    async def work() -> None:
        async with Pair(FakeRunner(batch_tokens=10**6)) as pair:
            sizes = [100 if number % 7 else 20_000 for number in range(15)]
            tickets = [pair.run(*([number, 1000 + at] for at in range(size))) for number, size in enumerate(sizes)]
            for number, rows in enumerate(await asyncio.gather(*tickets)):
                np.testing.assert_array_equal(rows[:, 1], number + 1000 + np.arange(sizes[number]))

    _run(work)


@pytest.mark.parametrize(("ids", "message"), [([POISON], "the kernel choked"), ([NAN], "infinite or undefined")])
def test_an_input_that_fails_is_named(ids: list[int], message: str) -> None:
    async def work() -> None:
        async with Pair(FakeRunner()) as pair:
            with pytest.raises(ExecutionFailed, match=f"^Input 1: .*{message}"):
                await pair.run([1], ids)
            with pytest.raises(ExecutionFailed, match=message):
                await pair.run(ids)
            assert [type(error) for error in pair.failed] == [ExecutionFailed] * 2
            np.testing.assert_array_equal(await pair.run([1]), [[1, 1]])

    _run(work)


def test_the_engine_itself_admits() -> None:
    async def work() -> None:
        runner = FakeRunner(batch_tokens=10)
        runner.gate.clear()
        async with Pair(runner, limits=EngineLimits(max_queued_tokens=20)) as pair:
            running = [asyncio.create_task(pair.run([1] * 10))]
            while not pair.engine.stats().running_batches:
                await asyncio.sleep(0.01)
            running += [asyncio.create_task(pair.run([1] * 10)) for _ in range(2)]
            while pair.engine.stats().queued_tokens < 20:
                await asyncio.sleep(0.01)
            with pytest.raises(Overloaded, match="20 tokens wait already") as refused:
                await pair.run([1] * 5, [2])
            assert refused.value.retry_after > 0
            pair.remote.check_room()  # no snapshot has arrived yet
            pair.host.send_snapshot(snapshot(pair.engine))
            while not pair.remote.stats().queued_tokens:
                await asyncio.sleep(0.01)
            for _ in range(2):
                with pytest.raises(Overloaded, match="wait already"):
                    pair.remote.check_room()
            assert pair.remote.ready
            runner.gate.set()
            await asyncio.gather(*running)
            pair.engine.drain(1)
            with pytest.raises(ShuttingDown):
                await pair.run([1])
            pair.host.send_snapshot(snapshot(pair.engine))
            while pair.remote.ready:
                await asyncio.sleep(0.01)
            assert pair.remote.reasons == ["the engine is shutting down"]

    _run(work)


@pytest.mark.parametrize("end", ["task", "host"])
def test_jobs_of_a_caller_that_leaves_are_dropped(end: str) -> None:
    async def work() -> None:
        runner = FakeRunner(batch_tokens=1)
        runner.gate.clear()
        async with Pair(runner) as pair:
            first = asyncio.create_task(pair.run([1]))
            while not pair.engine.stats().running_batches:
                await asyncio.sleep(0.01)
            second = asyncio.create_task(pair.run([2]))
            while pair.engine.stats().queued_jobs != 1:
                await asyncio.sleep(0.01)
            if end == "task":
                second.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await second
            else:
                pair.host.close()
            while pair.engine.stats().queued_jobs:
                await asyncio.sleep(0.01)
            runner.gate.set()
            if end == "task":
                np.testing.assert_array_equal(await first, [[1, 1]])
            else:
                first.cancel()
                second.cancel()
            np.testing.assert_array_equal(await pair.run([3]), [[1, 3]])
            assert [2] not in [ids for batch in runner.batches for ids in batch]

    _run(work)


def test_a_lost_engine_takes_nothing() -> None:
    async def work() -> None:
        async with Pair(FakeRunner()) as pair:
            lost = asyncio.Event()
            pair.link.on_lost = lost.set
            asking = asyncio.create_task(pair.link.call("nothing"))
            pair.other.close()
            await lost.wait()
            with pytest.raises(ChannelClosed):
                await asking
            with pytest.raises(ChannelClosed):
                await pair.link.call("anything")
            with pytest.raises(ShuttingDown):
                await pair.run([1])
            assert pair.remote.reasons == ["the engine's process has ended"]

    _run(work)


def test_calls_return_results_or_raise() -> None:
    async def work() -> None:
        async with Pair(FakeRunner()) as pair:

            async def double(value: int) -> int:
                if value < 0:
                    raise InputError("negative", param="value")
                return 2 * value

            pair.other.call_handlers["double"] = double
            assert await asyncio.gather(*(pair.link.call("double", n) for n in range(5))) == [0, 2, 4, 6, 8]
            with pytest.raises(InputError, match="negative") as refused:
                await pair.link.call("double", -1)
            assert refused.value.param == "value"

    _run(work)


def test_frames_may_come_in_any_pieces() -> None:
    heard: list[Any] = []

    async def work() -> None:
        link = Channel()
        link.handlers["say"] = lambda *values: heard.append(values)
        large = np.arange(5000, dtype=np.float32)
        whole = b"".join(b"".join(frame([("say", (number, large)), ("say", ("small",))])) for number in range(3))
        for size in (1, 7, 4096, len(whole)):
            heard.clear()
            for start in range(0, len(whole), size):
                link.data_received(whole[start : start + size])
            assert [values[0] for values in heard] == [0, "small", 1, "small", 2, "small"]
            for values in heard[::2]:
                np.testing.assert_array_equal(values[1], large)

    _run(work)


def test_errors_keep_their_type_and_what_they_carry() -> None:
    import pickle

    for error in (InputTooLong("too long", param="input"), Overloaded("full", retry_after=3.5)):
        back = pickle.loads(pickle.dumps(sendable(error)))
        assert type(back) is type(error)
        assert (str(back), vars(back)) == (str(error), vars(error))

    class Odd(Exception):
        def __init__(self, first: int, second: int) -> None:
            super().__init__(f"{first} and {second}")

    assert str(sendable(Odd(1, 2))) == "Odd: 1 and 2"


def test_the_owner_and_what_was_not_begun_cross_the_channel() -> None:
    async def work() -> None:
        runner = FakeRunner(batch_tokens=10)
        runner.gate.clear()
        reports: list[int] = []
        async with Pair(runner, limits=EngineLimits(max_queued_tokens=20)) as pair:
            CALLER.set(Caller("greedy", 1))
            running = asyncio.create_task(pair.run([1] * 10))
            while not pair.engine.stats().running_batches:
                await asyncio.sleep(0.01)
            cancelled = asyncio.create_task(pair.run([2] * 10, [3] * 10, on_unstarted=reports.append))
            while pair.engine.stats().queued_tokens < 20:
                await asyncio.sleep(0.01)
            assert {name for name, owner in pair.engine._scheduler._state.owners.items() if owner.tokens} == {"greedy"}
            with pytest.raises(Overloaded):
                await pair.run([4] * 7, on_unstarted=reports.append)
            assert reports == [7]
            pair.host.send_snapshot(snapshot(pair.engine))
            while not pair.remote.stats().queued_tokens:
                await asyncio.sleep(0.01)
            with pytest.raises(Overloaded):
                pair.remote.check_room()
            CALLER.set(Caller("polite", 2))
            pair.remote.check_room()
            polite = asyncio.create_task(pair.run([5] * 4))
            cancelled.cancel()
            while len(reports) < 2:
                await asyncio.sleep(0.01)
            assert reports == [7, 20]
            runner.gate.set()
            await asyncio.gather(running, polite)
            assert not pair.remote._cancelled

    _run(work)
