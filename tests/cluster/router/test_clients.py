"""What clients can make a router do: limits of bodies, disconnects, addresses behind proxies, traces."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from nearfield.server.observability.traces import Traces
from nearfield.setting_fields import ByteSize
from tests.support.fake_backends import FakeServer, SeenRequest, hang, routing

pytestmark = pytest.mark.network
EMBED, BODY = "/v1/embeddings", {"model": "tiny", "input": "cat"}


async def test_a_body_above_the_limit_reaches_no_server() -> None:
    server = FakeServer()
    async with routing(server, max_body_bytes=ByteSize(2048)) as router:
        reply = await router.client.post(EMBED, content=b"x" * 5000)
        assert reply.status_code == 413 and reply.json()["error"]["code"]
        assert (await router.client.post("/embed", content=b"x" * 5000)).json()["error_type"]  # in TEI's form
    assert not server.seen


async def test_long_paths_and_headers_reach_no_server() -> None:
    server = FakeServer()
    async with routing(server) as router:
        assert (await router.client.get("/" + "a" * 5000)).status_code == 414
        assert (await router.client.get("/v1/models", headers={"accept": "a" * 2000})).status_code == 431
    assert not server.seen


async def test_a_client_that_disconnects_frees_the_server() -> None:
    gone = asyncio.Event()

    async def wait(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        while not writer.transport.is_closing():
            await asyncio.sleep(0.01)
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        gone.set()

    messages: list[Any] = [{"type": "http.request", "body": b"{}", "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async with routing(FakeServer(wait)) as router:
        scope = {"type": "http", "method": "POST", "path": EMBED, "headers": [], "client": ("127.0.0.1", 1)}
        await asyncio.wait_for(router.app(scope, receive, send), 5)
        assert sent[0]["status"] == 499
        await asyncio.wait_for(gone.wait(), 5)
        assert [backend.requests for backend in router.state.backends.all] == [0]


async def test_clients_share_the_memory_of_bodies_by_their_address() -> None:
    server = FakeServer(hang)
    async with (
        routing(server, max_body_bytes=ByteSize(4096), reply_timeout=1.0) as router,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(router.app, client=("10.0.0.9", 1)), base_url="http://router", timeout=30
        ) as other,
    ):
        greedy = [asyncio.create_task(router.client.post(EMBED, content=b"x" * 4000)) for _ in range(4)]
        await asyncio.sleep(0.3)
        assert {task.result().status_code for task in greedy if task.done()} == {429}
        small = asyncio.create_task(other.post(EMBED, content=b"x" * 500))
        await asyncio.sleep(0.2)
        assert not small.done()  # it was accepted, and waits for the server
        await asyncio.gather(*greedy, small)
        assert small.result().status_code == 504


@pytest.mark.parametrize(("trusted", "address"), [(("127.0.0.1",), "9.9.9.9"), ((), "127.0.0.1")])
async def test_the_address_of_a_client_behind_a_proxy(trusted: tuple[str, ...], address: str) -> None:
    server = FakeServer()
    async with routing(server, trusted_proxies=trusted) as router:
        await router.client.post(EMBED, json=BODY, headers={"x-forwarded-for": "9.9.9.9", "x-forwarded-proto": "https"})
    (request,) = server.seen
    assert request.header("x-forwarded-for") == address
    assert request.header("x-forwarded-proto") == ("https" if trusted else "http")


async def test_a_request_is_traced_without_its_text() -> None:
    exporter = InMemorySpanExporter()
    traces = Traces(exporter)
    traces._provider.add_span_processor(SimpleSpanProcessor(exporter))
    server = FakeServer()
    async with routing(server) as router:
        router.state.traces = traces
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        await router.client.post(EMBED, json=BODY, headers={"traceparent": parent})
        await router.client.get("/health")
    (span,) = exporter.get_finished_spans()
    assert span.name == "POST /v1/embeddings" and f"{span.context.trace_id:032x}" == parent.split("-")[1]
    assert "cat" not in str(span.attributes)
    traces.close()
