"""Load: many keep-alive HTTP clients in one process, on asyncio protocols that add next to nothing of their own.

Run as ``python -m benchmarks.load URL MODEL KIND SECONDS CLIENTS BATCH``; prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from urllib.parse import urlparse

from benchmarks.workloads import texts


class Client(asyncio.Protocol):
    """Sends a request, waits for the whole reply, sends the next."""

    def __init__(self, requests: list[bytes], offset: int, until: float, times: list[float]) -> None:
        self._requests = requests
        self._next = offset
        self._until = until
        self._times = times
        self._buffer = b""
        self._sent = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        if time.perf_counter() >= self._until:
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(self._requests[self._next % len(self._requests)])  # type: ignore[attr-defined]
        self._next += 1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        lower = self._buffer[:head].lower()
        length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
        if len(self._buffer) < head + 4 + length:
            return
        if b" 200 " not in self._buffer[:20]:
            raise RuntimeError(self._buffer[: head + 300].decode())
        self._buffer = b""
        self._times.append(time.perf_counter() - self._sent)
        self._send()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def load(url: str, model: str, kind: str, seconds: float, clients: int, batch: int) -> dict[str, float]:
    """Keep ``clients`` requests of ``batch`` texts in flight for some seconds."""
    parts = urlparse(url)
    pool = texts(kind, seed=1)
    requests = []
    for start in range(0, len(pool) - batch + 1, batch):
        body = json.dumps({"model": model, "input": pool[start : start + batch], "encoding_format": "base64"}).encode()
        head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        requests.append(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    times: list[float] = []
    started = time.perf_counter()
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(
            lambda offset=number: Client(requests, offset * 7, started + seconds, times), parts.hostname, parts.port
        )
        for number in range(clients)
    ]
    await asyncio.gather(*(client.done for _, client in made))
    passed = time.perf_counter() - started
    times.sort()
    return {
        "requests_per_second": len(times) / passed,
        "texts_per_second": len(times) * batch / passed,
        "p50_ms": times[len(times) // 2] * 1e3,
        "p95_ms": times[int(len(times) * 0.95)] * 1e3,
        "p99_ms": times[int(len(times) * 0.99)] * 1e3,
    }


if __name__ == "__main__":
    _, where, what, which, how_long, how_many, how_large = sys.argv
    print(json.dumps(asyncio.run(load(where, what, which, float(how_long), int(how_many), int(how_large)))))
