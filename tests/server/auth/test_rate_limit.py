"""Tokens of a key: charged before they are queued, and counted no more where no batch took them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest

from nearfield.engine.engine import Engine, Ticket
from nearfield.errors import RateLimited
from nearfield.server.auth.account import RequestAccount
from nearfield.server.auth.api_key import ApiKey
from nearfield.testing import tiny_encoder
from tests.engine.test_engine import FakeRunner
from tests.support.serving import serving

LIMIT = 100
LARGE = ["cat " * count for count in (49, 50, 51)]


class BusyServer:
    """A server with a key of 100 tokens a minute, whose lane is occupied until ``gate`` is set."""

    def __init__(self, url: str, engine: Engine, gate: threading.Event) -> None:
        self.url, self.engine, self.gate = url, engine, gate

    def post(self, text: object, timeout: float = 30.0) -> int:
        response = httpx.post(
            self.url + "/v1/embeddings",
            json={"model": "tiny", "input": text},
            headers={"authorization": "Bearer slow"},
            timeout=timeout,
        )
        return response.status_code


@pytest.fixture(params=[0, 2**20])
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[BusyServer]:
    """With and without a cache, which runs a part of a ticket in place of the ticket."""
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[[keys]]\nname = "slow"\nkey = "slow"\ntokens_per_minute = {LIMIT}\n', "utf-8")
    engine, other = Engine(1), FakeRunner()
    other.gate.clear()
    engine.submit(Ticket.from_ids(other, [[1]]))
    with (
        tiny_encoder(tmp_path / "tiny", engine=engine) as encoder,
        serving([encoder], api_key_file=keys, cache_memory=request.param) as url,
    ):
        yield BusyServer(url, engine, other.gate)
        other.gate.set()
    engine.close(drain=False)


def _until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition was never true"
        time.sleep(0.01)


@pytest.mark.network
def test_requests_that_wait_have_been_charged(server: BusyServer) -> None:
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.post, LARGE)
        _until(lambda: server.engine.stats().queued_jobs == 3)
        assert [server.post(["cat"]) for _ in range(3)] == [429] * 3
        server.gate.set()
        assert first.result() == 200
        assert server.post("cat") == 429


@pytest.mark.network
def test_a_client_that_leaves_gets_back_what_was_not_begun(server: BusyServer) -> None:
    with pytest.raises(httpx.ReadTimeout):
        server.post(LARGE, timeout=1.0)
    _until(lambda: server.engine.stats().queued_jobs == 0)
    server.gate.set()
    _until(lambda: server.post("cat") == 200)


@pytest.mark.network
def test_a_client_that_leaves_pays_for_what_was_begun(server: BusyServer) -> None:
    server.gate.set()
    stop = threading.Event()
    deliver_now = server.engine._scheduler.deliver

    def deliver(*arguments: object) -> None:
        stop.wait(20)
        deliver_now(*arguments)  # type: ignore[arg-type]

    _until(lambda: server.engine.stats().running_batches == 0)
    server.engine._scheduler.deliver = deliver  # type: ignore[method-assign,assignment]
    try:
        with pytest.raises(httpx.ReadTimeout):
            server.post(LARGE, timeout=1.5)
        assert server.post("cat") == 429
    finally:
        stop.set()


@pytest.mark.network
def test_a_batch_spends_the_rate_of_its_key_line_by_line(server: BusyServer) -> None:
    server.gate.set()
    with openai.OpenAI(base_url=server.url + "/v1", api_key="slow", max_retries=0) as client:
        lines = [
            b'{"custom_id": "%d", "method": "POST", "url": "/v1/embeddings", '
            b'"body": {"model": "tiny", "input": ["%s"]}}' % (number, b"cat " * (28 + number))
            for number in range(6)
        ]
        file = client.files.create(file=("lines.jsonl", b"\n".join(lines)), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")

        def counts() -> tuple[int, int]:
            state = client.batches.retrieve(batch.id)
            assert state.request_counts is not None
            return state.request_counts.completed, state.request_counts.failed

        _until(lambda: counts()[0] >= 4)  # four of about 31 tokens: the last one overdraws
        time.sleep(0.5)
        assert counts() == (4, 0)
        assert client.batches.retrieve(batch.id).status == "in_progress"
        assert server.post("cat") == 429
        client.batches.cancel(batch.id)


def test_one_request_may_overdraw_and_the_next_is_refused() -> None:
    key = ApiKey("k", b"x" * 32, tokens_per_minute=LIMIT)
    first, second = RequestAccount(key), RequestAccount(key)
    first.charge(150)
    first.charge(10)  # of the same request
    with pytest.raises(RateLimited):
        second.charge(1)
    first.refund(160)
    second.charge(1)
    second.settle(90)
    key.check_rate()
    first.charge(20)
    with pytest.raises(RateLimited):
        key.check_rate()
