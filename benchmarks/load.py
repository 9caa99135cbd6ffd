"""Load generator: many keep-alive HTTP clients in one process, on asyncio protocols with little overhead.

Run as ``python -m benchmarks.load ASKED``, the arguments of ``load`` as JSON; prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from urllib.parse import urlparse

from benchmarks.forms import FORMS, PLAIN
from nearfield.evaluation.performance.load_test import quantiles
from nearfield.evaluation.performance.workloads import texts


class Client(asyncio.Protocol):
    """Sends a request, waits for the whole reply, sends the next."""

    def __init__(self, requests: Iterator[bytes], until: float, times: list[float]) -> None:
        self._requests = requests
        self._until = until
        self._times = times
        self._buffer = b""
        self._sent = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        request = next(self._requests, None) if time.perf_counter() < self._until else None
        if request is None:
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(request)  # type: ignore[attr-defined]

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


async def load(
    url: str,
    model: str,
    kind: str,
    seconds: float,
    clients: int,
    batch: int,
    form: str = PLAIN,
    seeds: Sequence[int] = (),
    once: bool = False,
) -> dict[str, float]:
    """Keep ``clients`` requests of ``batch`` texts in flight for some seconds.

    ``form`` is one of ``FORMS``; the path of ``url`` stands for that of the usual one alone. With ``seeds``, the texts
    are those of all of them, numbered, so that no two are the same. ``once`` ends when each was sent once.
    """
    pool = [f"{seed}.{at} {text}" for seed in seeds for at, text in enumerate(texts(kind, seed=seed))]
    requests = _requests(url, model, pool or texts(kind, seed=1), batch, form)
    shared = iter(requests)
    times: list[float] = []
    parts = urlparse(url)
    started = time.perf_counter()
    loop = asyncio.get_running_loop()
    made = []
    for number in range(clients):
        own = shared if once else itertools.islice(itertools.cycle(requests), number * 7, None)
        client = Client(own, started + seconds, times)
        await loop.create_connection(partial(_itself, client), str(parts.hostname), int(parts.port or 80))
        made.append(client)
    await asyncio.gather(*(client.done for client in made))
    passed = time.perf_counter() - started
    waited = quantiles(times)
    return {
        "requests": len(times),
        "requests_per_second": len(times) / passed,
        "texts_per_second": len(times) * batch / passed,
        **{f"{name}_ms": waited[name] for name in ("p50", "p95", "p99")},
    }


def _itself(client: Client) -> Client:
    return client


def _requests(url: str, model: str, pool: Sequence[str], batch: int, form: str) -> list[bytes]:
    """Return whole HTTP requests for all texts of a pool."""
    parts, asked = urlparse(url), FORMS[form]
    path = parts.path if form == PLAIN else asked.path
    headers = "".join(f"{name}: {value}\r\n" for name, value in {"Host": parts.netloc, **asked.headers}.items())
    made = []
    for start in range(0, len(pool) - batch + 1, batch):
        body = asked.body(model, pool[start : start + batch])
        made.append(f"POST {path} HTTP/1.1\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return made


if __name__ == "__main__":
    print(json.dumps(asyncio.run(load(**json.loads(sys.argv[1])))))
