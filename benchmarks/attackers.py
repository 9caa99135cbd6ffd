"""Clients that attack a server, by name, in one process: ``python -m benchmarks.attackers ORDER``, an Order as JSON.

Bodies are built before the first byte is sent; then the process prints ``ready`` and starts at the next line of its
standard input. At the end it prints one line of JSON: the replies by attack, and the CPU that the process used. It
runs at a low priority, because real attackers do not take their CPU from the server's machine.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import os
import random
import resource
import select
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

MODEL = "all-MiniLM-L6-v2"
#: Bytes of the largest body that the server takes, by default.
BODY_BYTES = 32 * 2**20
#: Bytes that are written at a time.
_PIECE = 256 * 1024
#: Bytes that one connection of a flood sends at most.
_FLOOD_BYTES = 60 * 2**20
_PRIORITY = 10
#: Seconds between two attempts of a client with a small and with a large body.
_PAUSE, _LONG_PAUSE = 0.2, 1.0
_CONNECT_SECONDS = 10.0
#: Seconds between the starts of two clients.
_STAGGER = 0.02
#: Bytes of the head of a reply that are read for its status.
_HEAD_BYTES = 2048


@dataclass(frozen=True)
class Order:
    """Which attacks to run, with the number of clients of each (0: the usual number), and where."""

    port: int
    attacks: Mapping[str, int]
    seconds: float
    #: API keys by name: ``attacker``, ``greedy`` and ``small``.
    keys: Mapping[str, str]


@dataclass
class Target:
    """The server, the end of the attack on the monotonic clock, and what happened so far."""

    port: int
    keys: Mapping[str, str]
    until: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    sent_bytes: int = 0

    def running(self) -> bool:
        """Whether the attack goes on."""
        return time.monotonic() < self.until

    def remaining(self) -> float:
        """Return the seconds until the end of the attack."""
        return max(0.0, self.until - time.monotonic())

    def bearer(self, name: str) -> bytes:
        """Return the header with a key."""
        return f"Authorization: Bearer {self.keys[name]}\r\n".encode()


Client = Callable[[int], Awaitable[None]]
#: Prepares an attack: builds its bodies, and returns what one client does.
Prepare = Callable[[Target], Client]


@dataclass(frozen=True)
class Attack:
    """One kind of attack; ``fault`` numbers what it shows, 0 is none of the numbered ones."""

    fault: int
    summary: str
    clients: int
    prepare: Prepare


# -- one connection ----------------------------------------------------------------------------------------------------


async def send_request(target: Target, parts: Iterable[bytes], *, hold: bool = False) -> None:
    """Send ``parts`` over a new connection, and count the status of the reply, or how the connection ended.

    With ``hold`` the connection stays open without a further byte until there is a reply or the attack is over.
    """
    try:
        opening = asyncio.open_connection("127.0.0.1", target.port)
        reader, writer = await asyncio.wait_for(opening, min(_CONNECT_SECONDS, target.remaining() + 0.1))
    except (OSError, asyncio.TimeoutError):
        target.counts["no connection"] += 1
        return
    sending = asyncio.ensure_future(_send(target, writer, parts))
    try:
        outcome = await asyncio.wait_for(_status(reader), target.remaining() + (0 if hold else 0.5))
    except asyncio.TimeoutError:
        outcome = "still open" if hold else "no reply"
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.transport.abort()
    target.counts[outcome] += 1


async def _send(target: Target, writer: asyncio.StreamWriter, parts: Iterable[bytes]) -> None:
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), _PIECE):
            piece = view[start : start + _PIECE]
            writer.write(piece)
            await writer.drain()
            # A connection that takes everything never suspends: the end of the attack must be noticed all the same.
            await asyncio.sleep(0)
            target.sent_bytes += len(piece)


async def _status(reader: asyncio.StreamReader) -> str:
    """Return the status of a reply, whose body is not read."""
    try:
        head = await reader.readline()
    except (OSError, ValueError):
        return "reset"
    if not head:
        return "closed"
    words = head.split(b" ", 2)
    return words[1].decode("latin-1") if len(words) > 1 and words[1].isdigit() else "not HTTP"


def head(path: str, length: int | None = None, kind: str = "application/json", more: bytes = b"") -> bytes:
    """Return the request line and the headers of a POST."""
    size = b"" if length is None else f"Content-Length: {length}\r\n".encode()
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n".encode() + size + more + b"\r\n"


def repeat(request: Callable[[], Iterable[bytes]], target: Target, pause: float, *, hold: bool = False) -> Client:
    """Return a client that sends a request again and again."""

    async def run(number: int) -> None:
        await asyncio.sleep(_STAGGER * (number % 100) + number // 100 / 100)
        while target.running():
            await send_request(target, request(), hold=hold)
            await asyncio.sleep(min(pause, target.remaining()))

    return run


# -- bodies that are small on the wire, or that hold many values -------------------------------------------------------


def gzip_json(target: Target) -> Client:
    """A few kilobytes that expand to 32 MiB of empty lists."""
    body = gzip.compress(_container(b"[],"), 9)
    request = [head("/v1/embeddings", len(body), more=b"Content-Encoding: gzip\r\n"), body]
    return repeat(lambda: request, target, _PAUSE)


def gzip_msgpack(target: Target) -> Client:
    """A few kilobytes that expand to 32 MiB of empty lists in msgpack."""
    count = BODY_BYTES - 200
    body = gzip.compress(b"\x81\xa5input\xdd" + struct.pack(">I", count) + b"\x90" * count, 9)
    request = [head("/encode", len(body), "application/msgpack", b"Content-Encoding: gzip\r\n"), body]
    return repeat(lambda: request, target, _PAUSE)


def keyed_body(body: bytes, target: Target) -> Client:
    """Return a client that sends a large body with the attacker's key."""
    request = [head("/v1/embeddings", len(body), more=target.bearer("attacker")), body]
    return repeat(lambda: request, target, _LONG_PAUSE)


