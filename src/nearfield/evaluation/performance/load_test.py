"""Speed: texts and tokens a second in bulk, and how long one caller waits while others do, here or at an endpoint.

Clients are a closed loop: each sends its next text when it has the answer to the last one.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nearfield import hardware as machine
from nearfield.errors import InputError
from nearfield.evaluation.performance import environment
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.sparse import SparseVectors

if TYPE_CHECKING:
    from nearfield.encoder import Encoder

#: Seconds between two looks at the memory.
_LOOK = 0.02
#: Texts that are encoded before anything counts.
_WARM = 64


class Target(Protocol):
    """What is measured."""

    #: How it is shown.
    name: str
    #: What is known of it beside its speed: precision, load_seconds, dimensions, bytes_per_vector and so on.
    facts: dict[str, Any]

    def bulk(self, texts: Sequence[str]) -> int | None:
        """Encode all texts as fast as may be; return their tokens, None where that is not told."""

    async def ask(self, text: str) -> None:
        """Encode one text, as one of several callers."""

    async def close(self) -> None:
        """Let go of what asking holds."""


class LocalTarget:
    """A model in this process; ``wanted`` are keywords of ``Encoder.encode``."""

    def __init__(self, encoder: Encoder, **wanted: Any) -> None:
        self.name = encoder.name
        self._encoder, self._wanted = encoder, wanted
        sample = encoder.encode(["hello world"], show_progress_bar=False, **wanted)
        self.facts = {
            "where": "in this process",
            "precision": encoder.precision,
            "load_seconds": round(encoder.load_seconds, 3),
            "model_bytes": encoder.bytes,
            **_shape_of(sample),
        }

    def bulk(self, texts: Sequence[str]) -> int | None:
        """Encode a list, as ``Encoder.encode`` does."""
        parts = self._encoder.stream(texts, **self._wanted)
        return sum(int(part.tokens.sum()) for part in parts if part.tokens is not None)

    async def ask(self, text: str) -> None:
        """Encode one text beside others, as a server does."""
        await self._encoder.aencode(text, **self._wanted)

    async def close(self) -> None:
        """The encoder is the caller's."""


def _shape_of(sample: Any) -> dict[str, Any]:
    if isinstance(sample, SparseVectors):
        return {"dimensions": sample.size, "bytes_per_vector": None, "values_per_text": "as many as a text has terms"}
    if isinstance(sample, MultiVectors):
        return {"dimensions": sample.dim, "bytes_per_vector": sample.dim * 4, "vectors_per_text": "one for each token"}
    return {"dimensions": sample.dim, "bytes_per_vector": sample.data.nbytes // len(sample.data)}


@dataclass
class Peak:
    """The most memory that this process took, in bytes; None where that cannot be known."""

    before: int | None = None
    most: int | None = None
    _done: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Look again and again until it is over."""
        while not self._done.wait(_LOOK):
            self.look()

    def look(self) -> None:
        """Look once."""
        now = machine.memory_resident()
        if now is not None:
            self.most = max(now, self.most or 0)


@contextmanager
def peak() -> Iterator[Peak]:
    """Note the memory of this process while something runs."""
    found = Peak(before=machine.memory_resident())
    found.look()
    watching = threading.Thread(target=found.watch, daemon=True)
    watching.start()
    try:
        yield found
    finally:
        found._done.set()
        watching.join()
        found.look()


def measure(
    target: Target,
    texts: Sequence[str],
    *,
    seconds: float = 3.0,
    clients: Sequence[int] = (1, 8, 32),
    on_stage: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measure bulk speed, and the waiting of single texts at each number of clients; each takes about ``seconds``.

    Returns:
        Plain figures: system, bulk (texts_per_second, tokens_per_second, range over passes, tokens_per_text), latency
        by number of clients (requests_per_second and milliseconds at p50, p95, p99, max), memory, machine, settings.

    Raises:
        InputError: no texts, or seconds or clients that are none.
    """
    if not texts or not seconds > 0 or any(count < 1 for count in clients):
        raise InputError(f"There is nothing to measure: {len(texts)} texts, {seconds} s, clients {list(clients)}.")
    stage = on_stage or (lambda _: None)
    with peak() as memory:
        stage("warming up")
        target.bulk(list(itertools.islice(itertools.cycle(texts), _WARM)))
        stage("bulk")
        bulk = measure_bulk(target.bulk, texts, seconds)
        latency = asyncio.run(_all_clients(target, texts, seconds, clients, stage))
    return {
        "subject": target.name,
        **target.facts,
        "bulk": bulk,
        "latency": latency,
        "memory": {"before": memory.before, "peak": memory.most},
        "machine": environment.describe_environment(),
        "settings": {"seconds": seconds, "texts": len(texts), "clients": list(clients)},
    }


def measure_bulk(encode: Callable[[Sequence[str]], int | None], texts: Sequence[str], seconds: float) -> dict[str, Any]:
    """Encode all texts over and over for some seconds, at least once; the speed is the median over whole passes."""
    speeds: list[float] = []
    tokens: int | None = None
    until = time.perf_counter() + seconds
    while not speeds or time.perf_counter() < until:
        started = time.perf_counter()
        tokens = encode(texts)
        speeds.append(len(texts) / (time.perf_counter() - started))
    speed = statistics.median(speeds)
    each = None if tokens is None else tokens / len(texts)
    return {
        "texts_per_second": round(speed, 2),
        "tokens_per_second": None if each is None else round(speed * each, 1),
        "tokens_per_text": None if each is None else round(each, 2),
        "range": [round(min(speeds), 2), round(max(speeds), 2)],
        "passes": len(speeds),
    }


async def _all_clients(
    target: Target, texts: Sequence[str], seconds: float, clients: Sequence[int], stage: Callable[[str], None]
) -> dict[str, Any]:
    found = {}
    try:
        for count in clients:
            stage(f"{count} client{'s' if count > 1 else ''}")
            await closed_loop(target.ask, texts, min(0.5, seconds / 4), count)
            times, passed = await closed_loop(target.ask, texts, seconds, count)
            found[str(count)] = {"requests_per_second": round(len(times) / passed, 2), **quantiles(times)}
    finally:
        await target.close()
    return found


async def closed_loop(
    ask: Callable[[str], Awaitable[None]], texts: Sequence[str], seconds: float, clients: int
) -> tuple[list[float], float]:
    """Keep ``clients`` requests in flight; return the seconds that each took, and those that passed in all."""
    times: list[float] = []
    begun = time.perf_counter()

    async def client(number: int) -> None:
        for text in itertools.islice(itertools.cycle(texts), number * 7, None):
            started = time.perf_counter()
            await ask(text)
            ended = time.perf_counter()
            times.append(ended - started)
            if ended - begun >= seconds:
                return

    await asyncio.gather(*(client(number) for number in range(clients)))
    return times, time.perf_counter() - begun


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return milliseconds at the usual quantiles, and how many there were."""
    if not seconds:
        return {"count": 0}
    found = np.quantile(np.array(seconds) * 1e3, [0.5, 0.95, 0.99, 1.0], method="higher")
    return {"count": len(seconds)} | {
        name: round(float(value), 2) for name, value in zip(("p50", "p95", "p99", "max"), found, strict=True)
    }
