"""Fuzz a server with raw bytes: recorded requests of all APIs, mutated at the level of HTTP.

``python -m tools.fuzz --raw --minutes 20 --seed 1`` runs it. A recorded request is the example of an operation of the
OpenAPI document. Mutations change headers, chunk sizes, trailers and single bits, cut requests, repeat them on one
connection, and split them over packets. Every reply must be whole HTTP, and no server error but 503 with Retry-After.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Seconds without a byte after which no first and no further reply is expected, and after which one that has begun is
#: late.
_FIRST_SECONDS, _QUIET_SECONDS, _LATE_SECONDS = 1.0, 0.2, 15.0
#: Connections that are open at the same time.
_CONNECTIONS = 16
#: Seconds between two probes of /health.
_PROBE_SECONDS = 0.05
_MAX_FINDINGS = 50
_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[!#-'*+.^-z|~0-9A-Z-]+:[^\r\n\0]*\r\n)*)\r\n")


@dataclass
class RawRequest:
    """A request in its parts, as far as they are valid."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    version: bytes = b"HTTP/1.1"
    #: The body in chunks, if it is sent so, and its trailers.
    chunks: list[bytes] | None = None
    chunk_sizes: dict[int, bytes] = field(default_factory=dict)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    end: bytes = b"\r\n"

    def to_bytes(self) -> bytes:
        """Return the request as it is sent."""
        headers = list(self.headers)
        if self.chunks is not None:
            headers.append((b"Transfer-Encoding", b"chunked"))
            parts = [
                self.chunk_sizes.get(number, b"%x" % len(chunk)) + b"\r\n" + chunk + b"\r\n"
                for number, chunk in enumerate(self.chunks)
            ]
            body = b"".join(parts) + b"0\r\n" + _lines(self.trailers) + b"\r\n"
        else:
            body = self.body
            if body or self.method == b"POST":
                headers.append((b"Content-Length", b"%d" % len(body)))
        line = self.method + b" " + self.target + b" " + self.version + self.end
        return line + _lines(headers, self.end) + self.end + body


def _lines(headers: list[tuple[bytes, bytes]], end: bytes = b"\r\n") -> bytes:
    return b"".join(name + b": " + value + end for name, value in headers)


@dataclass
class RawFindings:
    """What a raw fuzz has seen."""

    sent: int = 0
    replies: Counter[int] = field(default_factory=Counter)
    silent: int = 0
    slowest_health: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def add_wrong(self, what: str, data: bytes) -> None:
        """Record something that must not happen, with the bytes that caused it."""
        if len(self.wrong) < _MAX_FINDINGS:
            self.wrong.append(f"{what}: {data[:1500]!r}")


def recorded_requests(document: Mapping[str, Any]) -> list[RawRequest]:
    """Return a request for each operation of an OpenAPI document, with its example as the body."""
    requests = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            target = re.sub(r"\{\w+\}", "tiny", path).encode()
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            headers = [(b"Host", b"localhost"), (b"Accept", b"*/*")]
            body = b""
            if content:
                headers.append((b"Content-Type", b"application/json"))
                body = json.dumps(_example(content, document)).encode()
            requests.append(RawRequest(method.upper().encode(), target, headers, body))
    for target in (b"/health", b"/ready", b"/metrics", b"/openapi.json", b"/"):
        requests.append(RawRequest(b"GET", target, [(b"Host", b"localhost")]))
    return requests


def _example(content: Mapping[str, Any], document: Mapping[str, Any]) -> Any:
    if "example" in content:
        return content["example"]
    examples = content.get("examples")
    if examples:
        return next(iter(examples.values()))["value"]
    schema = content.get("schema", {})
    name = schema.get("$ref", "").rpartition("/")[2]
    fields = document.get("components", {}).get("schemas", {}).get(name, schema).get("properties", {})
    values = {"model": "tiny", "input": "cat", "texts": ["cat"], "inputs": "cat", "query": "cat", "documents": ["cat"]}
    return {name: values[name] for name in fields if name in values}


# -- mutations ---------------------------------------------------------------------------------------------------------

