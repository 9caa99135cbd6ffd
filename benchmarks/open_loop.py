"""Requests at random times at a fixed rate, whatever the replies do (an open loop), and processes that answer them."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx

from nearfield.evaluation.performance.load_test import quantiles

_BODY = {"model": "tiny", "input": "the cat sat on the mat"}


class ServerProcess:
    """A process of a server or a router, ready when it has printed its URLs."""

    def __init__(self, *command: str) -> None:
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.popen = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True, stderr=self.log
        )

    def wait_ready(self) -> str:
        """Return the URL; ``urls`` are all of them, if there are several."""
        line = self.popen.stdout.readline() if self.popen.stdout is not None else ""
        self.urls = [word.removesuffix("/v1") for word in line.split() if word.startswith("http://")]
        if not self.urls:
            self.log.seek(0)
            raise RuntimeError(f"no URL in {line!r}: {self.log.read()[-2000:]}")
        self.url = self.urls[0]
        return self.url

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send a signal and wait for the end."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        self.popen.wait(60)
        if self.popen.stdout is not None:
            self.popen.stdout.close()


class OpenLoop:
    """Sends requests at random times with a mean rate, each to one of some URLs, and counts replies and seconds."""

    def __init__(self, urls: Sequence[str], rate: float, seed: int = 1) -> None:
        self._urls, self._rate, self._random = urls, rate, random.Random(seed)
        self.times: list[float] = []
        self.outcomes: Counter[str] = Counter()

    async def run(self, seconds: float, during: Callable[[], Awaitable[None]] | None = None) -> None:
        """Send for some seconds, or until ``during`` has ended if that is later; then wait for all replies."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:
            event = asyncio.ensure_future(during()) if during is not None else None
            tasks, until = [], time.perf_counter() + seconds
            while time.perf_counter() < until or (event is not None and not event.done()):
                await asyncio.sleep(self._random.expovariate(self._rate))
                tasks.append(asyncio.create_task(self._send(client)))
            await asyncio.gather(*tasks)
            if event is not None:
                event.result()

    async def _send(self, client: httpx.AsyncClient) -> None:
        started = time.perf_counter()
        try:
            reply = await client.post(f"{self._random.choice(self._urls)}/v1/embeddings", json=_BODY)
            whole = reply.status_code != 200 or len(reply.json()["data"]) == 1
            outcome = str(reply.status_code) if whole else "incomplete"
        except httpx.HTTPError as error:
            outcome = type(error).__name__
        self.times.append(time.perf_counter() - started)
        self.outcomes[outcome] += 1

    def figures(self) -> dict[str, Any]:
        """Return counts and quantiles in milliseconds."""
        waits = quantiles(self.times)
        return {
            "requests": len(self.times),
            "errors": len(self.times) - self.outcomes["200"],
            "outcomes": dict(self.outcomes),
            **{f"{name}_ms": round(waits[name], 1) for name in ("p50", "p99")},
        }
