"""Clients that measure a server while others attack it; each runs in a separate process until its input ends.

``python -m benchmarks.bystanders health PORT`` opens a connection for ``/health`` at fixed times, however slow the
answers are. ``python -m benchmarks.bystanders polite PORT KEY`` sends one new text after the other over one connection,
with a pause between them, and sends a refused one again when the reply says so. Both print one line of JSON: a list of
[time sent, seconds, outcome], times on the monotonic clock.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import sys
import threading
import time
from dataclasses import dataclass

from benchmarks.attackers import MODEL

#: Seconds between two probes, and those without an answer that may be on their way.
_PROBE_EVERY, _MAX_PROBES = 0.05, 200
#: Seconds between an answer and the next text.
_POLITE_PAUSE = 0.05
#: Seconds after which an answer counts as missing.
_TIMEOUT = 90.0
_REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Sample:
    """One request: when it was sent, the seconds until its answer, and a status or what went wrong."""

    sent: float
    seconds: float
    outcome: str
    #: Replies of 429 and 503 before the answer.
    refused: int = 0


class HealthProbe:
    """Requests to ``/health`` at fixed times."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._running: set[asyncio.Task[None]] = set()
        self.samples: list[Sample] = []

    async def run(self) -> None:
        """Probe until the end of standard input."""
        ended = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
        due = time.monotonic()
        while not ended.done():
            if len(self._running) < _MAX_PROBES:
                task = asyncio.ensure_future(self._probe(due))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
            due += _PROBE_EVERY
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        if self._running:
            await asyncio.wait(self._running, timeout=_TIMEOUT)

    async def _probe(self, due: float) -> None:
        sent = time.monotonic()
        writer = None
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", self._port), _TIMEOUT)
            writer.write(_REQUEST)
            line = await asyncio.wait_for(reader.readline(), _TIMEOUT)
            outcome = line[9:12].decode("latin-1") or "closed"
        except asyncio.TimeoutError:
            outcome = "no reply"
        except OSError as error:
            outcome = type(error).__name__
        finally:
            if writer is not None:
                writer.transport.abort()
        self.samples.append(Sample(due, time.monotonic() - sent, outcome))


def polite(port: int, key: str) -> list[Sample]:
    """Send single texts until the end of standard input."""
    ended = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    samples = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
    while not ended.is_set():
        body = json.dumps({"model": MODEL, "input": f"polite {random.random()}"})
        sent, refused = time.monotonic(), 0
        while True:
            try:
                status, wait = _post(connection, body, key)
                outcome = str(status)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                outcome, wait = type(error).__name__, 0.2
            if outcome not in ("429", "503") or time.monotonic() - sent > _TIMEOUT or ended.is_set():
                break
            refused += 1
            ended.wait(wait)
        samples.append(Sample(sent, time.monotonic() - sent, outcome, refused))
        ended.wait(_POLITE_PAUSE)
    return samples


def _post(connection: http.client.HTTPConnection, body: str, key: str) -> tuple[int, float]:
    """Send a request; return its status, and the seconds after which a refused one may be sent again."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    connection.request("POST", "/v1/embeddings", body, headers)
    reply = connection.getresponse()
    reply.read()
    exact = reply.getheader("retry-after-ms")
    return reply.status, int(exact) / 1000 if exact else float(reply.getheader("retry-after") or 1)


def main() -> None:
    """Measure, and print the samples."""
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "health":
        probe = HealthProbe(port)
        asyncio.run(probe.run())
        samples = probe.samples
    else:
        samples = polite(port, sys.argv[3])
    print(json.dumps([[row.sent, row.seconds, row.outcome, row.refused] for row in samples]))


if __name__ == "__main__":
    main()