_VALUES = (
    b"",
    b"0",
    b"-1",
    b"+5",
    b"5, 5",
    b"99999999999999999999",
    b"chunked",
    b"gzip, chunked",
    b"identity",
    b"close",
    b"keep-alive",
    b"Upgrade",
    b"h2c",
    b"websocket",
    b"100-continue",
    b"application/msgpack",
    b"multipart/form-data; boundary=x",
    b"text/plain",
    b"gzip",
    b"*",
    b"null",
    b"https://evil.example",
    b"bytes=0-",
    b"Bearer " + b"x" * 300,
    b"\xff\xfe",
    b"a\tb",
    b"x" * 5000,
)
_NAMES = (
    b"Host",
    b"Content-Length",
    b"Transfer-Encoding",
    b"Connection",
    b"Upgrade",
    b"Expect",
    b"Content-Type",
    b"Content-Encoding",
    b"Accept",
    b"Authorization",
    b"Origin",
    b"Access-Control-Request-Method",
    b"Access-Control-Request-Headers",
    b"X-Request-Id",
    b"X-Forwarded-For",
    b"Trailer",
    b"TE",
    b"Range",
    b"Cookie",
    b"X" * 2000,
)
_SIZES = (
    b"",
    b"0",
    b"-1",
    b"0x5",
    b"5;a=b",
    b"00000005",
    b"ffffffffffffffff",
    b"5 ",
    b" 5",
    b"zz",
    b"5;" + b"e" * 3000,
)
_METHODS = (
    b"GET",
    b"HEAD",
    b"PUT",
    b"PATCH",
    b"DELETE",
    b"OPTIONS",
    b"TRACE",
    b"CONNECT",
    b"post",
    b"POST\0",
    b"PRI",
    b"",
)
_VERSIONS = (b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"HTTP/1.1 ", b"http/1.1", b"", b"HTTP/1.11")
_TARGETS = (
    b"*",
    b"//",
    b"/%00",
    b"/%ff%fe",
    b"/../../etc/passwd",
    b"http://evil.example/health",
    b"/?" + b"q" * 4000,
    b"/\xff",
    b"",
)
_PIECES = (
    b"\r\n",
    b"\n",
    b"\0",
    b"\r",
    b"0\r\n\r\n",
    b":",
    b" ",
    b"[" * 500,
    b'{"a":' * 200,
    b"\xed\xa0\x80",
    b"GET / HTTP/1.1\r\n\r\n",
)


def _change_header(request: RawRequest, rng: random.Random) -> None:
    kind = rng.randrange(5)
    place = rng.randrange(len(request.headers) + 1)
    if kind == 0 and request.headers:
        request.headers.pop(place % len(request.headers))
    elif kind == 1 and request.headers:
        request.headers.insert(place, rng.choice(request.headers))
    elif kind == 2 and request.headers:
        name, _ = request.headers[place % len(request.headers)]
        request.headers[place % len(request.headers)] = name, rng.choice(_VALUES)
    elif kind == 3:
        request.headers += [(b"X-%d" % number, b"v") for number in range(rng.choice((10, 200, 600, 4000)))]
    else:
        request.headers.insert(place, (rng.choice(_NAMES), rng.choice(_VALUES)))


def _change_line(request: RawRequest, rng: random.Random) -> None:
    kind = rng.randrange(4)
    if kind == 0:
        request.method = rng.choice(_METHODS)
    elif kind == 1:
        request.version = rng.choice(_VERSIONS)
    elif kind == 2:
        request.target = rng.choice(_TARGETS)
    else:
        request.end = rng.choice((b"\n", b"\r", b"\r\n\r\n", b" \r\n"))


def _use_chunks(request: RawRequest, rng: random.Random) -> None:
    body, request.chunks = request.body, []
    while body:
        size = rng.choice((1, 2, 7, 64, 1000))
        request.chunks.append(body[:size])
        body = body[size:]
    if request.chunks and rng.random() < 0.5:
        request.chunk_sizes[rng.randrange(len(request.chunks))] = rng.choice(_SIZES)
    if rng.random() < 0.4:
        request.trailers = [(rng.choice(_NAMES), rng.choice(_VALUES)) for _ in range(rng.choice((1, 3, 50)))]


def _change_body(request: RawRequest, rng: random.Random) -> None:
    kind = rng.randrange(3)
    place = rng.randrange(len(request.body) + 1)
    if kind == 0:
        request.body = request.body[:place] + rng.choice(_PIECES) + request.body[place:]
    elif kind == 1:
        request.body = request.body[:place]
    else:
        request.body += rng.randbytes(rng.choice((1, 100, 3000)))


_STRUCTURAL: tuple[Callable[[RawRequest, random.Random], None], ...] = (
    _change_header,
    _change_header,
    _change_line,
    _use_chunks,
    _change_body,
)


def _change_bytes(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    kind = rng.randrange(4)
    if kind == 0:
        flipped = bytearray(data)
        for _ in range(rng.choice((1, 1, 8))):
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        return bytes(flipped)
    if kind == 1:
        return data[:place]
    if kind == 2:
        return data[:place] + rng.choice(_PIECES) + data[place:]
    end = min(len(data), place + rng.randrange(1, 200))
    return data[:place] + data[place:end] * rng.choice((2, 50)) + data[end:]


def mutate(recorded: list[RawRequest], rng: random.Random) -> list[bytes]:
    """Return the packets of one connection: one or several requests, mutated."""
    parts = []
    for _ in range(rng.choice((1, 1, 1, 2, 3, 40))):
        chosen = rng.choice(recorded)
        request = RawRequest(chosen.method, chosen.target, list(chosen.headers), chosen.body)
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            rng.choice(_STRUCTURAL)(request, rng)
        parts.append(request.to_bytes())
    data = b"".join(parts)
    for _ in range(rng.choice((0, 0, 1, 2))):
        if data:
            data = _change_bytes(data, rng)
    if rng.random() < 0.7:
        return [data]
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((1, 2, 10))))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


# -- replies -----------------------------------------------------------------------------------------------------------


