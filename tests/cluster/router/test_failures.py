"""Back-ends that die, hang, answer garbage or fail half of the time: clients see no error if another can answer."""

from __future__ import annotations

import asyncio
import itertools
import re
from typing import Any

import pytest

from nearfield.cluster.router.backends.address import BackendAddress
from nearfield.cluster.router.backends.connection_pool import ConnectionPool
from tests.support.fake_backends import (
    Behaviour,
    FakeServer,
    SeenRequest,
    answering,
    close_connection,
    hang,
    http_reply,
    routing,
    writing,
)

pytestmark = pytest.mark.network
EMBED, BODY = "/v1/embeddings", {"model": "tiny", "input": "cat"}
_HEAD = b"HTTP/1.1 200 OK\r\n"

#: What a sick server does, by what it is called in the test's name.
SICK: dict[str, Behaviour] = {
    "closes": close_connection,
    "garbage": writing(b"\x00\xff garbage\r\n\r\n"),
    "a page of another program": writing(_HEAD + b"content-length: 5\r\n\r\nhello"),
    "no length": writing(_HEAD + b"\r\nhello"),
    "cut in the head": writing(_HEAD + b"content-le"),
    "cut in the body": writing(_HEAD + b"content-length: 500\r\n\r\nhello"),
    "cut in a chunk": writing(_HEAD + b"transfer-encoding: chunked\r\n\r\nff\r\nhello"),
    "wrong chunk": writing(_HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\nhello"),
    "many headers": writing(_HEAD + b"a: b\r\n" * 200 + b"\r\n"),
    "endless head": writing(_HEAD + b"a: " + b"b" * 100_000),
    "status 999": writing(b"HTTP/1.1 999 X\r\ncontent-length: 0\r\n\r\n"),
    "status 000": writing(b"HTTP/1.1 000 X\r\ncontent-length: 0\r\n\r\n"),
    "two lengths": writing(_HEAD + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd"),
    "endless trailers": writing(_HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 20_000),
    "upgrade": writing(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
    "500": answering(500),
    "502": answering(502),
    "503": answering(503, retry_after="1"),
}


@pytest.mark.parametrize("kind", SICK)
async def test_a_sick_server_costs_no_request(kind: str) -> None:
    sick, well = FakeServer(SICK[kind]), FakeServer(answering(200, b'{"ok": 1}'))
    async with routing(sick, well) as router:
        for _ in range(20):
            reply = await router.client.post(EMBED, json=BODY)
            assert (reply.status_code, reply.json()) == (200, {"ok": 1})
        backends = (await router.client.get("/ready")).json()["backends"]
    assert [backend["state"] for backend in backends] == ["ejected", "up"]
    assert len(sick.seen) <= 10  # then it is left alone


async def test_interim_replies_are_skipped() -> None:
    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" + http_reply(request, 200, b"{}"))

    async with routing(FakeServer(answer)) as router:
        assert (await router.client.post(EMBED, json=BODY)).content == b"{}"


async def test_bytes_after_a_reply_are_not_the_next_reply() -> None:
    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(http_reply(request, 200, b"{}") + b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")

    async with routing(FakeServer(answer)) as router:
        for _ in range(4):
            assert (await router.client.post(EMBED, json=BODY)).content == b"{}"


async def test_a_request_that_may_change_something_is_sent_once() -> None:
    one, two = FakeServer(close_connection), FakeServer(close_connection)
    async with routing(one, two) as router:
        reply = await router.client.post("/api/generate", json={"model": "tiny"})
        assert reply.status_code == 502
        assert len(one.seen) + len(two.seen) == 1
    home = FakeServer(close_connection)
    async with routing(home) as router:
        reply = await router.client.post("/collections", json={}, headers={"authorization": "Bearer k"})
        assert reply.status_code == 502 and "not repeated" in reply.text
        assert len(home.seen) == 1


async def test_a_request_is_sent_twice_and_once_on_an_idle_connection_at_the_most() -> None:
    servers = [FakeServer(close_connection) for _ in range(4)]
    async with routing(*servers) as router:
        reply = await router.client.post(EMBED, json=BODY)
        assert reply.status_code == 502
        assert reply.json()["error"]["code"] == "backend_failed"
    assert 2 <= sum(len(server.seen) for server in servers) <= 3


async def test_an_idle_connection_that_the_server_has_closed_costs_nothing() -> None:
    async def answer_and_close(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(http_reply(request))
        await writer.drain()
        writer.close()

    server = FakeServer(answer_and_close)
    async with routing(server) as router:
        for _ in range(10):
            assert (await router.client.post(EMBED, json=BODY)).status_code == 200


async def test_half_of_the_requests_fail() -> None:
    turns = itertools.count()

    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(http_reply(request, 503 if next(turns) % 2 else 200))

    sick, well = FakeServer(answer), FakeServer()
    async with routing(sick, well) as router:
        replies = [(await router.client.post(EMBED, json=BODY)).status_code for _ in range(60)]
        assert set(replies) == {200}
        assert (await router.client.get("/ready")).json()["backends"][0]["state"] == "ejected"


async def test_an_error_that_all_servers_give_ejects_none() -> None:
    servers = [FakeServer(answering(500, b'{"error": "poison"}')) for _ in range(2)]
    async with routing(*servers) as router:
        for _ in range(30):
            reply = await router.client.post(EMBED, json=BODY)
            assert (reply.status_code, reply.json()) == (500, {"error": "poison"})
        backends = (await router.client.get("/ready")).json()["backends"]
    assert [backend["state"] for backend in backends] == ["up", "up"]


async def test_a_server_that_never_answers_loses_its_requests_to_others() -> None:
    stuck, well = FakeServer(hang), FakeServer(answering(200, b'{"ok": 1}'))
    async with routing(stuck, well, reply_timeout=0.4) as router:
        replies = await asyncio.gather(*(router.client.post(EMBED, json=BODY) for _ in range(8)))
        assert {reply.status_code for reply in replies} == {200}
        assert router.retries("failed") > 0


async def test_without_another_server_a_request_ends_in_time() -> None:
    async with routing(FakeServer(hang), reply_timeout=0.2) as router:
        reply = await router.client.post(EMBED, json=BODY)
        assert reply.status_code == 504 and reply.json()["error"]["code"] == "backend_timeout"


async def test_a_stopped_server_is_noticed_by_its_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after SIGSTOP: connections open, and nothing is answered, not even the probe."""
    monkeypatch.setattr("nearfield.cluster.router.backends.probes.PROBE_TIMEOUT", 0.2)
    monkeypatch.setattr("nearfield.cluster.router.backends.probes.PROBE_SECONDS", 0.1)
    stopped, well = FakeServer(), FakeServer()
    async with routing(stopped, well) as router:
        stopped.behave = stopped.probed = hang
        replies = await asyncio.gather(*(router.client.post(EMBED, json=BODY) for _ in range(6)))
        assert {reply.status_code for reply in replies} == {200}
        stopped.behave, stopped.probed = answering(), None
        before = len(stopped.seen)
        for _ in range(100):
            await router.client.post(EMBED, json=BODY)
            await asyncio.sleep(0.02)
            if len(stopped.seen) > before:
                break
        assert len(stopped.seen) > before  # it is back


@pytest.mark.parametrize("kind", ["garbage", "500", "hang", "html"])
async def test_a_server_that_fails_probes_gets_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfield.cluster.router.backends.probes.PROBE_TIMEOUT", 0.1)
    monkeypatch.setattr("nearfield.cluster.router.backends.probes.PROBE_SECONDS", 0.05)
    probes = {**SICK, "hang": hang, "html": answering(200, b"<html>")}
    sick, well = FakeServer(probed=probes[kind]), FakeServer()
    async with routing(sick, well) as router:
        for _ in range(4):
            assert (await router.client.post(EMBED, json=BODY)).status_code == 200
        assert (await router.client.get("/ready")).json()["backends"][0]["problem"]
    assert not sick.seen


async def test_a_reply_that_breaks_off_late_is_incomplete_for_the_client() -> None:
    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(http_reply(request, 200, b"x" * 3_000_000)[:2_000_000])
        await writer.drain()
        writer.close()

    messages: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"{}", "more_body": False} if not messages else await asyncio.sleep(60)

    async def send(message: Any) -> None:
        messages.append(message)

    async with routing(FakeServer(answer)) as router:
        scope = {"type": "http", "method": "POST", "path": EMBED, "headers": [], "client": ("127.0.0.1", 1)}
        await router.app(scope, receive, send)
    start, *parts = messages
    assert (b"content-length", b"3000000") in start["headers"]
    assert all(part["more_body"] for part in parts)  # uvicorn then closes the connection


async def test_a_killed_server_comes_back() -> None:
    one, two = FakeServer(), FakeServer()
    async with routing(one, two) as router:
        await one.stop()
        for _ in range(6):
            assert (await router.client.post(EMBED, json=BODY)).status_code == 200
        assert len(two.seen) >= 5
        await one.start()
        before = len(one.seen)
        for _ in range(200):
            await router.client.post(EMBED, json=BODY)
            if len(one.seen) > before:
                break
            await asyncio.sleep(0.02)
        assert len(one.seen) > before


async def test_an_early_reply_ends_an_upload() -> None:
    async def refuse_early(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(http_reply(request, 401, b'{"error": "key"}'))

    server = FakeServer(refuse_early)
    async with routing(server) as router:
        reply = await router.client.post("/v1/files", files={"file": ("a.jsonl", b"x" * 100_000)})
        assert reply.status_code == 401


async def test_what_an_early_reply_leaves_of_an_upload_is_no_next_request() -> None:
    async def refuse_at_the_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        request_id = re.findall("x-request-id: (.*)\r\n", head)[0]
        writer.write(f"HTTP/1.1 401 X\r\nx-request-id: {request_id}\r\ncontent-length: 2\r\n\r\n{{}}".encode())
        assert await reader.read(100_000) == b"5\r\nhello\r\n"  # and then the end, not another request
        assert await reader.read() == b""
        writer.close()
        ended.set()

    async def receive() -> Any:
        return messages.pop() if messages else await asyncio.sleep(60)

    async def send(message: Any) -> None:
        statuses.append(message.get("status"))

    ended, statuses = asyncio.Event(), list[Any]()
    messages: list[Any] = [{"type": "http.request", "body": b"hello", "more_body": True}]
    server = FakeServer()
    upload = await asyncio.start_server(refuse_at_the_head, "127.0.0.1", 0)
    async with routing(server) as router:
        (backend,) = router.state.backends.all
        port = upload.sockets[0].getsockname()[1]
        backend.pool = ConnectionPool(BackendAddress("http", "127.0.0.1", port))
        scope = {"type": "http", "method": "POST", "path": "/v1/files", "headers": [], "client": ("127.0.0.1", 1)}
        await asyncio.wait_for(router.app(scope, receive, send), 5)
        assert statuses[0] == 401
        await asyncio.wait_for(ended.wait(), 5)
    upload.close()
    await upload.wait_closed()
