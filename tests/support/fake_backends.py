"""Servers behind a router that behave as a test says: they answer, fail, break off, hang, or send what is no HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.types import ASGIApp

from nearfield.cluster.router.backends.address import parse_address
from nearfield.cluster.router.backends.membership import BackendSet
from nearfield.cluster.router.router_app import create_router_app
from nearfield.cluster.router.router_settings import RouterSettings
from nearfield.cluster.router.router_state import RouterState


@dataclass(frozen=True)
class SeenRequest:
    """A request that a server got."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return a header's value."""
        return dict(self.headers).get(name)


Behaviour = Callable[[SeenRequest, asyncio.StreamWriter], Awaitable[None]]


def http_reply(request: SeenRequest, status: int = 200, body: bytes = b"{}", **headers: str) -> bytes:
    """Return a reply as a Nearfield server writes it."""
    lines = {"content-length": str(len(body)), "x-request-id": request.header("x-request-id") or "", **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + body


def answering(status: int = 200, body: bytes = b"{}", **headers: str) -> Behaviour:
    """Return the behaviour of a server that answers so."""

    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(http_reply(request, status, body, **headers))

    return answer


def writing(data: bytes, *, close: bool = True) -> Behaviour:
    """Return the behaviour of a server that writes bytes, whatever they are."""

    async def write(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if close:
            writer.close()

    return write


async def hang(_: SeenRequest, __: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.sleep(3600)


async def close_connection(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
    """Close without an answer."""
    writer.close()


@dataclass(eq=False)
class FakeServer:
    """A server on loopback with one behaviour for all paths but /ready."""

    behave: Behaviour = field(default_factory=answering)
    models: Sequence[str] = ("tiny",)
    ready: bool = True
    queued_tokens: int = 0
    names: Mapping[str, str] | None = None
    loaded: Sequence[str] | None = None
    on_demand: Sequence[str] = ()
    #: Answers /ready instead of it.
    probed: Behaviour | None = None
    #: Its certificate, for HTTPS.
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    seen: list[SeenRequest] = field(default_factory=list)
    connections: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    port: int = 0

    @property
    def url(self) -> str:
        """Its URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    async def start(self) -> FakeServer:
        """Listen, on the same port if it did before."""
        self._server = await asyncio.start_server(self._accept, self.host, self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Stop listening, and break all connections, as a killed process does."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while not writer.is_closing():
                request = await _read_request(reader)
                await self._answer(request, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _answer(self, request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        if request.target == "/ready":
            status = 200 if self.ready else 503
            await (self.probed or answering(status, json.dumps(self._status()).encode()))(request, writer)
        else:
            self.seen.append(request)
            await self.behave(request, writer)
        await writer.drain()

    def _status(self) -> dict[str, Any]:
        names = self.names if self.names is not None else {model.lower(): model for model in self.models}
        return {
            "ready": self.ready,
            "reasons": [] if self.ready else ["the server is shutting down"],
            "models": list(self.models),
            "queued_tokens": self.queued_tokens,
            "pinned": list(self.models),
            "loaded": list(self.models if self.loaded is None else self.loaded),
            "names": dict(names),
            "on_demand": list(self.on_demand),
        }


async def _read_request(reader: asyncio.StreamReader) -> SeenRequest:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *lines = head.split("\r\n")[:-2]
    method, target, _ = line.split(" ")
    headers = [(name.lower(), value.strip()) for name, _, value in (text.partition(":") for text in lines)]
    length = dict(headers).get("content-length")
    if length is not None:
        body = await reader.readexactly(int(length))
    elif ("transfer-encoding", "chunked") in headers:
        body = await _read_chunks(reader)
    else:
        body = b""
    return SeenRequest(method, target, headers, body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return body


@dataclass(frozen=True)
class RunningRouter:
    """A router within the test's event loop, and a client of it."""

    client: httpx.AsyncClient
    state: RouterState
    app: ASGIApp

    def retries(self, cause: str) -> float:
        """Return how many requests were sent again for a cause."""
        page = self.state.metrics.page().decode()
        start = f'nearfield_router_retries_total{{cause="{cause}"}} '
        return sum(float(line.removeprefix(start)) for line in page.splitlines() if line.startswith(start))


@contextlib.asynccontextmanager
async def routing(*servers: FakeServer | str, resolve: Any = None, **options: Any) -> AsyncIterator[RunningRouter]:
    """Route to servers, which are started if they are not; stop all of them at the end."""
    for server in servers:
        if isinstance(server, FakeServer) and not server.port:
            await server.start()
    urls = tuple(server if isinstance(server, str) else server.url for server in servers)
    settings = RouterSettings(to=urls, **options)
    home = settings.home_address
    backends = BackendSet(tuple(map(parse_address, urls)), settings.backends_file, home, resolve, settings.ca_file)
    state = RouterState.create(settings.listener_settings(), backends, settings.reply_timeout)
    app = create_router_app(state, settings.listener_settings())
    try:
        await backends.start()
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://router", timeout=30) as client:
            yield RunningRouter(client, state, app)
    finally:
        await backends.stop()
        for server in servers:
            if isinstance(server, FakeServer):
                await server.stop()