def unknown_fields(target: Target) -> Client:
    """An object with millions of names that no request has."""
    fields = b",".join(b'"%x":0' % number for number in range(2_500_000))
    return keyed_body(b'{"model":"%s","input":"a",%s}' % (MODEL.encode(), fields), target)


def batch_line(target: Target) -> Client:
    """A file for a batch with one line that holds millions of empty lists."""
    body = _container(b"[],", BODY_BYTES - 2**20)
    line = b'{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":' + body + b"}\n"
    mark = b"--limit"
    form = mark + b'\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n' + mark
    form += b'\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n' + line + b"\r\n"
    form += mark + b"--\r\n"
    bearer = target.bearer("attacker")
    upload = [head("/v1/files", len(form), "multipart/form-data; boundary=limit", bearer), form]

    async def run(_: int) -> None:
        while target.running():
            file = await _read_json(target, upload)
            if "id" in file:
                order = {"input_file_id": file["id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
                data = json.dumps(order).encode()
                await _read_json(target, [head("/v1/batches", len(data), more=bearer), data])
            await asyncio.sleep(min(2.0, target.remaining()))

    return run


async def _read_json(target: Target, parts: Iterable[bytes]) -> dict[str, object]:
    """Send a request, count its status, and return the reply; empty where it is not an object of JSON."""
    if (streams := await _connect(target)) is None:
        return {}
    reader, writer = streams
    sending = asyncio.ensure_future(_send(target, writer, parts))
    try:
        status, body = await asyncio.wait_for(_reply(reader), target.remaining() + 0.5)
        target.counts[status] += 1
        result = json.loads(body)
    except (OSError, ValueError, EOFError, asyncio.TimeoutError) as error:
        target.counts["no reply" if isinstance(error, asyncio.TimeoutError) else "closed"] += 1
        return {}
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.transport.abort()
    return result if isinstance(result, dict) else {}


async def _reply(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """Read a whole reply that has a length; return its status and body."""
    lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    length = next((int(line[15:]) for line in lines if line.lower().startswith(b"content-length:")), 0)
    return lines[0].split(b" ")[1].decode(), await reader.readexactly(length)


def _container(item: bytes, size: int = BODY_BYTES - 200) -> bytes:
    """Return a request for embeddings whose input is a list of as many empty items as fit."""
    return b'{"model":"%s","input":[%s%s]}' % (MODEL.encode(), item * (size // len(item)), item[:-1])


# -- heads and trailers without an end ---------------------------------------------------------------------------------


def flood(start: bytes, piece: bytes) -> Prepare:
    """Return an attack that sends ``start`` and then ``piece`` again and again, 60 MiB a connection."""

    def prepare(target: Target) -> Client:
        return repeat(lambda: [start, *itertools.repeat(piece, _FLOOD_BYTES // len(piece))], target, _PAUSE)

    return prepare


_LINES = b"X-A: b\r\n" * 32768
_TRAILERS = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"


def header_dribble(target: Target) -> Client:
    """A byte of a header each second."""

    async def run(number: int) -> None:
        await asyncio.sleep(0.005 * number)
        while target.running():
            await _dribble(target)
            await asyncio.sleep(min(_LONG_PAUSE, target.remaining()))

    return run


async def _connect(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """Open a connection; if there is none, count that, wait a while and return None."""
    try:
        return await asyncio.open_connection("127.0.0.1", target.port)
    except OSError:
        target.counts["no connection"] += 1
        await asyncio.sleep(_PAUSE)
        return None


async def _dribble(target: Target) -> None:
    if (streams := await _connect(target)) is None:
        return
    reader, writer = streams
    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
    reply, outcome = asyncio.ensure_future(_status(reader)), "still open"
    while target.running():
        done, _ = await asyncio.wait([reply], timeout=min(1.0, target.remaining()))
        if done:
            outcome = reply.result()
            break
        writer.write(b"a")
    reply.cancel()
    writer.transport.abort()
    target.counts[outcome] += 1


def pipeline(target: Target) -> Client:
    """Thousands of requests on one connection, sent without waiting for replies."""
    block = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n" * 512

    async def run(_: int) -> None:
        while target.running():
            if (streams := await _connect(target)) is None:
                continue
            reader, writer = streams
            sending = asyncio.ensure_future(_send(target, writer, itertools.repeat(block)))
            try:
                await asyncio.wait_for(_count_replies(target, reader), target.remaining())
            except (OSError, asyncio.TimeoutError):
                pass
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            writer.transport.abort()
            target.counts["connections"] += 1
            await asyncio.sleep(min(_PAUSE, target.remaining()))

    return run


async def _count_replies(target: Target, reader: asyncio.StreamReader) -> None:
    while data := await reader.read(_PIECE):
        for line in data.split(b"HTTP/1.1 ")[1:]:
            target.counts[line[:3].decode("latin-1")] += 1


# -- bodies that stay unfinished, replies that stay unread -------------------------------------------------------------


def unfinished(path: str, size: int, missing: int, key: str | None = None) -> Prepare:
    """Return an attack with bodies of ``size`` bytes whose last ``missing`` bytes never come."""

    def prepare(target: Target) -> Client:
        begin = head(path, size, more=target.bearer(key) if key else b"")
        body = b"x" * (size - missing)
        return repeat(lambda: [begin, body], target, _PAUSE, hold=True)

    return prepare


def slow_reader(target: Target) -> Client:
    """Replies of 74 MB of which a few bytes are read."""
    body = json.dumps({"model": MODEL, "input": ["a"] * 16384}).encode()
    request = head("/v1/embeddings", len(body), more=target.bearer("attacker")) + body

    async def run(number: int) -> None:
        await asyncio.sleep(0.4 * number)
        while target.running():
            await _read_slowly(target, request)
            await asyncio.sleep(min(_LONG_PAUSE, target.remaining()))

    return run


async def _read_slowly(target: Target, request: bytes) -> None:
    loop, sock = asyncio.get_running_loop(), socket.socket()
    sock.setblocking(False)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(sock, ("127.0.0.1", target.port))
        await loop.sock_sendall(sock, request)
        target.sent_bytes += len(request)
        start = await asyncio.wait_for(loop.sock_recv(sock, 16), target.remaining())
        if start[9:12] != b"200":
            target.counts[start[9:12].decode("latin-1") or "closed"] += 1
            return
        watcher = select.poll()
        watcher.register(sock, 0)
        while target.running() and not watcher.poll(0):
            await asyncio.sleep(min(0.5, target.remaining()))
        target.counts["200, still open" if not watcher.poll(0) else "200, aborted"] += 1
    except asyncio.TimeoutError:
        target.counts["no reply"] += 1
    except OSError:
        target.counts["reset"] += 1
    finally:
        sock.close()


# -- work --------------------------------------------------------------------------------------------------------------


def greedy(texts: int) -> Prepare:
    """Return an attack that always has one more request of new texts."""

    def prepare(target: Target) -> Client:
        bearer, numbers = target.bearer("greedy"), _numbers()

        async def run(_: int) -> None:
            while target.running():
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
                    while target.running():
                        data = _texts(numbers, texts)
                        writer.write(head("/v1/embeddings", len(data), more=bearer) + data)
                        reply = await asyncio.wait_for(_reply(reader), target.remaining() + 0.1)
                        status = reply[0]
                        target.counts[status] += 1
                        if status != "200":
                            await asyncio.sleep(min(0.05, target.remaining()))
                    writer.transport.abort()
                except asyncio.TimeoutError:
                    target.counts["no reply"] += 1
                    writer.transport.abort()
                except (OSError, EOFError):
                    target.counts["reset"] += 1
                    await asyncio.sleep(min(_PAUSE, target.remaining()))

        return run

    return prepare


def _numbers() -> Iterator[int]:
    return itertools.count(random.randrange(10**9))


def _texts(numbers: Iterator[int], count: int) -> bytes:
    texts = [f"{next(numbers)} river bank tree green sun " * 3 for _ in range(count)]
    return json.dumps({"model": MODEL, "input": texts, "encoding_format": "base64"}).encode()


def cancel_flood(target: Target) -> Client:
    """Requests of 72,000 words from a key of 100 tokens a minute, cancelled after 1.5 s; then one short text."""
    bearer = target.bearer("small")

    async def run(number: int) -> None:
        await asyncio.sleep(0.1 * number)
        while target.running():
            data = json.dumps({"model": MODEL, "input": [f"q{number}{at} " * 120 for at in range(600)]}).encode()
            if (streams := await _connect(target)) is None:
                continue
            reader, writer = streams
            writer.write(head("/v1/embeddings", len(data), more=bearer) + data)
            target.sent_bytes += len(data)
            try:
                target.counts[await asyncio.wait_for(_status(reader), 1.5)] += 1
                await asyncio.sleep(_PAUSE)
            except asyncio.TimeoutError:
                target.counts["cancelled"] += 1
            writer.transport.abort()

    return run


def long_text(target: Target) -> Client:
    """One text of 31 MiB."""
    words = b"the quick brown fox jumps over a lazy dog "
    text = words * (31 * 2**20 // len(words))
    return keyed_body(b'{"model":"%s","input":"%s"}' % (MODEL.encode(), text), target)


ATTACKS: Mapping[str, Attack] = {
    "gzip-json": Attack(1, "gzip of 32 MiB of empty lists, no key", 1, gzip_json),
    "gzip-msgpack": Attack(1, "gzip of 32 MiB of empty lists in msgpack, no key", 1, gzip_msgpack),
    "empty-lists": Attack(2, "32 MiB of [], with a key", 1, lambda to: keyed_body(_container(b"[],"), to)),
    "empty-objects": Attack(2, "32 MiB of {}, with a key", 1, lambda to: keyed_body(_container(b"{},"), to)),
    "unknown-fields": Attack(2, "2.5 million unknown fields, with a key", 1, unknown_fields),
    "batch-line": Attack(2, "31 MiB of [], in a line of a batch, with a key", 1, batch_line),
    "header-lines": Attack(
        3, "60 MiB of header lines, no key", 1, flood(b"GET /health HTTP/1.1\r\nHost: x\r\n", _LINES)
    ),
    "header-value": Attack(
        3, "a header of 60 MiB, no key", 1, flood(b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: ", b"a" * _PIECE)
    ),
    "url": Attack(3, "a URL of 60 MiB, no key", 1, flood(b"GET /", b"a" * _PIECE)),
    "trailers": Attack(3, "60 MiB of trailers, no key", 1, flood(_TRAILERS, _LINES)),
    "unfinished": Attack(4, "unfinished bodies of 32 MiB, no key", 4, unfinished("/qdrant/infer", BODY_BYTES, 1)),
    "unfinished-key": Attack(
        4, "unfinished bodies of 32 MiB, with a key", 4, unfinished("/v1/embeddings", BODY_BYTES, 1, "attacker")
    ),
    "unfinished-small": Attack(4, "unfinished bodies of 62 kB, no key", 2200, unfinished("/qdrant/infer", 62_000, 1)),
    "slow-readers": Attack(5, "replies of 74 MB that are not read, with a key", 12, slow_reader),
    "greedy-64x1": Attack(6, "64 connections of single texts, another key", 64, greedy(1)),
    "greedy-64x20": Attack(6, "64 connections of 20 texts, another key", 64, greedy(20)),
    "greedy-16x200": Attack(6, "16 connections of 200 texts, another key", 16, greedy(200)),
    "cancel-flood": Attack(7, "72,000 words cancelled after 1.5 s, a key of 100 tokens a minute", 6, cancel_flood),
    "long-text": Attack(11, "one text of 31 MiB, with a key", 1, long_text),
    "pipeline": Attack(0, "pipelined requests without a pause, no key", 10, pipeline),
    "header-dribble": Attack(0, "a byte of a header each second, no key", 200, header_dribble),
}


async def run_order(order: Order) -> dict[str, object]:
    """Run the attacks of an order at the same time; return the replies of each and the CPU used."""
    targets = {name: Target(order.port, order.keys) for name in order.attacks}
    clients = {name: ATTACKS[name].prepare(target) for name, target in targets.items()}
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    started, used = time.monotonic(), time.process_time()
    for target in targets.values():
        target.until = started + order.seconds
    running = [
        clients[name](number)
        for name, count in order.attacks.items()
        for number in range(count or ATTACKS[name].clients)
    ]
    await asyncio.gather(*running)
    elapsed = time.monotonic() - started
    return {
        "counts": {name: dict(target.counts.most_common()) for name, target in targets.items()},
        "sent_bytes": {name: target.sent_bytes for name, target in targets.items()},
        "seconds": round(elapsed, 1),
        "cpu": round((time.process_time() - used) / elapsed, 3),
    }


def main() -> None:
    """Run the order that the command line has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else max(soft, 65536), hard))
    os.nice(_PRIORITY)
    print(json.dumps(asyncio.run(run_order(Order(**json.loads(sys.argv[1]))))), flush=True)


if __name__ == "__main__":
    main()