def read_reply(data: bytes, *, body: bool) -> tuple[int, bytes, int] | None:
    """Return the status, head and length of the first whole reply in ``data``; None if it is incomplete.

    Raises:
        ValueError: it is not HTTP.
    """
    match = _HEAD.match(data)
    if match is None:
        if b"\r\n\r\n" in data or not b"HTTP/1.1 ".startswith(data[:9]):
            raise ValueError("a reply is not HTTP")
        return None
    status, head, end = int(match[1]), match[2].lower(), match.end()
    if status < 200 or status in (204, 304) or not body:
        return status, head, end
    length = re.findall(rb"^content-length: (\d+)\r$", head, re.MULTILINE)
    if len(length) == 1:
        total = end + int(length[0])
        return (status, head, total) if len(data) >= total else None
    if b"transfer-encoding: chunked\r\n" not in head:
        raise ValueError("a reply has neither length nor chunks")
    while True:
        size = re.compile(rb"([0-9a-f]+)\r\n").match(data, end)
        if size is None:
            if len(data) - end > 20:
                raise ValueError("a reply has an invalid chunk")
            return None
        count = int(size[1], 16)
        end = size.end() + count + 2
        if len(data) < end:
            return None
        if count == 0:
            return status, head, end


class RawFuzz:
    """Sends mutated requests to a server for a while."""

    def __init__(self, host: str, port: int, document: Mapping[str, Any], seed: int) -> None:
        self._address = host, port
        self._recorded = recorded_requests(document)
        self._seed = seed
        self.findings = RawFindings()

    async def run(self, seconds: float) -> RawFindings:
        """Send until the time is up."""
        until = time.monotonic() + seconds
        probe = asyncio.create_task(self._probe(until))
        await asyncio.gather(*(self._send_until(until, number) for number in range(_CONNECTIONS)))
        await probe
        return self.findings

    async def _send_until(self, until: float, number: int) -> None:
        rng = random.Random(f"{self._seed} {number}")
        while time.monotonic() < until:
            packets = mutate(self._recorded, rng)
            leave_early = rng.random() < 0.05
            try:
                await self._exchange(packets, leave_early)
            except ConnectionRefusedError:
                self.findings.add_wrong("the server is gone", b"".join(packets))
                return

    async def _exchange(self, packets: list[bytes], leave_early: bool) -> None:
        data, sent = b"", b"".join(packets)
        reader, writer = await asyncio.open_connection(*self._address)
        try:
            with contextlib.suppress(ConnectionError):
                for packet in packets:
                    writer.write(packet)
                    await asyncio.wait_for(writer.drain(), _LATE_SECONDS)
                    if len(packets) > 1:
                        await asyncio.sleep(0.002)
            self.findings.sent += 1
            if leave_early:
                writer.transport.abort()
                return
            data = await self._read(reader, sent)
        finally:
            writer.transport.abort()
        if not data:
            self.findings.silent += 1

    async def _read(self, reader: asyncio.StreamReader, sent: bytes) -> bytes:
        """Read and check all replies."""
        # A mutated HEAD may be anywhere, and its reply has no body although it has a length.
        strict = re.search(rb"HEAD", sent, re.IGNORECASE) is None
        everything, rest = b"", b""
        while True:
            quiet = _QUIET_SECONDS if everything else _FIRST_SECONDS
            timeout = _LATE_SECONDS if rest and strict else quiet
            try:
                part = await asyncio.wait_for(reader.read(65_536), timeout)
            except asyncio.TimeoutError:
                if rest and strict:
                    self.findings.add_wrong(f"a reply is incomplete after {_LATE_SECONDS:g} s ({rest[:200]!r})", sent)
                return everything
            except ConnectionError:
                return everything
            if not part:
                if rest and strict:
                    self.findings.add_wrong(f"a reply was cut off ({rest[:200]!r})", sent)
                return everything
            everything += part
            if not strict:
                continue
            rest += part
            try:
                while rest and (reply := read_reply(rest, body=True)) is not None:
                    self._judge(reply[0], reply[1], sent)
                    rest = rest[reply[2] :]
            except ValueError as error:
                self.findings.add_wrong(f"{error} ({rest[:200]!r})", sent)
                return everything

    def _judge(self, status: int, head: bytes, sent: bytes) -> None:
        self.findings.replies[status] += 1
        if status >= 500 and not (status == 503 and b"retry-after: " in head):
            self.findings.add_wrong(f"status {status}", sent)

    async def _probe(self, until: float) -> None:
        request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        while time.monotonic() < until:
            started = time.monotonic()
            try:
                reader, writer = await asyncio.open_connection(*self._address)
                writer.write(request)
                reply = await asyncio.wait_for(reader.read(), _LATE_SECONDS)
                writer.close()
            except (OSError, asyncio.TimeoutError) as error:
                self.findings.add_wrong(f"/health is not answered: {type(error).__name__}", b"")
                return
            if not reply.startswith(b"HTTP/1.1 200 "):
                self.findings.add_wrong(f"/health answers {reply[:100]!r}", b"")
            self.findings.slowest_health = max(self.findings.slowest_health, time.monotonic() - started)
            await asyncio.sleep(_PROBE_SECONDS)
